"""Weights of one task set in the shape of another: which task each comes from, and how networks are mapped.

A network is read from a policy's ``state_dict`` into one form, whatever the policy: mtrl's stacks and the separate
layers of stable-baselines3 alike. It is mapped in that form and written in the layout of the run's policy.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import torch

from mtrl.tasks import ACTION_SIZE, OBSERVATION_SIZE

State = Mapping[str, torch.Tensor]

MEAN, FRESH = "mean", "fresh"
"""A new task begins with the mean of the source's tasks, or with the weights it was initialised with."""

Origin = int | str
"""Where the weights of a task come from: the id of a task of the source, ``MEAN`` or ``FRESH``."""

RELATED = {
    "push-v3": ("reach-v3", "pick-place-v3"),
    "pick-place-v3": ("push-v3", "reach-v3"),
    "reach-v3": ("push-v3", "pick-place-v3"),
    "door-open-v3": ("drawer-open-v3",),
    "drawer-open-v3": ("drawer-close-v3", "door-open-v3"),
    "drawer-close-v3": ("drawer-open-v3", "door-open-v3"),
    "window-open-v3": ("window-close-v3",),
    "window-close-v3": ("window-open-v3",),
    "button-press-topdown-v3": ("reach-v3",),
    "peg-insert-side-v3": ("pick-place-v3", "push-v3"),
}
"""From which tasks each transfers well, the most related first: the pairs of the project this one replaces, and for
the tasks it does not pair those with the same motion."""


def origins(source: Sequence[str], target: Sequence[str], new_tasks: str) -> tuple[Origin, ...]:
    """Return where the weights of each task of ``target`` come from.

    Tasks that the source lacks begin as ``new_tasks`` says: "related" (the mean if it has no related one), ``MEAN`` or
    ``FRESH``. A source that was not told its tasks has nothing that depends on them.
    """
    related, chosen = new_tasks == "related", []
    for task in target:
        near = [name for name in (task, *(RELATED.get(task, ()) if related else ())) if name in source]
        chosen.append(source.index(near[0]) if near else MEAN if related else new_tasks)
    return tuple(chosen) if source else (FRESH,) * len(target)


class Layer(NamedTuple):
    """A linear layer, or the gain and bias of a layer normalisation, of all networks and their heads.

    ``n`` networks stand side by side (1 actor, 2 critics), each with ``heads`` heads: one for each task, or 1. The
    weight is (n, heads, inputs, outputs), the bias (n, heads, 1, outputs).
    """

    weight: torch.Tensor
    bias: torch.Tensor


class Network(NamedTuple):
    """An actor, or all critics."""

    layers: list[Layer]
    norms: list[Layer]

    @property
    def inputs(self) -> int:
        """Numbers that the network takes."""
        return self.layers[0].weight.shape[2]

    @property
    def widths(self) -> list[int]:
        """Widths of the hidden layers."""
        return [layer.weight.shape[3] for layer in self.layers[:-1]]

    @property
    def heads(self) -> list[int]:
        """Heads of each layer."""
        return [layer.weight.shape[1] for layer in self.layers]


def parts_of(state: State) -> list[str]:
    """Return the networks of a policy's ``state_dict``, such as actor, critic, critic_target."""
    names = ("actor", "actor_target", "critic", "critic_target")
    return [name for name in names if any(key.startswith(f"{name}.") for key in state)]


def read_network(state: State, part: str, n: int = 1) -> Network:
    """Return one of the networks of a policy's ``state_dict``, of which ``n`` stand side by side."""

    def numbers(prefix: str) -> list[int]:
        found = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
        return sorted(int(number) for number in found if number.isdecimal())

    def stacked(prefix: str) -> list[Layer]:
        pairs = [(state[f"{prefix}{i}.weight"], state[f"{prefix}{i}.bias"]) for i in numbers(prefix)]
        return [Layer(*(value.unflatten(0, (n, -1)) for value in pair)) for pair in pairs]

    if layers := stacked(f"{part}.net.layers."):
        return Network(layers, stacked(f"{part}.net.norms."))
    # The names of stable-baselines3's layers: for each layer of the stack, those of each network.
    gaussian = f"{part}.log_std.weight" in state
    critics = {key.split(".")[1] for key in state if key.startswith(f"{part}.qf")}
    stems = [f"qf{critic}" for critic in range(len(critics))] or ["latent_pi" if gaussian else "mu"]
    names = [[[f"{part}.{stem}.{i}"] for stem in stems] for i in numbers(f"{part}.{stems[0]}.")]
    if gaussian:
        # The mean and the deviation of SAC's actor are one layer of the stack.
        names.append([[f"{part}.mu", f"{part}.log_std"]])
    for copies in names:
        weights = [torch.cat([state[f"{name}.weight"] for name in joined]).T for joined in copies]
        biases = [torch.cat([state[f"{name}.bias"] for name in joined])[None] for joined in copies]
        layers.append(Layer(*(torch.stack(each).unflatten(0, (n, -1)) for each in (weights, biases))))
    return Network(layers, [])


def write_network(network: Network, like: State, part: str, n: int) -> dict[str, torch.Tensor]:
    """Return the entries of ``part`` in a ``state_dict`` like ``like``: each number goes where it is read from."""
    own = {name: value for name, value in like.items() if name.startswith(f"{part}.")}
    sizes = [value.numel() for value in own.values()]
    places = zip(own, torch.arange(sum(sizes)).split(sizes), strict=True)
    where = read_network({name: place.view_as(own[name]) for name, place in places}, part, n)
    written = torch.cat([value.flatten() for value in own.values()])
    for layer, place in zip(chain(*network), chain(*where), strict=True):
        written[place.weight], written[place.bias] = (value.to(written.dtype) for value in layer)
    values = zip(own, written.split(sizes), strict=True)
    return {name: value.view_as(own[name]).clone() for name, value in values}


def inputs_without_task(part: str) -> int:
    """Return how many numbers a network takes that is not told the task."""
    return OBSERVATION_SIZE + (ACTION_SIZE if part.startswith("critic") else 0)


def mismatches(given: Network, own: Network, part: str, n_tasks: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what keeps a source's network, of ``n_tasks``, from being mapped, and the overrides that make it fit."""
    source, this = f"the {part} of the source", "that of this run"
    if given.widths != own.widths:
        what = f"{source} has layers {given.widths} and {this} {own.widths}"
        yield what, {f"variant.{part}_layers": str(given.widths).replace(" ", "")}
    if bool(given.norms) != bool(own.norms):
        has, lacks = ("the source", "this run") if given.norms else ("this run", "the source")
        what = f"the {part} of {has} has LayerNorm and that of {lacks} has not"
        yield what, {"variant.layer_norm": str(bool(given.norms)).lower()}
    # Where the widths differ, the layers are compared from the last one on.
    if any(theirs > 1 == ours for theirs, ours in zip(given.heads[::-1], own.heads[::-1], strict=False)):
        shared = given.heads.count(1)
        layers = "all" if shared == len(given.widths) else str(shared)
        keys = {"variant.shared_layers": layers} if part == "critic" else {"variant.actor_heads": "true"}
        what = f"{source} has a head for each of its {max(given.heads)} tasks and {this} one for all"
        yield what, {"variant": "multihead", **keys}
    least = inputs_without_task(part)
    if n_tasks > 1 and given.inputs > least == own.inputs and own.heads[0] == 1:
        yield f"{source} is told its {n_tasks} tasks and {this} is not", {"variant": "shared"}


def map_state(
    given: State, own: State, part: str, n: int, origin: Sequence[Origin], *, moments: bool = False
) -> dict[str, torch.Tensor]:
    """Return a source's network, which has no ``mismatches``, as entries of the run's ``state_dict``.

    ``given`` and ``own`` hold the ``part`` of the source and the run's as initialised, ``n`` of which stand side by
    side; ``origin`` says where each of the run's tasks comes from. With ``moments``, the numbers are Adam's moments.
    """
    theirs, ours = read_network(given, part, n), read_network(own, part, n)
    first = _map_first(theirs.layers[0], ours.layers[0], origin, part, moments)
    layers = [_map_heads(*pair, origin) for pair in zip(theirs.layers[1:], ours.layers[1:], strict=True)]
    norms = [_map_heads(*pair, origin) for pair in zip(theirs.norms, ours.norms, strict=True)]
    return write_network(Network([first, *layers], norms), own, part, n)


def _map_first(given: Layer, own: Layer, origin: Sequence[Origin], part: str, moments: bool) -> Layer:
    """Return the first layer, with rows for the one-hot of the run's tasks where it has any.

    A network whose heads begin with this layer is not given the one-hot.
    """
    actions = inputs_without_task(part) - OBSERVATION_SIZE
    one_hots = given.weight.shape[2] - inputs_without_task(part)
    observation, one_hot, action = given.weight.split([OBSERVATION_SIZE, one_hots, actions], dim=2)
    told = own.weight.shape[2] > inputs_without_task(part)
    if told and one_hots:
        initial = own.weight[:, :, OBSERVATION_SIZE : OBSERVATION_SIZE + len(origin)]
        rows = _choose(one_hot, initial, origin, dim=2)
    else:
        # Without influence at first: the policy acts as its source did, which was not told the task.
        rows = one_hot.new_zeros(*one_hot.shape[:2], len(origin) if told else 0, one_hot.shape[3])
    weight, bias = _map_heads(Layer(torch.cat([observation, rows, action], dim=2), given.bias), own, origin)
    if one_hots and not told and not moments:
        # What the one-hot added for a task, which is always the same, becomes part of the bias.
        added = one_hot.transpose(1, 2)
        bias = bias + (_choose(added, torch.zeros_like(bias), origin) if len(bias[0]) > 1 else added)
    return Layer(weight, bias)


def _map_heads(given: Layer, own: Layer, origin: Sequence[Origin]) -> Layer:
    """Return a layer with the heads of the run's tasks."""
    if given.weight.shape[1] == 1:
        return Layer(*(value.repeat_interleave(own.weight.shape[1], 1) for value in given))
    return Layer(*(_choose(theirs, ours, origin) for theirs, ours in zip(given, own, strict=True)))


def _choose(given: torch.Tensor, own: torch.Tensor, origin: Sequence[Origin], dim: int = 1) -> torch.Tensor:
    """Return, along ``dim``, what each task of the run begins with."""
    chosen = []
    for task, place in enumerate(origin):
        if place == MEAN:
            chosen.append(given.mean(dim))
        else:
            chosen.append(own.select(dim, task) if place == FRESH else given.select(dim, place))
    return torch.stack(chosen, dim)


def map_temperatures(given: torch.Tensor, own: torch.Tensor, origin: Sequence[Origin]) -> torch.Tensor:
    """Return the logarithms of the source's temperatures, (1,) or (tasks,), in the shape of ``own``."""
    if len(given) == 1:
        return given.expand_as(own).clone()
    if len(own) == 1:
        return given.mean(0, keepdim=True)
    return _choose(given, own, origin, dim=0)
