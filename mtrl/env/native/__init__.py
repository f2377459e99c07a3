"""Meta-World at physics speed: the ten tasks of MT10 with the v2 reward, stepped in compiled code.

Physics stays MuJoCo's, called at its own addresses; what Meta-World does in Python around it is compiled here
and gives the same numbers. From the outside in:

* ``vec_env.py``: the ``VecEnv``, episodes and their bookkeeping
* ``crew.py``: the threads
* ``models.py``: one simulation a copy on shared models, and the states that Meta-World's resets lead to
* ``kernel.py``: the step; ``tasks/``: one file a task; ``rewards.py``, ``geometry.py``: what they are made of
* ``mujoco_c.py``, ``memory.py``: MuJoCo as C sees it; ``mtrl/compiled.py`` keeps the compiled code

Importing this package imports neither numba nor MuJoCo.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mtrl.env.native import cache as compiled
from mtrl.tasks import NATIVE

if TYPE_CHECKING:
    from mtrl.env.native.vec_env import NativeVecEnv

TASKS = NATIVE
"""The tasks that there are, in the order in which the kernel counts them."""

SUPPORTED = frozenset(TASKS)

KERNEL = "mtrl.env.native.kernel"
"""The module whose functions are compiled."""

__all__ = ["KERNEL", "SUPPORTED", "TASKS", "NativeVecEnv", "compiled_step", "unavailable"]


def unavailable() -> str | None:
    """Return why the native environments cannot be used here, in one sentence, or None."""
    trouble = compiled.unusable(KERNEL)
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


def compiled_step() -> Callable[..., None]:
    """Return ``kernel.step_copies``, loaded from the cache or compiled into it with a message on stderr."""
    return compiled.load(KERNEL, "the native environments").step_copies


def __getattr__(name: str) -> Any:
    if name == "NativeVecEnv":
        from mtrl.env.native.vec_env import NativeVecEnv

        return NativeVecEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
