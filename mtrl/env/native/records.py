"""What the compiled step knows of an environment copy: one record of a structured array."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.tasks import ACTION_SIZE, OBSERVATION_SIZE

FRAME_SKIP = 5
"""Simulation steps in an environment step (``SawyerXYZEnv``)."""

FRAME_SIZE = 18
"""Hand, gripper opening, two objects: the part of the observation that Meta-World stacks with the one before."""

PLACES = (
    *("hand", "right_claw", "left_claw", "right_pad", "left_pad", "right_finger", "left_finger"),
    *("object", "object_rotation", "door_angle", "peg_head"),
    *("bottom_right_corner_1", "top_left_corner_1", "bottom_right_corner_2", "top_left_corner_2"),
    *("dial_angle", "nut", "lever_angle", "second_object", "second_rotation"),
    *("nail_depth", "stick_end", "touch"),
)
"""Addresses in an mjData: of positions (3 doubles), rotations (3x3 matrix or quaternion) and joints.

``touch`` is that of a record of type ``stick_push.TOUCH``.
"""

GOAL = {
    "target_pos": ("_target_pos", 3),
    "obj_init_pos": ("obj_init_pos", 3),
    "init_tcp": ("init_tcp", 3),
    "hand_init_pos": ("hand_init_pos", 3),
    "window_handle_pos_init": ("window_handle_pos_init", 3),
    "peg_head_pos_init": ("peg_head_pos_init", 3),
    "obj_to_target_init": ("_obj_to_target_init", ()),
    "dial_push_position": ("dial_push_position", 3),
    "handle_pos_init": ("_handle_init_pos", 3),
    "stick_init_pos": ("stick_init_pos", 3),
    "max_reach_dist": ("maxReachDist", ()),
    "max_push_dist": ("maxPushDist", ()),
    "max_pull_dist": ("maxPullDist", ()),
    "max_placing_dist": ("maxPlacingDist", ()),
    "obj_height": ("objHeight", ()),
    "height_target": ("heightTarget", ()),
}
"""What rewards read of a goal, in metres: Meta-World's attribute, set at a reset, and its shape; NaN where none."""

REWARDS = {"v2": "reward", "v1": "reward_v1"}
"""The function of a task's module that computes this version of Meta-World's reward."""

_SINGLE = ("observe", "reward_function", "model", "data", "mocap_pos", "mocap_quat", "ctrl")
ADDRESSES = [
    *((name, np.int64) for name in _SINGLE),
    ("warnings", np.int64, 3),
    ("places", [(name, np.int64) for name in PLACES]),
]
"""Of the two compiled functions of the copy's task, and of what belongs to its simulation."""

SNAPSHOT = [
    ("goal", [(name, np.float64, shape) for name, (_, shape) in GOAL.items()]),
    ("mocap_low", np.float64, 3),
    ("mocap_high", np.float64, 3),
    ("observation_low", np.float64, OBSERVATION_SIZE),
    ("observation_high", np.float64, OBSERVATION_SIZE),
    ("frame", np.float64, FRAME_SIZE),
    ("observation", np.float64, OBSERVATION_SIZE),
]
"""What a reset to a goal decides; the step writes ``frame`` and ``observation``."""

STEP = [
    ("action", np.float64, ACTION_SIZE),
    ("single", np.bool_),
    ("reward", np.float64),
    ("success", np.bool_),
    ("unstable", np.bool_),
]
"""What a step is given and returns; ``single`` says that the action came in float32 (see ``maths.rounded``)."""

EPISODE = [
    ("solved", np.bool_),
    ("length", np.int64),
    ("episode_return", np.float64),
    ("first_distance", np.float64),
]
"""Solved at any step, steps so far, sum of rewards; what the reward of bin-picking-v3 has kept of the first step."""

COPY = np.dtype([*ADDRESSES, *SNAPSHOT, *STEP, *EPISODE], align=True)

Copy = np.record
"""A record of type ``COPY``, in compiled code."""

Place = str | Callable[[Any], NDArray[Any]]
"""Which array of an ``MjData``: "body obj xpos" is ``data.body("obj").xpos``; or what returns it."""

FLAGS = ("success", "is_success", "TimeLimit.truncated", "done")
"""What the step says of each copy besides observation and reward: the first three by their names in ``info``."""
