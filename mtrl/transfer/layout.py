"""The weights of a policy in one layout, whether mtrl's stacks or stable-baselines3's own policies."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

State = Mapping[str, torch.Tensor]


@dataclass(slots=True)
class Linear:
    """A layer of ``c`` networks side by side: ``weight`` (c, inputs, outputs), ``bias`` (c, 1, outputs)."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(slots=True)
class Network:
    """An actor, or all critics as one stack."""

    layers: list[Linear]
    norms: list[Linear]
    """Gains and biases of the layer normalisations, each (c, 1, width)."""

    @property
    def widths(self) -> list[int]:
        """Widths of the hidden layers."""
        return [layer.weight.shape[2] for layer in self.layers[:-1]]


def parts_of(state: State) -> list[str]:
    """Return the networks of a policy's ``state_dict``, such as actor, critic, critic_target."""
    names = ("actor", "actor_target", "critic", "critic_target")
    return [name for name in names if any(key.startswith(f"{name}.") for key in state)]


def read_network(state: State, part: str) -> Network:
    """Return one network of a policy's ``state_dict``."""
    stacked = _numbers(state, f"{part}.net.layers.")
    if stacked:
        read = lambda group: [  # noqa: E731
            Linear(state[f"{group}{i}.weight"], state[f"{group}{i}.bias"]) for i in _numbers(state, group)
        ]
        return Network(read(f"{part}.net.layers."), read(f"{part}.net.norms."))
    layers = []
    for together in _plain_names(state, part):
        # The mean and the deviation of SAC's actor are one layer of the stack.
        weights = [torch.cat([state[f"{name}.weight"] for name in names]).T for names in together]
        biases = [torch.cat([state[f"{name}.bias"] for name in names])[None] for names in together]
        layers.append(Linear(torch.stack(weights), torch.stack(biases)))
    return Network(layers, [])


def write_network(network: Network, like: State, part: str) -> dict[str, torch.Tensor]:
    """Return the entries of a ``state_dict`` with the layout of ``like`` that hold ``network``."""
    written: dict[str, torch.Tensor] = {}
    if _numbers(like, f"{part}.net.layers."):
        for group, layers in (("layers", network.layers), ("norms", network.norms)):
            for i, layer in enumerate(layers):
                written[f"{part}.net.{group}.{i}.weight"] = layer.weight
                written[f"{part}.net.{group}.{i}.bias"] = layer.bias
        return written
    for layer, together in zip(network.layers, _plain_names(like, part), strict=True):
        for weight, bias, names in zip(layer.weight, layer.bias, together, strict=True):
            sizes = [like[f"{name}.bias"].shape[0] for name in names]
            for name, rows, values in zip(names, weight.T.split(sizes), bias[0].split(sizes), strict=True):
                written[f"{name}.weight"], written[f"{name}.bias"] = rows.contiguous(), values.contiguous()
    return written


def _numbers(state: State, prefix: str) -> list[int]:
    found = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    return sorted(int(number) for number in found if number.isdigit())


def _plain_names(state: State, part: str) -> list[list[list[str]]]:
    """Return, for each layer and each network of the stack, the names of stable-baselines3's layers in it."""
    if part.startswith("critic"):
        count = len({key.split(".")[1] for key in state if key.startswith(f"{part}.qf")})
        numbers = _numbers(state, f"{part}.qf0.")
        return [[[f"{part}.qf{critic}.{number}"] for critic in range(count)] for number in numbers]
    if f"{part}.log_std.weight" in state:
        hidden = [[[f"{part}.latent_pi.{number}"]] for number in _numbers(state, f"{part}.latent_pi.")]
        return [*hidden, [[f"{part}.mu", f"{part}.log_std"]]]
    return [[[f"{part}.mu.{number}"]] for number in _numbers(state, f"{part}.mu.")]
