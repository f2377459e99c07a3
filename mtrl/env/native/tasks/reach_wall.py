"""reach-wall-v3: bring the gripper to a point behind a wall. Meta-World's reward knows nothing of the wall."""

from mtrl.env.native.tasks.reach import observe, places, reward

__all__ = ["observe", "places", "reward"]
