"""Adam without the bookkeeping that costs more than its arithmetic on small networks."""

from collections.abc import Callable
from typing import Any

import torch


def leave_out_the_compiler() -> None:
    """Let optimisers work without torch's compiler, whose import takes 1 to 3 s of every start.

    At the first call of one of these methods torch imports it to mark the method as one not to look into, and keeps
    the marked one (``torch._compile``). Here that is the method itself: nothing is compiled around an optimiser.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None:
            vars(method).setdefault("__dynamo_disable", method)


class FusedAdam(torch.optim.Adam):
    """torch.optim.Adam with ``fused=True``: the same numbers, the same ``state_dict``, one call a step.

    For the 6 to 10 tensors of an actor or a critic, torch.optim.Adam spends 0.1 ms a step in Python and
    counts the steps of each tensor apart. Here the lists of tensors are made once and the step count is one
    shared tensor. Of Adam's options it has ``betas``, ``eps`` and ``weight_decay``.
    """

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, **options: Any) -> None:
        leave_out_the_compiler()
        refused = options.keys() - {"betas", "eps"}
        if refused:
            raise TypeError(f"FusedAdam has no {min(refused)}: use torch.optim.Adam")
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=True, **options)
        self._lists: list[list[torch.Tensor]] | None = None
        self._rate: torch.Tensor | None = None
        self._followed: float | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, also one that torch.optim.Adam saved."""
        super().load_state_dict(state_dict)
        self._lists = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every parameter from its gradient; what only torch.optim.Adam does, as a closure, is a ValueError."""
        if closure is not None:
            raise ValueError("FusedAdam takes no closure: use torch.optim.Adam")
        params, averages, square_averages, steps = self.tensors()
        group = self.param_groups[0]
        steps[0].add_(1)
        tensors = (params, [parameter.grad for parameter in params], averages, square_averages, [], steps)
        rate, (beta1, beta2) = group["lr"] if self._rate is None else self._rate, group["betas"]
        options = {
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "amsgrad": False,
            "maximize": False,
        }
        torch._fused_adam_(*tensors, lr=rate, beta1=beta1, beta2=beta2, **options)

    # torch would wrap every call in a profiler's record, which costs as much as the step
    step.hooked = True

    def follow_learning_rate(self) -> None:
        """Let ``step`` read the learning rate from a tensor from now on; to be called before every update.

        A CUDA graph repeats the numbers of its recording, such as that of the parameter group, but reads tensors anew.
        """
        rate = self.param_groups[0]["lr"]
        if self._rate is None:
            device = self.param_groups[0]["params"][0].device
            # the kernel reads a float on a GPU and any number on a processor
            dtype = torch.float32 if device.type == "cuda" else torch.float64
            self._rate = torch.empty((), dtype=dtype, device=device)
        if rate != self._followed:
            self._rate.fill_(rate)
            self._followed = rate

    def tensors(self) -> list[list[torch.Tensor]]:
        """Return parameters, their two averages, and their step counts: the same lists each time."""
        if self._lists is None:
            group, *others = self.param_groups
            refused = [name for name in ("amsgrad", "maximize", "decoupled_weight_decay") if group.get(name)]
            if others or refused:
                what = "takes one parameter group" if others else f"has no {refused[0]}"
                raise ValueError(f"FusedAdam {what}: use torch.optim.Adam")
            params = group["params"]
            count = torch.zeros((), dtype=torch.float32, device=params[0].device)
            if self.state:
                count.copy_(torch.as_tensor(self.state[params[0]]["step"]))
            for parameter in params:
                for average in ("exp_avg", "exp_avg_sq"):
                    self.state[parameter].setdefault(average, torch.zeros_like(parameter))
                self.state[parameter]["step"] = count
            averages = [[self.state[each][name] for each in params] for name in ("exp_avg", "exp_avg_sq")]
            self._lists = [params, *averages, [count] * len(params)]
        return self._lists
