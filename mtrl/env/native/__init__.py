"""Meta-World at physics speed: the ten tasks of MT10 with the v2 reward, stepped in compiled code.

Physics stays MuJoCo's, called at its own addresses; what Meta-World does in Python around it is compiled here
and gives the same numbers. From the outside in:

* ``vec_env.py``: the ``VecEnv``, episodes and their bookkeeping
* ``crew.py``: the threads
* ``models.py``: one simulation a copy on shared models, and the states that Meta-World's resets lead to
* ``kernel.py``: the step; ``tasks/``: one file a task; ``rewards.py``, ``geometry.py``: what they are made of
* ``cache.py``: where the compiled code is kept; ``mujoco_c.py``, ``memory.py``: MuJoCo as C sees it

Importing this package imports neither numba nor MuJoCo.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mtrl.tasks import NATIVE

if TYPE_CHECKING:
    from mtrl.env.native.vec_env import NativeVecEnv

TASKS = NATIVE
"""The tasks that there are, in the order in which the kernel counts them."""

SUPPORTED = frozenset(TASKS)

__all__ = ["SUPPORTED", "TASKS", "NativeVecEnv", "unavailable"]


def unavailable() -> str | None:
    """Return why the native environments cannot be used here, in one sentence, or None."""
    if find_spec("numba") is None:
        return "numba is not installed: pip install 'mtrl-metaworld[native]'"
    try:
        import numba
        import numpy
    except ImportError as error:
        return f"numba cannot be imported ({error}): pip install --upgrade numba"
    if numba.config.DISABLE_JIT:
        return "numba is told to compile nothing: unset NUMBA_DISABLE_JIT"
    if numpy.lib.NumpyVersion(numpy.__version__) < "2.0.0":
        return f"numpy {numpy.__version__} rounds float32 actions differently: pip install 'numpy>=2'"
    try:
        from mtrl.env.native import cache, mujoco_c
    except ImportError as error:
        return f"MuJoCo does not say how it lays out its data ({error}): install mujoco 3.3.0"
    return mujoco_c.check() or cache.unwritable()


def __getattr__(name: str) -> Any:
    if name == "NativeVecEnv":
        from mtrl.env.native.vec_env import NativeVecEnv

        return NativeVecEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
