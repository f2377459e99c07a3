"""The update as a CUDA graph: recorded once, then replayed without launching its kernels one by one.

The bookkeeping around the graph is tested on a processor; the graph itself has not been tested on a GPU.
"""

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from mtrl.algo.replay import TaskSamples
from mtrl.algo.update import update

if TYPE_CHECKING:
    from mtrl.algo.sac import SAC

logger = logging.getLogger(__name__)

WARM_UP = 3
"""Updates made eagerly before recording, as torch's notes on CUDA graphs ask for."""


class GraphedUpdate:
    """Replaces ``update``: the same result, from a recording where one fits.

    A recording repeats the numbers and the addresses it was made with: when the shapes of the batch, an option
    of the update or the place of a tensor changes, it is made again; the learning rates are tensors. A batch that
    heads must first group by task has no fixed shape and is computed eagerly, with one warning.
    """

    _warmed_up, _warned = 0, False
    _bound_to: tuple | None = None
    """What the recording depends on; with it come the graph, its batch and its losses."""

    def __call__(self, learner: "SAC", batch: TaskSamples) -> torch.Tensor:
        """Make one update; see ``mtrl.algo.update.update``."""
        for optimizer in learner.optimizers():
            optimizer.follow_learning_rate()
        if batch.grouping is not None and batch.grouping.gather is not None:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "a batch with unequal shares of the tasks is not recorded as a CUDA graph, so updates on such "
                    "batches are slow: balanced batches (algo.balanced_batches=true) avoid them once every task "
                    "has been played"
                )
            return update(learner, batch)
        # New streams and recordings belong to the current GPU.
        with torch.cuda.device(learner.device) if learner.device.type == "cuda" else nullcontext():
            if self._warmed_up < WARM_UP:
                self._warmed_up += 1
                return self._aside(learner, batch)
            bound_to = _binding(learner, batch)
            if bound_to != self._bound_to:
                # The recording reads the batch from tensors of its own, which every later batch is copied into.
                self._batch = batch._replace(**{name: each.clone() for name, each in _tensors(batch).items()})
                self._record(learner)
                self._bound_to = bound_to
            for name, tensor in _tensors(self._batch).items():
                tensor.copy_(getattr(batch, name))
            self._graph.replay()
            return self._losses.clone()

    def _aside(self, learner: "SAC", batch: TaskSamples) -> torch.Tensor:
        """Make the update eagerly on a stream of its own, as the recording will."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            losses = update(learner, batch)
        torch.cuda.current_stream().wait_stream(stream)
        return losses

    def _record(self, learner: "SAC") -> None:
        self._graph = torch.cuda.CUDAGraph()
        # torch's own stream for recordings stays on the device where it was first needed
        with torch.cuda.graph(self._graph, stream=torch.cuda.Stream()):
            self._losses = update(learner, self._batch)


def _tensors(batch: TaskSamples) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch._asdict().items() if torch.is_tensor(value)}


def _binding(learner: "SAC", batch: TaskSamples) -> tuple:
    """Return what a recording depends on: shapes, numbers and addresses."""
    optimizers = learner.optimizers()
    tensors = [*learner.critic_parameters, *learner.actor_parameters, *learner.target_parameters]
    tensors += [tensor for optimizer in optimizers for kind in optimizer.tensors() for tensor in kind]
    if learner.ent_coef_optimizer is None:
        tensors.append(learner.ent_coef_tensor)
    groups = [optimizer.param_groups[0] for optimizer in optimizers]
    return (
        tuple((name, tensor.shape) for name, tensor in _tensors(batch).items()),
        tuple((group["betas"], group["eps"], group["weight_decay"]) for group in groups),
        (learner.gamma, learner.max_gradient_norm, learner.target_entropy),
        tuple(tensor.data_ptr() for tensor in tensors),
    )
