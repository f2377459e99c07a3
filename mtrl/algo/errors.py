"""What stops a run because a number is no longer a number."""

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm


class NonFinite(ArithmeticError):
    """A NaN or an infinity in what the learner is about to store, has computed, or has learned.

    Attributes:
        tensor: Name of the tensor, for instance ``reward`` or ``policy.critic.net.layers.0.weight``.
        step: Environment step at which it was noticed, None where unknown.
        tasks: Indices of the tasks concerned; empty where it concerns all or is unknown.
        transition: The offending transition as plain arrays, None where there is none.
    """

    def __init__(
        self, tensor: str, step: int | None, tasks: list[int], transition: dict[str, Any] | None = None
    ) -> None:
        self.tensor, self.step, self.tasks, self.transition = tensor, step, tasks, transition
        where = "" if step is None else f" at step {step:,}"
        whose = f" of task {', '.join(map(str, tasks))}" if tasks else ""
        if transition is None:
            advice = "continue from the last checkpoint with a lower learning rate or with gradient clipping"
        else:
            advice = "the environment, or the policy that acted, is broken"
        super().__init__(f"{tensor}{whose} is NaN or infinite{where}: {advice}")


def check_finite(model: BaseAlgorithm) -> None:
    """Look at every weight and optimiser state of ``model``, so that a broken one is never saved.

    Raises:
        NonFinite: naming the first tensor that holds a NaN or an infinity.
    """
    tensors = dict(model.policy.named_parameters(prefix="policy"))
    temperature = getattr(model, "log_ent_coef", None)
    if temperature is not None:
        tensors["log_ent_coef"] = temperature
    for part in ("actor", "critic"):
        optimizer = getattr(getattr(model, part, None), "optimizer", None)
        if optimizer is not None:
            for index, state in enumerate(optimizer.state.values()):
                tensors |= {
                    f"{part}.optimizer.{name}[{index}]": value
                    for name, value in state.items()
                    if torch.is_tensor(value)
                }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            tasks = []
            if name == "log_ent_coef" and len(tensor) > 1:
                tasks = torch.nonzero(~torch.isfinite(tensor.detach())).flatten().tolist()
            raise NonFinite(name, model.num_timesteps, tasks)
