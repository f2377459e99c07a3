"""The learners: what stable-baselines3 lacks for many tasks, as small subclasses."""

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.sac import SAC

__all__ = ["SAC", "TaskReplayBuffer"]
