"""What the compiled step knows of a copy: one record of a structured array."""

import numpy as np

from mtrl.tasks import OBSERVATION_SIZE

FRAME_SKIP = 5
"""Simulation steps in an environment step (``SawyerXYZEnv``)."""

FRAME_SIZE = 18
"""Hand, gripper opening, object: the part of the observation that Meta-World stacks with the one before."""

PLACES = np.dtype(
    [
        (name, np.int64)
        for name in (
            "hand",
            "right_claw",
            "left_claw",
            "right_pad",
            "left_pad",
            "right_finger",
            "left_finger",
            "object",
            "object_rotation",
            "door_angle",
            "peg_head",
            "bottom_right_corner_1",
            "top_left_corner_1",
            "bottom_right_corner_2",
            "top_left_corner_2",
        )
    ]
)
"""Addresses in an mjData: of positions (3 doubles), rotations (3x3 matrix or quaternion) and joint angles."""

GOAL = np.dtype(
    [
        ("target_pos", np.float64, 3),
        ("obj_init_pos", np.float64, 3),
        ("init_tcp", np.float64, 3),
        ("hand_init_pos", np.float64, 3),
        ("window_handle_pos_init", np.float64, 3),
        ("peg_head_pos_init", np.float64, 3),
        ("obj_to_target_init", np.float64),
    ]
)
"""What rewards read of the attributes that Meta-World sets at a reset, in metres; NaN where there is none."""

COPY = np.dtype(
    [
        ("task", np.int64),
        ("model", np.int64),
        ("data", np.int64),
        ("mocap_pos", np.int64),
        ("mocap_quat", np.int64),
        ("ctrl", np.int64),
        ("warnings", np.int64, 3),
        ("places", PLACES),
        ("goal", GOAL),
        ("mocap_low", np.float64, 3),
        ("mocap_high", np.float64, 3),
        ("observation_low", np.float64, OBSERVATION_SIZE),
        ("observation_high", np.float64, OBSERVATION_SIZE),
        ("frame", np.float64, FRAME_SIZE),
        ("observation", np.float64, OBSERVATION_SIZE),
        ("reward", np.float64),
        ("success", np.bool_),
        ("unstable", np.bool_),
        ("solved", np.bool_),
        ("length", np.int64),
        ("episode_return", np.float64),
    ],
    align=True,
)
"""``task`` counts in ``native.TASKS``; the integers after it are addresses; the step writes ``frame`` and on.

The last three are of the episode: solved at any step, steps so far, sum of rewards.
"""

FLAGS = ("success", "is_success", "TimeLimit.truncated", "done")
"""What the step says of each copy besides observation and reward: the first three by their names in ``info``."""
