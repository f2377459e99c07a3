"""The learners: what stable-baselines3 lacks for many tasks, as small subclasses."""

from mtrl.algo.errors import check_finite
from mtrl.algo.q_values import record_q_value
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.sac import SAC
from mtrl.algo.samples import TaskSamples
from mtrl.nonfinite import NonFinite

__all__ = ["SAC", "NonFinite", "TaskReplayBuffer", "TaskSamples", "check_finite", "record_q_value"]
