"""Adam's moments of one task set given to another, like the weights they belong to."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mtrl.transfer.layout import State, read_network, write_network
from mtrl.transfer.mapping import Origin, Side, map_network

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
