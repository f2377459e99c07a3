"""Whatever lies in a directory of somebody else, reading it ends with a sentence and not with an exception."""

import contextlib
import json
import os
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_directories import write_run
from saved_runs import save_run

from mtrl import status
from mtrl.errors import ConfigurationError, DamagedError, LoadError
from mtrl.evaluation.policy import load
from mtrl.evaluation.sources import find_sources
from mtrl.report import page
from mtrl.report.__main__ import main as report
from mtrl.rundir.checkpoints import verify
from mtrl.rundir.models import sealed
from mtrl.rundir.run import find_runs

EXAMPLES = int(os.environ.get("MTRL_EXAMPLES", "300"))
"""How much is tried by each test; 20,000 take about ten minutes."""
slowly = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

ODD = (
    "",
    "nan",
    "\x00",
    "\x1b[2J",
    "../..",
    "x" * 300,
    "reach-v3",
    10**400,
    -1,
    2**63,
    1e308,
    float("inf"),
    float("nan"),
)
VALUES = st.recursive(
    st.one_of(
        st.sampled_from(ODD), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)
    ),
    lambda values: st.one_of(
        st.lists(values, max_size=4), st.dictionaries(st.text(max_size=5), values, max_size=4)
    ),
    max_leaves=8,
)
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 40)), min_size=1, max_size=4
)


def damaged(content, changes):
    """Return bytes in which some were replaced by others, at shares of the length."""
    for share, new, length in changes:
        at = int(share * len(content))
        content = content[:at] + new + content[at + length :]
    return content


def places(values, path=()):
    """Return the path of every value in nested tables and lists."""
    found = [path]
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for key, value in items:
        found += places(value, (*path, key))
    return found


def changed(values, share, value):
    """Return nested values, one of which is another."""
    values, paths = json.loads(json.dumps(values)), places(values)[1:]
    *parents, last = paths[int(share * (len(paths) - 1))]
    table = values
    for key in parents:
        table = table[key]
    table[last] = value
    return values


def change(data, path):
    """Damage a file of a run: bytes of it, or, where it is a table of values, one of them."""
    content = path.read_bytes()
    if path.suffix in (".json", ".yaml") and data.draw(st.booleans()):
        values = yaml.safe_load(content)
        values = changed(values, data.draw(st.floats(0, 1)), data.draw(VALUES))
        if path.name == "manifest.json":
            values = sealed(values)
        dump = json.dumps if path.suffix == ".json" else yaml.safe_dump
        path.write_text(dump(values))
    else:
        path.write_bytes(damaged(content, data.draw(CHANGES)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    source = {"transfer.source": "a", "transfer.train": ["task=reach-v3"]}
    write_run(root, "a", step=60_000, total_steps=60_000, every=20_000, stages=3, overrides=source)
    write_run(root, "b", step=40_000, total_steps=60_000, every=20_000, state="running")
    (root / "plan.txt").write_text("2 runs:\n  a/seed=1\n  b/seed=1\n")
    return root


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("saved"), "experiment=mt1", "env.normalize_observations=true")


@pytest.mark.slow
@slowly
@given(data=st.data())
def test_damaged_runs_are_reported_or_left_out(written, tmp_path_factory, data):
    root = tmp_path_factory.mktemp("runs")
    shutil.copytree(written, root, dirs_exist_ok=True)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=2, unique=True)):
        change(data, path)
    for source in (root, root / "a"):
        find_runs([source])
        status.main([str(source)])
        status.main([str(source), "--json"])
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.integers(0, 9)):
            # Figures take most of the time, and read nothing that tables do not.
            patch.setattr("mtrl.report.figures._inline", lambda *_: page.Markup())
            patch.setattr("mtrl.report.figures.Picture.files", lambda self: {})
        assert report([str(root), "--out", str(root / "report")]) in (0, 2)
    shutil.rmtree(root)


@pytest.mark.slow
@slowly
@given(data=st.data())
def test_a_damaged_run_gives_a_policy_or_a_sentence(saved, tmp_path_factory, data):
    root = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(saved, root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    change(data, data.draw(st.sampled_from(files)))
    for source in (root, root / "checkpoints" / "best"):
        with contextlib.suppress(LoadError):
            load(source)
        find_sources([str(source)])
    shutil.rmtree(root)


@pytest.mark.slow
@slowly
@given(data=st.data())
def test_a_damaged_manifest_is_a_damaged_checkpoint(whole, tmp_path_factory, data):
    root = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(whole.path, root)
    (path,) = sorted(root.glob("checkpoints/step_*"))[-1:]
    change(data, path / "manifest.json")
    with contextlib.suppress(DamagedError, ConfigurationError):
        verify(path)
    shutil.rmtree(root)
