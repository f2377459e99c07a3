"""Weights of one task set given to another, task by task name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mtrl.config import ConfigurationError
from mtrl.tasks import ACTION_SIZE, OBSERVATION_SIZE
from mtrl.transfer.layout import Linear, Network

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
