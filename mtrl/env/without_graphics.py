"""Imports MuJoCo also where ``MUJOCO_GL`` names what is not here: only what draws needs it (``camera``)."""

import os

try:
    import mujoco
except (RuntimeError, ImportError, AttributeError):
    chosen, os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL", ""), "disabled"
    try:
        import mujoco  # noqa: F401
    finally:
        os.environ["MUJOCO_GL"] = chosen
