"""Weights of one task set in the shape of another: which task each comes from, and how networks are mapped.

A network is read from a policy's ``state_dict`` into one form, whatever the policy: mtrl's stacks and the separate
layers of stable-baselines3 alike. It is mapped in that form and written in the layout of the run's policy.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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
    ``FRESH``.
    """

    def origin(task: str) -> Origin:
        if task in source:
            return source.index(task)
        if new_tasks != "related":
            return new_tasks
        return next((source.index(other) for other in RELATED.get(task, ()) if other in source), MEAN)

    return tuple(map(origin, target))


class Layer(NamedTuple):
    """A linear layer, or the gain and bias of a layer normalisation, of all networks and their heads.

    ``n`` networks stand side by side (1 actor, 2 critics), each with ``heads`` heads: one for each task, or 1.
    """

    weight: torch.Tensor
    """(n, heads, inputs, outputs)."""
    bias: torch.Tensor
    """(n, heads, 1, outputs)."""


class Network(NamedTuple):
    """An actor, or all critics."""

    layers: list[Layer]
    norms: list[Layer]

    @property
    def widths(self) -> list[int]:
        """Widths of the hidden layers."""
        return [layer.weight.shape[-1] for layer in self.layers[:-1]]

    @property
    def inputs(self) -> int:
        """Numbers that the network takes."""
        return self.layers[0].weight.shape[2]

    @property
    def outputs(self) -> int:
        """Numbers that each head gives."""
        return self.layers[-1].weight.shape[3]

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

    def stacked(prefix: str) -> list[Layer]:
        pairs = [(state[f"{prefix}{i}.weight"], state[f"{prefix}{i}.bias"]) for i in _numbers(state, prefix)]
        return [Layer(*(value.unflatten(0, (n, -1)) for value in pair)) for pair in pairs]

    if layers := stacked(f"{part}.net.layers."):
        return Network(layers, stacked(f"{part}.net.norms."))
    for copies in _plain_names(state, part):
        # The mean and the deviation of SAC's actor are one layer of the stack.
        weights = [torch.cat([state[f"{name}.weight"] for name in names]).T for names in copies]
        biases = [torch.cat([state[f"{name}.bias"] for name in names])[None] for names in copies]
        layers.append(Layer(*(torch.stack(each).unflatten(0, (n, -1)) for each in (weights, biases))))
    return Network(layers, [])


def write_network(network: Network, like: State, part: str) -> dict[str, torch.Tensor]:
    """Return the entries of a ``state_dict`` with the layout of ``like`` that hold ``network``."""
    written: dict[str, torch.Tensor] = {}
    layers, norms = ([[value.flatten(0, 1) for value in layer] for layer in group] for group in network)
    if _numbers(like, f"{part}.net.layers."):
        for group, pairs in (("layers", layers), ("norms", norms)):
            for i, (weight, bias) in enumerate(pairs):
                written[f"{part}.net.{group}.{i}.weight"] = weight
                written[f"{part}.net.{group}.{i}.bias"] = bias
        return written
    for (weights, biases), copies in zip(layers, _plain_names(like, part), strict=True):
        for weight, bias, names in zip(weights, biases, copies, strict=True):
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


def inputs_without_task(part: str) -> int:
    """Return how many numbers a network takes that is not told the task."""
    return OBSERVATION_SIZE + (ACTION_SIZE if part.startswith("critic") else 0)


def mismatches(
    given: Network, own: Network, part: str, n_source_tasks: int
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what keeps a source's actor or critic from being mapped, and the overrides with which it would fit."""
    if given.widths != own.widths:
        what = f"the {part} of the source has layers {given.widths} and that of this run {own.widths}"
        yield what, {f"variant.{part}_layers": str(given.widths).replace(" ", "")}
    if given.norms and not own.norms:
        what = f"the {part} of the source has LayerNorm and that of this run has not"
        yield what, {"variant.layer_norm": "true"}
    if own.norms and not given.norms:
        what = f"the {part} of this run has LayerNorm and that of the source has not"
        yield what, {"variant.layer_norm": "false"}
    # Where the widths differ, the layers are compared from the last one on.
    pairs = zip(reversed(given.heads), reversed(own.heads), strict=False)
    if any(theirs > 1 == ours for theirs, ours in pairs):
        shared = sum(heads == 1 for heads in given.heads)
        layers = "all" if shared == len(given.widths) else str(shared)
        keys = {"variant.shared_layers": layers} if part == "critic" else {"variant.actor_heads": "true"}
        n_heads = max(given.heads)
        what = f"the {part} of the source has a head for each of its {n_heads} tasks and that of this run one for all"
        yield what, {"variant": "multihead", **keys}
    told = given.inputs > inputs_without_task(part)
    if told and own.inputs == inputs_without_task(part) and own.heads[0] == 1 and n_source_tasks > 1:
        what = f"the {part} of the source is told its {n_source_tasks} tasks and that of this run is not"
        yield what, {"variant": "shared"}


def map_network(
    given: Network, own: Network, origin: Sequence[Origin], part: str, *, moments: bool = False
) -> Network:
    """Return the weights of ``given``, which has no ``mismatches``, in the shape of ``own``.

    ``own`` is the same ``part`` of the run as initialised, and ``origin`` says where the weights of each of its tasks
    come from. With ``moments`` the numbers are Adam's moments and not weights.
    """
    first = _map_first(given.layers[0], own.layers[0], origin, part, moments)
    layers = [_map_heads(*pair, origin) for pair in zip(given.layers[1:], own.layers[1:], strict=True)]
    norms = [_map_heads(*pair, origin) for pair in zip(given.norms, own.norms, strict=True)]
    return Network([first, *layers], norms)


def _map_first(given: Layer, own: Layer, origin: Sequence[Origin], part: str, moments: bool) -> Layer:
    """Return the first layer, with rows for the one-hot of the run's tasks where it has any.

    A network whose heads begin with this layer is not given the one-hot.
    """
    actions = inputs_without_task(part) - OBSERVATION_SIZE
    one_hots = given.weight.shape[2] - inputs_without_task(part)
    observation, one_hot, action = given.weight.split([OBSERVATION_SIZE, one_hots, actions], dim=2)
    if own.weight.shape[2] > inputs_without_task(part):
        if one_hots:
            initial = own.weight[:, :, OBSERVATION_SIZE : OBSERVATION_SIZE + len(origin)]
            rows = _choose(one_hot, initial, origin, dim=2)
        else:
            # Without influence at first: the policy acts as its source did, which was not told the task.
            rows = one_hot.new_zeros(*one_hot.shape[:2], len(origin), one_hot.shape[3])
        return _map_heads(Layer(torch.cat([observation, rows, action], dim=2), given.bias), own, origin)
    weight, bias = _map_heads(Layer(torch.cat([observation, action], dim=2), given.bias), own, origin)
    if one_hots and not moments:
        # What the one-hot added for a task, which is always the same, becomes part of the bias.
        added = one_hot.transpose(1, 2)
        if own.weight.shape[1] > 1:
            added = _choose(added, torch.zeros_like(added[:, :1]).expand(-1, len(origin), -1, -1), origin)
        bias = bias + added
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
        elif place == FRESH:
            chosen.append(own.select(dim, task))
        else:
            chosen.append(given.select(dim, place))
    return torch.stack(chosen, dim)


def map_temperatures(given: torch.Tensor, own: torch.Tensor, origin: Sequence[Origin]) -> torch.Tensor:
    """Return the logarithms of the source's temperatures, (1,) or (tasks,), in the shape of ``own``."""
    if len(given) == 1:
        return given.expand_as(own).clone()
    if len(own) == 1:
        return given.mean(0, keepdim=True)
    return _choose(given, own, origin, dim=0)


_MOMENTS = ("exp_avg", "exp_avg_sq")


def moments_problem(given: Mapping[str, Any], policy: State, part: str) -> str | None:
    """Return what keeps the state of the optimiser of a source's ``part`` from being mapped; None if nothing does."""
    state = given.get("state")
    if not isinstance(state, dict):
        return "holds no state"
    if not state:
        return None
    for place, name in enumerate(name for name in policy if name.startswith(f"{part}.")):
        entry = state.get(place)
        values = [entry.get(key) for key in ("step", *_MOMENTS)] if isinstance(entry, dict) else [None]
        if not all(isinstance(value, float | int) or torch.is_tensor(value) for value in values):
            return f"has not Adam's moments of {name}"
        step, *moments = map(torch.as_tensor, values)
        if step.numel() != 1 or any(moment.shape != policy[name].shape for moment in moments):
            return f"has moments of another shape than {name}"
        if not all(bool(torch.isfinite(value).all()) for value in (step, *moments)):
            return f"has moments of {name} that are NaN or infinite"
    return None


def map_optimiser(
    given: dict[str, Any],
    policy: State,
    network: torch.nn.Module,
    origin: Sequence[Origin],
    part: str,
    n: int,
) -> dict[str, Any]:
    """Return the state of ``network``'s optimiser with the source's moments; of tasks that start fresh, with 0.

    ``given`` is the source's optimiser without a ``moments_problem``, ``policy`` the source's policy, whose entries of
    ``part`` are in the order of its parameters; ``n`` networks stand side by side.
    """
    state = network.optimizer.state_dict()
    if not given["state"]:
        return state
    theirs = [name for name in policy if name.startswith(f"{part}.")]
    own = {f"{part}.{name}": torch.zeros_like(p, device="cpu") for name, p in network.named_parameters()}
    step = next(iter(given["state"].values()))["step"]
    moments: dict[int, dict[str, Any]] = {place: {"step": step} for place in range(len(own))}
    for moment in _MOMENTS:
        entries = {name: given["state"][place][moment] for place, name in enumerate(theirs)}
        networks = read_network(entries, part, n), read_network(own, part, n)
        written = write_network(map_network(*networks, origin, part, moments=True), own, part)
        for place, name in enumerate(own):
            moments[place][moment] = written[name].contiguous()
    return {"state": moments, "param_groups": state["param_groups"]}
