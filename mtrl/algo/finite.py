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
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        tensors |= _tensors(name, recursive_getattr(model, name).state_dict())
    tensors |= {name: recursive_getattr(model, name) for name in variables}
    for name, tensor in tensors.items():
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            raise TrainingNotFiniteError(name, model.num_timesteps, _tasks(model, tensor))


def _tensors(name: str, state: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict by dotted names."""
    if torch.is_tensor(state):
        return {name: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {key: value for part, inner in items for key, value in _tensors(f"{name}.{part}", inner).items()}


def _tasks(model: BaseAlgorithm, tensor: torch.Tensor) -> list[int]:
    """Return the tasks whose numbers are none, where the tensor has one number for each of several tasks."""
    n_tasks = getattr(model, "n_tasks", 1)
    if n_tasks == 1 or tensor.shape != (n_tasks,):
        return []
    return torch.nonzero(~torch.isfinite(tensor.detach())).flatten().tolist()
