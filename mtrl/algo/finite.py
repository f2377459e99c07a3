"""Whether all that a learner saves is still a number."""

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr

from mtrl.errors import TrainingNotFiniteError


def check_finite(model: BaseAlgorithm) -> None:
    """Look at every tensor that ``model`` saves: weights, targets, optimisers, temperatures, reward scales.

    Raises:
        TrainingNotFiniteError: naming the first tensor that holds a NaN or an infinity.
    """
    names, variables = model._get_torch_save_params()
    states = {name: recursive_getattr(model, name).state_dict() for name in names}
    states |= {name: recursive_getattr(model, name) for name in variables}
    n_tasks = getattr(model, "n_tasks", 1)
    for name, tensor in (entry for part, state in states.items() for entry in _tensors(part, state)):
        finite = torch.isfinite(tensor.detach())
        if not bool(finite.all()):
            per_task = n_tasks > 1 and tensor.shape == (n_tasks,)
            tasks = torch.nonzero(~finite).flatten().tolist() if per_task else []
            raise TrainingNotFiniteError(name, model.num_timesteps, tasks)


def _tensors(name: str, state: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of a state dict with dotted names."""
    if torch.is_tensor(state):
        return [(name, state)]
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return [entry for part, inner in items for entry in _tensors(f"{name}.{part}", inner)]
