"""The update as a CUDA graph: recorded once, then replayed without launching its kernels one by one."""

from typing import TYPE_CHECKING

import torch

from mtrl.algo.update import Batch, Outcome, update

if TYPE_CHECKING:
    from mtrl.algo.sac import SAC

WARM_UP = 3
"""Updates made eagerly before recording, as torch's notes on CUDA graphs ask for."""


class GraphedUpdate:
    """Stands for ``update``: the same result, from a recording where one fits.

    A recording is bound to the shapes of the batch, to the learning rates and to the tensors of the
    optimisers; when one of them changes, the update is recorded anew. A batch that heads must first group by
    task has no fixed shape and is computed eagerly: use balanced batches.
    """

    def __init__(self) -> None:
        self._warmed_up = 0
        self._bound_to: tuple | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._result: Outcome | None = None

    def __call__(self, learner: "SAC", batch: Batch) -> Outcome:
        """Make one update; see ``mtrl.algo.update.update``."""
        if batch.grouping is not None and batch.grouping.gather is not None:
            return update(learner, batch)
        if self._warmed_up < WARM_UP:
            self._warmed_up += 1
            return self._aside(learner, batch)
        bound_to = _binding(learner, batch)
        if bound_to != self._bound_to:
            self._record(learner, batch)
            self._bound_to = bound_to
        copy_batch(batch, self._batch)
        self._graph.replay()
        return Outcome(*(tensor.clone() for tensor in self._result))

    def _aside(self, learner: "SAC", batch: Batch) -> Outcome:
        """Make the update eagerly on a stream of its own, as the recording will."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = update(learner, batch)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, learner: "SAC", batch: Batch) -> None:
        self._batch = static_copy(batch)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = update(learner, self._batch)


def static_copy(batch: Batch) -> Batch:
    """Return the batch in tensors of its own, for ``copy_batch`` to fill."""
    return batch._replace(**{name: tensor.clone() for name, tensor in _tensors(batch).items()})


def copy_batch(source: Batch, target: Batch) -> None:
    """Copy the tensors of a batch into those of another of the same shapes."""
    for name, tensor in _tensors(target).items():
        tensor.copy_(getattr(source, name))


def _tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch._asdict().items() if torch.is_tensor(value)}


def _binding(learner: "SAC", batch: Batch) -> tuple:
    """Return what a recording depends on."""
    optimizers = [learner.actor.optimizer, learner.critic.optimizer]
    if learner.ent_coef_optimizer is not None:
        optimizers.append(learner.ent_coef_optimizer)
    return (
        tuple((name, tensor.shape) for name, tensor in _tensors(batch).items()),
        tuple((optimizer.param_groups[0]["lr"], id(optimizer.tensors())) for optimizer in optimizers),
    )
