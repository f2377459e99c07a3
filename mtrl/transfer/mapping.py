"""Adam's moments of one task set given to another, like the weights they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mtrl.errors import ConfigurationError
from mtrl.tasks import ACTION_SIZE, OBSERVATION_SIZE

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


MEAN, FRESH = "mean", "fresh"
"""A new task begins with the mean of the source's tasks, or with the weights it was initialised with."""

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
"""From which tasks each transfers well, the most related first: the predecessor's pairs, and for the tasks it
does not pair those with the same motion."""

Origin = int | str
"""Where the weights of a task come from: the id of a task of the source, ``MEAN`` or ``FRESH``."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a transfer."""

    name: str
    """What to call it in a refusal."""
    tasks: tuple[str, ...]
    task_id: bool
    """Whether observations carry the task's one-hot."""


def origins(source: Sequence[str], target: Sequence[str], new_tasks: str) -> list[Origin]:
    """Return where the weights of each task of ``target`` come from.

    Args:
        source: Tasks of the source.
        target: Tasks of the run.
        new_tasks: What tasks that the source lacks begin with: "related" (the mean where none is), ``MEAN``
            or ``FRESH``.
    """
    found: list[Origin] = []
    for task in target:
        if task in source:
            found.append(source.index(task))
        elif new_tasks == "related":
            related = [source.index(other) for other in RELATED.get(task, ()) if other in source]
            found.append(related[0] if related else MEAN)
        else:
            found.append(new_tasks)
    return found


def map_network(
    given: Network,
    own: Network,
    source: Side,
    target: Side,
    origin: Sequence[Origin],
    *,
    part: str,
    n: int,
    moments: bool = False,
) -> Network:
    """Return the weights of ``given`` in the shape of ``own``.

    Args:
        given: Network of the source, without ``mismatches``.
        own: The same network of the run, as initialised.
        source: Whose network ``given`` is.
        target: Whose network ``own`` is.
        origin: Where the weights of each task come from (``origins``).
        part: "actor", "critic" or one of their targets.
        n: Networks in the stack, without heads.
        moments: They are Adam's moments and not weights.

    Raises:
        ConfigurationError: The source observes something else.
    """
    layers = [_map_first(given.layers[0], own.layers[0], source, target, origin, part, n, moments)]
    for theirs, ours in zip(given.layers[1:], own.layers[1:], strict=True):
        layers.append(_map_heads(theirs, ours, source, target, origin, part, n))
    pairs = zip(given.norms, own.norms, strict=True)
    norms = [_map_heads(theirs, ours, source, target, origin, part, n) for theirs, ours in pairs]
    return Network(layers, norms)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing in which the networks of a source and of a run differ, so that neither can be mapped."""

    what: str
    mends: dict[str, str]
    """Overrides with which the run has what the source has, by key."""


def check_algorithm(given: Network, own: Network, source: Side, target: Side, part: str, n: int) -> None:
    """Refuse networks that only another algorithm has.

    Raises:
        ConfigurationError: They are; both sides are named.
    """
    copies = len(given.layers[0].weight)
    if copies not in (n, n * len(source.tasks)):
        raise ConfigurationError(
            f"the {part} of {source.name} has {copies} networks and that of {target.name} {n}, for they "
            "are of different algorithms: use the source's with algo=..."
        )
    theirs, ours = given.layers[-1].weight.shape[2], own.layers[-1].weight.shape[2]
    if theirs != ours:
        raise ConfigurationError(
            f"the {part} of {source.name} has {theirs} outputs and that of {target.name} {ours}, for they "
            "are of different algorithms: use the source's with algo=..."
        )


def mismatches(given: Network, own: Network, source: Side, part: str, n: int) -> list[Mismatch]:
    """Return everything that keeps ``given`` from being mapped to ``own``, arguments as ``map_network``'s."""
    found = []
    if given.widths != own.widths:
        widths = str(given.widths).replace(" ", "")
        what = f"the {part} of the source has layers {given.widths} and that of this run {own.widths}"
        found.append(Mismatch(what, {f"variant.{part}_layers": widths}))
    if len(given.norms) > 0 and not own.norms:
        what = f"the {part} of the source has LayerNorm and that of this run has not"
        found.append(Mismatch(what, {"variant.layer_norm": "true"}))
    if len(own.norms) > 0 and not given.norms:
        what = f"the {part} of this run has LayerNorm and that of the source has not"
        found.append(Mismatch(what, {"variant.layer_norm": "false"}))
    heads = [len(layer.weight) // n for layer in given.layers]
    ours = [len(layer.weight) // n for layer in own.layers]
    # With other widths, what is alike at the end is compared.
    if any(their > 1 == our for their, our in zip(reversed(heads), reversed(ours), strict=False)):
        first = next(place for place, number in enumerate(heads) if number > 1)
        shared = "all" if first == len(given.widths) else str(first)
        own_keys = {"variant.shared_layers": shared} if part == "critic" else {"variant.actor_heads": "true"}
        what = f"the {part} of the source has a head for each of its {max(heads)} tasks where this run has one for all"
        found.append(Mismatch(what, {"variant": "multihead", **own_keys}))
    actions = ACTION_SIZE if part == "critic" else 0
    blind = own.layers[0].weight.shape[1] == OBSERVATION_SIZE + actions and ours[0] == 1
    told = given.layers[0].weight.shape[1] > OBSERVATION_SIZE + actions
    if told and blind and len(source.tasks) > 1:
        what = f"the {part} of the source is told its {len(source.tasks)} tasks and that of this run is not"
        found.append(Mismatch(what, {"variant": "shared"}))
    return found


def _map_first(
    given: Linear,
    own: Linear,
    source: Side,
    target: Side,
    origin: Sequence[Origin],
    part: str,
    n: int,
    moments: bool,
) -> Linear:
    """Return the first layer, with rows for the one-hot of the run's tasks where it has any.

    A network whose heads begin with this layer is not given the one-hot.
    """
    observation, one_hot, action = _inputs(given, source, part)
    if own.weight.shape[1] > observation.shape[1] + action.shape[1]:
        rows = _rows(one_hot, own, target, origin, n)
        return _map_heads(
            Linear(torch.cat([observation, rows, action], dim=1), given.bias),
            own,
            source,
            target,
            origin,
            part,
            n,
        )
    mapped = _map_heads(
        Linear(torch.cat([observation, action], dim=1), given.bias), own, source, target, origin, part, n
    )
    if one_hot.shape[1] and not moments:
        # What the one-hot added for a task, which is always the same, becomes part of the bias.
        mapped.bias = mapped.bias + _constant(one_hot, own, source, target, origin, n)
    return mapped


def _inputs(given: Linear, source: Side, part: str) -> tuple[torch.Tensor, ...]:
    """Return the rows of the first layer for the observation, the one-hot (perhaps none) and the action."""
    actions = ACTION_SIZE if part.startswith("critic") else 0
    one_hot = given.weight.shape[1] - OBSERVATION_SIZE - actions
    if one_hot not in (0, len(source.tasks)):
        raise ConfigurationError(
            f"the {part} of {source.name} takes {given.weight.shape[1]} inputs, which are not Meta-World's "
            f"{OBSERVATION_SIZE} and a one-hot of {len(source.tasks)}: it was trained on other observations"
        )
    return given.weight.split([OBSERVATION_SIZE, one_hot, actions], dim=1)


def _constant(
    one_hot: torch.Tensor, own: Linear, source: Side, target: Side, origin: Sequence[Origin], n: int
) -> torch.Tensor:
    """Return what the rows of the one-hot add to the bias of each of the run's heads, or of its only one."""
    every = one_hot.view(n, -1, *one_hot.shape[1:])
    # Each of the source's heads meets its own task only.
    by_task = every[:, 0] if every.shape[1] == 1 else torch.stack([*every.diagonal(0, 1, 2).unbind(-1)], 1)
    if len(own.weight) == n:
        return by_task
    chosen = _choose(by_task, torch.zeros_like(by_task[:, :1]).expand(-1, len(origin), -1), origin, dim=1)
    return chosen.flatten(0, 1)[:, None]


def _rows(one_hot: torch.Tensor, own: Linear, target: Side, origin: Sequence[Origin], n: int) -> torch.Tensor:
    """Return the rows of the one-hot of the run's tasks, (copies, tasks, outputs)."""
    if not one_hot.shape[1]:
        # Without influence at first: the policy acts as its source did, which was not told the task.
        return one_hot.new_zeros(len(one_hot), len(target.tasks), one_hot.shape[2])
    initial = own.weight[:, OBSERVATION_SIZE : OBSERVATION_SIZE + len(target.tasks)]
    if len(initial) != len(one_hot):
        # With heads on one side only; the mean over the run's heads stands for the initial weights.
        initial = initial.view(n, -1, *initial.shape[1:]).mean(1).repeat_interleave(len(one_hot) // n, 0)
    return _choose(one_hot, initial, origin, dim=1)


def _map_heads(
    given: Linear, own: Linear, source: Side, target: Side, origin: Sequence[Origin], part: str, n: int
) -> Linear:
    """Return a layer with the heads of the run's tasks."""
    return Linear(
        _heads(given.weight, own.weight, source, target, origin, part, n),
        _heads(given.bias, own.bias, source, target, origin, part, n),
    )


def _heads(
    given: torch.Tensor,
    own: torch.Tensor,
    source: Side,
    target: Side,
    origin: Sequence[Origin],
    part: str,
    n: int,
) -> torch.Tensor:
    theirs, ours = len(given) // n, len(own) // n
    if theirs == 1:
        return given.repeat_interleave(ours, 0)
    given, own = given.view(n, theirs, *given.shape[1:]), own.view(n, ours, *own.shape[1:])
    return _choose(given, own, origin, dim=1).flatten(0, 1)


def _choose(given: torch.Tensor, own: torch.Tensor, origin: Sequence[Origin], dim: int) -> torch.Tensor:
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


def map_columns(given: Mapping[str, torch.Tensor], own: torch.Tensor, name: str) -> torch.Tensor:
    """Return statistics of observations in the shape of ``own``; columns of the one-hot are neutral."""
    mapped = own.clone()
    mapped[:OBSERVATION_SIZE] = given[name][:OBSERVATION_SIZE]
    return mapped


_MOMENTS = ("exp_avg", "exp_avg_sq")


def moments_problem(given: Mapping[str, Any], policy: State, part: str) -> str | None:
    """Return what keeps the state of a source's optimiser from being mapped, None where nothing does.

    Args:
        given: The source's optimiser.
        policy: The source's policy.
        part: "actor" or "critic".
    """
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
    source: Side,
    target: Side,
    origin: Sequence[Origin],
    *,
    part: str,
    n: int,
) -> dict[str, Any]:
    """Return the state of ``network``'s optimiser with the moments of ``given``.

    Tasks that start fresh have moments of 0.

    Args:
        given: The source's optimiser.
        policy: The source's policy, whose entries of ``part`` are in the order of its parameters.
        network: The run's actor or critic.
        source: Whose optimiser ``given`` is.
        target: Whose network it is.
        origin: Where the weights of each task come from.
        part: "actor" or "critic".
        n: Networks in the stack, without heads.
    """
    state = network.optimizer.state_dict()
    theirs = [name for name in policy if name.startswith(f"{part}.")]
    ours = [f"{part}.{name}" for name, _ in network.named_parameters()]
    if not given["state"]:
        return state
    own = {
        name: torch.zeros_like(value, device="cpu")
        for name, value in zip(ours, network.parameters(), strict=True)
    }
    moments: dict[int, dict[str, Any]] = {
        place: {"step": next(iter(given["state"].values()))["step"]} for place in range(len(ours))
    }
    for moment in _MOMENTS:
        entries = {name: given["state"][place][moment] for place, name in enumerate(theirs)}
        mapped = map_network(
            read_network(entries, part),
            read_network(own, part),
            source,
            target,
            origin,
            part=part,
            n=n,
            moments=True,
        )
        written = write_network(mapped, own, part)
        for place, name in enumerate(ours):
            moments[place][moment] = written[name].contiguous()
    return {"state": moments, "param_groups": state["param_groups"]}
