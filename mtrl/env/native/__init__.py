"""Meta-World at physics speed: the v2 reward of the tasks under ``tasks/``, stepped in compiled code.

Physics stays MuJoCo's, called at its own addresses; what Meta-World does in Python around it is compiled here
and gives the same numbers. From the outside in:

* ``vec_env.py``: the ``VecEnv``, its threads, episodes and their bookkeeping
* ``models.py``: one simulation a copy on shared models, and the states that Meta-World's resets lead to
* ``kernel.py``: the step; ``tasks/``: one file a task, which names the task; ``maths.py``: what rewards are made of
* ``records.py``: what the step knows of a copy; ``mujoco_c.py``, ``memory.py``: MuJoCo as C sees it
* ``cache.py``: where compiled code is kept

Importing this package imports neither numba nor MuJoCo.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mtrl.env.native import cache

if TYPE_CHECKING:
    from mtrl.env.native.vec_env import NativeVecEnv

__all__ = ["NativeVecEnv", "load", "unavailable"]


def unavailable() -> str | None:
    """Return why the native environments cannot be used here, in one sentence, or None."""
    trouble = cache.unusable()
    if trouble is not None:
        return trouble
    import numpy

    if numpy.lib.NumpyVersion(numpy.__version__) < "2.0.0":
        return f"numpy {numpy.__version__} rounds float32 actions differently: pip install 'numpy>=2'"
    try:
        from mtrl.env.native import mujoco_c
    except ImportError as error:
        return f"MuJoCo does not say how it lays out its data ({error}): install mujoco 3.3.0"
    return mujoco_c.check()


def load(tasks: Sequence[str]) -> tuple[Callable[..., None], list[ModuleType]]:
    """Return ``kernel.step_copies`` and the module of each task, compiled or loaded from the cache."""
    stems = [task.removesuffix("-v3").replace("-", "_") for task in tasks]
    kernel, *modules = cache.load([f"{__name__}.kernel", *(f"{__name__}.tasks.{stem}" for stem in stems)])
    return kernel.step_copies, modules


def __getattr__(name: str) -> Any:
    if name == "NativeVecEnv":
        from mtrl.env.native.vec_env import NativeVecEnv

        return NativeVecEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
