"""Imports point one way, keep to what is public, and load nothing heavy before a configuration is valid."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tiny_runs import REPOSITORY, TINY

PACKAGE = REPOSITORY / "mtrl"
HEAVY = ("torch", "mujoco", "metaworld", "stable_baselines3", "numba", "torch._dynamo")

LAYERS = (
    ("mtrl", "mtrl.errors", "mtrl.text", "mtrl.streams", "mtrl.packages"),
    ("mtrl.tasks",),
    ("mtrl.config.values", "mtrl.config.types"),
    ("mtrl.config", "mtrl.hardware", "mtrl.signals", "mtrl.statistics", "mtrl.rundir"),
    ("mtrl.env",),
    ("mtrl.algo", "mtrl.variant"),
    ("mtrl.checkpoint",),
    ("mtrl.evaluation",),
    ("mtrl.curriculum", "mtrl.transfer"),
    ("mtrl.checks", "mtrl.experiment"),
    ("mtrl.training",),
    ("mtrl.train",),
    ("mtrl.start",),
    (
        "mtrl.sweep",
        "mtrl.status",
        "mtrl.play",
        "mtrl.report",
        "mtrl.tune",
        "mtrl.benchmark",
        "mtrl.evaluation.__main__",
    ),
    ("mtrl.__main__",),
)
"""From what everything may import to what nothing may. A module is on the floor of its longest prefix named here."""


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every import of mtrl's, inside functions too, but not those for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "mtrl")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if (node.module or "").split(".")[0] == "mtrl":
                yield from ((node.module or "", alias.name) for alias in node.names)
        else:
            yield from imports_of(node)


@cache
def imported_by(module: str) -> frozenset[str]:
    """Return the modules of mtrl that ``module`` names."""
    names = set()
    for origin, name in imports_of(ast.parse(MODULES[module].read_text())):
        names.add(f"{origin}.{name}" if f"{origin}.{name}" in MODULES else origin)
    return frozenset(names)


@cache
def reached_from(module: str) -> frozenset[str]:
    reached, open_ = set(), [module]
    while open_:
        for name in imported_by(open_.pop()):
            if name not in reached:
                reached.add(name)
                open_.append(name)
    return frozenset(reached)


def floor_name(module: str) -> str:
    names = module.split(".")
    prefixes = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next(prefix for prefix in prefixes if prefix in FLOOR)


def layer_of(module: str) -> int:
    return FLOOR[floor_name(module)]


FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names}


def test_every_layer_is_there():
    assert [name for name in FLOOR if name not in MODULES] == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_imports_what_stands_above_it(module):
    assert [name for name in imported_by(module) if layer_of(name) > layer_of(module)] == []


def test_there_is_no_circle_of_imports_those_inside_functions_included():
    """A module that reaches itself is in a circle with everything on the way."""
    assert {module for module in MODULES if module in reached_from(module)} == set()


def test_every_module_has_a_floor_and_only_the_package_itself_that_of_all():
    assert [module for module in MODULES if floor_name(module) == "mtrl"] == ["mtrl"]


READERS = ("mtrl.report", "mtrl.status", "mtrl.transfer.comparison")


@pytest.mark.parametrize("side", ["report.__main__", "status", "rundir.run", "statistics", "rundir.read"])
def test_what_reads_run_directories_imports_nothing_that_trains(side):
    reached = {name for name in reached_from(f"mtrl.{side}") if not name.startswith(READERS)}
    assert [name for name in reached if layer_of(name) > layer_of("mtrl.rundir")] == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_names_the_private_parts_of_another(module):
    tree = ast.parse(MODULES[module].read_text())
    named = [f"{origin}.{name}" for origin, name in imports_of(tree) if is_private(name)]
    imported = {name.split(".")[-1] for name in imported_by(module)}
    attributes = [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)
    ]
    named += [ast.unparse(node) for node in attributes if ast.unparse(node.value) in imported]
    assert named == []


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def loaded_after(code: str, cwd: Path) -> set[str]:
    """Return which heavy packages are loaded in a new process once ``code`` has run."""
    report = f"import sys\nprint('LOADED', *(set(sys.modules) & {set(HEAVY)}))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split()[1:])


LIGHT = """
from mtrl.__main__ import main
for words in {commands}:
    try:
        main(words.split())
    except SystemExit as end:
        assert end.code in (0, 2), (words, end.code)
"""


def test_help_composition_and_refusals_load_nothing_heavy(tmp_path):
    commands = [
        "--help",
        "--cfg job",
        "experiment=mt10 dry_run=true",
        "-m seed=1,2 dry_run=true",
        "algorithm=sac",
        "env.reward=v3",
        "experiment=mt10 task=reach-v3",
        "algo.buffer_size=1e13",
        "experiment=mt3 variant=multihead curriculum=none dry_run=true",
    ]
    assert loaded_after(LIGHT.format(commands=commands), tmp_path) == set()


def test_importing_mtrl_loads_nothing_heavy(tmp_path):
    assert loaded_after("import mtrl", tmp_path) == set()


def test_status_and_report_load_nothing_heavy(tmp_path):
    from run_directories import write_run

    for seed in (1, 2):
        write_run(tmp_path, seed=seed)
    code = "from mtrl import status\nfrom mtrl.report.__main__ import main\n"
    code += f"assert status.main([{str(tmp_path)!r}]) == 0\nassert main([{str(tmp_path)!r}]) == 0"
    assert loaded_after(code, tmp_path) == set()


TRAIN = """
from mtrl.experiment import compose_run
from mtrl.start import run_one
assert run_one(compose_run({words})) == 0
"""


def test_a_run_that_compiles_nothing_leaves_the_compiler_out(tmp_path):
    """Its import would take longer than everything else before the first step."""
    loaded = loaded_after(TRAIN.format(words=[*TINY, f"output={tmp_path}"]), tmp_path)
    assert loaded >= {"torch", "stable_baselines3"}
    assert "torch._dynamo" not in loaded
