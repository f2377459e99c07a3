"""Meta-World at physics speed: the tasks under ``tasks/``, v2 reward and v1 of MT10's, in compiled code.

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
from importlib import metadata
from types import ModuleType

from mtrl.env.native import cache
from mtrl.env.native.records import REWARDS


def unavailable() -> str | None:
    """Return why the native environments cannot be used here, in one sentence, or None."""
    if trouble := cache.unusable():
        return trouble
    import numpy

    if numpy.lib.NumpyVersion(numpy.__version__) < "2.0.0":
        return f"numpy {numpy.__version__} rounds float32 actions differently: pip install 'numpy>=2'"
    try:
        from mtrl.env.native import mujoco_c
    except ImportError as error:
        return f"MuJoCo does not say how it lays out its data ({error}): install mujoco 3.3.0"
    return mujoco_c.check()


TESTED = "3.1.1"
"""The version of Meta-World that these environments are held to; another one is looked at before it is used."""


def lacking(tasks: Sequence[str], reward: str) -> str | None:
    """Return what another version of Meta-World lacks of what these tasks read, in one sentence, or None."""
    version = metadata.version("metaworld")
    if version == TESTED:
        return None
    from mtrl.env.metaworld import make_original
    from mtrl.env.native.models import Simulation

    for task, module in zip(tasks, load(tasks, reward)[1], strict=True):
        try:
            Simulation(make_original(task).model, module, reward)
        except (KeyError, AttributeError) as error:
            missing = str(error.args[0]).split(". ")[0]
            return (
                f"the model of {task} is not that of metaworld {TESTED} ({missing}; {version} is installed)"
            )
    return None


def load(tasks: Sequence[str], reward: str) -> tuple[Callable[..., None], list[ModuleType]]:
    """Return ``kernel.step_copies`` and the module of each task, compiled or loaded from the cache."""
    stems = [task.removesuffix("-v3").replace("-", "_") for task in tasks]
    kernel, *modules = cache.load(
        [f"{__name__}.kernel", *(f"{__name__}.tasks.{stem}" for stem in stems)], REWARDS[reward]
    )
    return kernel.step_copies, modules
