"""The tasks of Meta-World, the task sets built from them, and their difficulties. Imports nothing heavy.

The names are written out rather than asked of ``metaworld`` because a configuration is checked before
MuJoCo is imported; a test holds them to the installed package.
"""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from mtrl.errors import ConfigurationError


def _tasks(names: str) -> tuple[str, ...]:
    return tuple(f"{name}-v3" for name in names.split())


# Meta-World's sets, in its order.
MT10 = _tasks("""
    reach push pick-place door-open drawer-open drawer-close button-press-topdown peg-insert-side
    window-open window-close
""")
MT25 = MT10 + _tasks("""
    coffee-pull pick-out-of-hole disassemble pick-place-wall basketball stick-pull button-press-wall
    faucet-open door-lock lever-pull sweep-into faucet-close coffee-button button-press-topdown-wall
    dial-turn
""")
MT50 = _tasks("""
    assembly basketball bin-picking box-close button-press-topdown button-press-topdown-wall button-press
    button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock
    door-open door-unlock hand-insert drawer-close drawer-open faucet-open faucet-close hammer
    handle-press-side handle-press handle-pull-side handle-pull lever-pull pick-place-wall pick-out-of-hole
    pick-place plate-slide plate-slide-side plate-slide-back plate-slide-back-side peg-insert-side
    peg-unplug-side soccer stick-push stick-pull push push-wall push-back reach reach-wall shelf-place
    sweep-into sweep window-open window-close
""")
MT3 = MT10[:3]
"""Reach, push, pick-place: the predecessor's set of three."""

_NATIVE_FILES = {path.stem for path in (Path(__file__).parent / "env" / "native" / "tasks").glob("*.py")}

NATIVE = {
    "v1": MT10,
    "v2": tuple(task for task in MT50 if task.removesuffix("-v3").replace("-", "_") in _NATIVE_FILES),
}
"""Tasks that the native backend has, by version of the reward; those of v2 have a file of their name."""

DIFFICULTY = {
    "reach-v3": 1,
    "push-v3": 2,
    "button-press-topdown-v3": 2,
    "door-open-v3": 3,
    "drawer-open-v3": 3,
    "drawer-close-v3": 3,
    "window-open-v3": 4,
    "window-close-v3": 4,
    "pick-place-v3": 4,
    "peg-insert-side-v3": 5,
}
"""Difficulty of the MT10 tasks from 1 (easiest) to 5, in the order in which a sequential curriculum takes them."""

GOALS = 50
"""Goals of a task, as in Meta-World's benchmarks."""
HELD_OUT_SEED = 1_000_003
"""Seed of the goals kept for ``evaluation.goals=heldout``: fixed, so that every run is tested on the same ones."""
HORIZON = 500
"""Meta-World's limit of an episode, in environment steps; stepping past it raises there."""
OBSERVATION_SIZE = 39
"""Size of a Meta-World observation without a task id."""
ACTION_SIZE = 4
"""Hand displacement (x, y, z) and gripper effort."""


def closest(name: str, choices: Sequence[str]) -> str | None:
    """Return the choice nearest in spelling to ``name``, whatever its case, or None if none is near."""
    by_spelling = {choice.lower(): choice for choice in choices}
    found = get_close_matches(name.lower(), by_spelling, n=1, cutoff=0.55)
    return by_spelling[found[0]] if found else None


def check_tasks(tasks: Sequence[str], key: str = "env.tasks") -> None:
    """Raise ConfigurationError unless ``tasks``, called ``key`` there, are one or more distinct tasks of Meta-World."""
    if isinstance(tasks, str):
        raise ConfigurationError(f"tasks={tasks!r} must be a list of names: use [{tasks!r}]")
    if len(tasks) == 0:
        raise ConfigurationError(f"the task set is empty: name at least one Meta-World task in {key}")
    for task in tasks:
        if task not in MT50:
            stem = str(task).rsplit("-v", 1)[0]
            nearest = f"{stem}-v3" if f"{stem}-v3" in MT50 else closest(str(task), MT50)
            hint = f"did you mean {nearest!r}?" if nearest else "the 50 tasks are listed in mtrl/tasks.py"
            where = "" if key == "env.tasks" else f"{key}: "
            raise ConfigurationError(f"{where}{task!r} is not a Meta-World task: {hint}")
    repeated = sorted(task for task, count in Counter(tasks).items() if count > 1)
    if repeated:
        raise ConfigurationError(f"{', '.join(repeated)} stands twice in {key}: name each task once")


def check_seed(seed: int) -> None:
    """Raise ConfigurationError, in one sentence, unless ``seed`` may decide the goals that a run trains on."""
    if not 0 <= seed < 2**32:
        raise ConfigurationError(f"seed={seed} must lie in 0..{2**32 - 1}")
    if seed == HELD_OUT_SEED:
        problem = "makes the held-out goals, which nothing may train on"
        raise ConfigurationError(f"seed={seed} {problem}: use another seed")
