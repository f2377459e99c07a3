import contextlib
import io
import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from run_directories import MT3, write_run

from mtrl.errors import RefusedError, UnreadableRunError
from mtrl.rundir.checkpoints import whole_checkpoints
from mtrl.rundir.models import read_lineage, sealed
from mtrl.rundir.read import read_table
from mtrl.rundir.run import Run, curves_of, find_runs, read_runs
from mtrl.status import main as status_main


def damage(path, change):
    path.write_bytes(change(path.read_bytes()))


def test_a_whole_run_is_read_without_a_word(tmp_path):
    run = Run(write_run(tmp_path, seed=3, stages=2))
    assert len(run.evaluation) == 20 * len(MT3)
    assert set(run.evaluation["task"]) == set(MT3)
    assert run.training["stage"].tolist() == sorted(run.training["stage"])
    assert (run.seed, run.tasks, run.state) == (3, MT3, "finished")
    assert (run.step, run.total_steps) == (200_000, 200_000)
    assert run.seconds == pytest.approx(200_000 / 400, rel=0.1)
    assert (run.section("algo")["learning_rate"], run.version) == (3e-4, "0.1.0")
    assert run.problems == []


def test_a_torn_last_line_is_ignored_and_reported_even_if_it_looks_whole_and_a_log_may_be_absent(tmp_path):
    path, names = write_run(tmp_path), ("evaluation.csv", "timing.csv", "metrics.csv")

    def lengths(run):
        return [len(run.evaluation), len(run.timing), len(run.training)]

    whole = lengths(Run(path))
    for name in names:
        damage(path / name, lambda data: data[:-1])
    run = Run(path)
    assert lengths(run) == [length - 1 for length in whole]
    assert run.problems == [f"{path / name}: the last line is torn and ignored" for name in names]
    for name in names:
        (path / name).unlink()
    run = Run(path)
    assert (lengths(run), run.seconds, run.problems) == ([0, 0, 0], None, [])


def test_every_cut_of_a_log_gives_the_lines_before_it(tmp_path):
    path = tmp_path / "timing.csv"
    data = b"step,seconds,learning\n1000,1.5,\n2000,3.25,0.5\n3000,4.75,\n"
    for end in range(len(data) + 1):
        path.write_bytes(data[:end])
        table = read_table(path)
        lines = data[:end].count(b"\n") - 1
        assert len(table) == max(lines, 0)
        if lines > 0:
            assert table["step"].tolist() == [1000, 2000, 3000][:lines]
            assert table["seconds"].tolist() == [1.5, 3.25, 4.75][:lines]
        assert bool(table.problems) == (end > 0 and data[end - 1 : end] != b"\n")


TWO_LINES = b"7,7\n7,7,7,7\n"  # They make up for each other's cells.
DAMAGED = (b"7000,0.5\n", b"7000,0.5,0.1,9\n", b"7000,zero,0.1\n", b"\0\0\0\n", b"\xff\xfe,1,2\n", b"\n")


@pytest.mark.parametrize("line", [*DAMAGED, TWO_LINES])
def test_a_damaged_line_is_left_out_and_its_number_reported(tmp_path, line):
    path = tmp_path / "timing.csv"
    path.write_bytes(b"step,seconds,learning\n1,1,1\n" + line + b"2,2,2\n")
    table = read_table(path)
    assert table["step"].tolist() == [1, 2]
    what = "2 lines, the first one line 3, are" if line is TWO_LINES else "line 3 is"
    assert table.problems == [f"{path}: {what} damaged and ignored"]


def test_every_number_is_read_exactly_and_an_empty_cell_is_no_number(tmp_path):
    random = np.random.default_rng(0)
    values = np.where(random.random((300, 6)) < 0.3, np.nan, random.random((300, 6)))
    lines = [",".join("" if np.isnan(cell) else repr(float(cell)) for cell in row) for row in values]
    path = tmp_path / "metrics.csv"
    path.write_text("a,b,c,d,e,f\n" + "\n".join(lines) + "\n")
    table = read_table(path)
    assert table.problems == []
    for name, column in zip("abcdef", values.T, strict=True):
        np.testing.assert_array_equal(table[name], column)
    assert list(read_table(path, columns=("e",)).columns) == ["e"]


def test_impossible_success_rates_and_an_evaluation_without_its_columns_are_left_out(tmp_path):
    path = write_run(tmp_path)
    rows = b"210000,reach-v3,train,10,1.5,0,500\n210000,push-v3,train,0,0.5,0,500\n"
    damage(path / "evaluation.csv", lambda data: data + rows)
    run = Run(path)
    assert run.evaluation["step"].max() == 200_000
    assert "2 rows whose success rate or episodes are impossible" in run.problems[0]
    (path / "evaluation.csv").write_text("step,reward\n1,2\n")
    run = Run(path)
    assert len(run.evaluation) == 0
    assert "lacks task, goals, episodes, success_rate" in run.problems[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"seed: [1\n", "line 2"),
        (b"\xff\xfe\x00", "is no text"),
        (b"just words\n", "holds no configuration"),
        (b"a: &a [x, x]\nb: [*a, *a]\n", "uses aliases"),
        (b"seed: !!python/object/apply:os.system ['touch pwned']\n", "could not determine a constructor"),
        (b"seed: !!bool banana\n", "banana"),
        (b"seed: !!timestamp banana\n", "cannot be read"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"#" * (5 * 2**20), "5.0 MiB long"),
    ],
)
def test_an_unreadable_configuration_leaves_the_run_out_with_one_sentence(tmp_path, content, reason):
    bad, good = (write_run(tmp_path, f"{name}-00000000") for name in ("bad", "good"))
    (bad / "config.yaml").write_bytes(content)
    runs, (problem,) = read_runs([tmp_path])
    assert [run.path for run in runs] == [good]
    assert str(bad) in problem
    assert reason in problem
    assert "\n" not in problem
    with pytest.raises(UnreadableRunError):
        Run(bad)


NO_FLOAT = b'{"step": 1' + b"0" * 400 + b', "total_steps": NaN}'


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000, NO_FLOAT])
def test_a_damaged_status_is_reported_and_the_logs_still_give_the_step(tmp_path, content):
    path = write_run(tmp_path)
    damage(path / "config.yaml", lambda data: data.replace(b"total_steps: 200000", b"total_steps: 2e5"))
    (path / "status.json").write_bytes(content)
    run = Run(path)
    assert (run.state, run.step, run.total_steps, run.host) == ("unknown", 200_000, 200_000, "")
    assert len(run.problems) == (0 if content is NO_FLOAT else 1)


def test_a_run_whose_process_was_killed_has_died_and_one_elsewhere_that_logs_nothing_is_silent(tmp_path):
    process = subprocess.Popen(["sleep", "60"])
    path = write_run(tmp_path, state="running", step=50_000, pid=process.pid)
    assert Run(path).state == "running"
    process.kill()
    process.wait()
    assert Run(path).state == "died"
    path = write_run(tmp_path / "other", state="running", step=50_000, host="elsewhere")
    assert Run(path).state == "running"
    for file in path.iterdir():
        os.utime(file, (time.time() - 3600,) * 2)
    assert Run(path).state == "silent"


def test_runs_are_found_below_any_directory_and_once_and_a_place_without_runs_is_named(tmp_path):
    paths = [write_run(tmp_path / "mt3", name, seed) for name in ("a-1", "b-2") for seed in (1, 2)]
    (tmp_path / "mt3" / "report").mkdir()
    assert find_runs([tmp_path]) == (sorted(paths), [])
    assert find_runs([paths[0], tmp_path / "mt3" / "a-1", tmp_path]) == (sorted(paths), [])
    (tmp_path / "file").write_text("")
    runs, problems = find_runs([tmp_path / "mt3" / "report", tmp_path / "file", tmp_path / "none"])
    assert runs == []
    for problem, words in zip(problems, ("holds no run", "is a file", "does not exist"), strict=True):
        assert words in problem


def plan(folder, *paths):
    folder.mkdir(parents=True)
    (folder / "plan.txt").write_text(f"{len(paths)} runs:\n" + "".join(f"  {path}\n" for path in paths))
    return folder


def test_the_directory_of_a_sweep_stands_for_the_runs_of_its_plan(tmp_path, monkeypatch):
    paths = [write_run(tmp_path / "outputs" / "mt3", seed=seed) for seed in (1, 2)]
    write_run(tmp_path / "outputs" / "mt3", seed=3)
    names = [path.relative_to(tmp_path) for path in paths]
    first = plan(tmp_path / "multirun" / "day" / "noon", *names)
    second = plan(tmp_path / "multirun" / "day" / "evening", names[0], names[0].with_name("seed=9"))
    # The plan is relative to where its sweep was started, wherever its reader is.
    assert find_runs([first]) == (paths, [])
    monkeypatch.chdir(tmp_path)
    assert find_runs([first.relative_to(tmp_path)]) == (names, [])
    runs, (problem,) = find_runs([second])
    assert runs == names[:1]
    assert "seed=9 is planned in" in problem
    assert "did not start" in problem
    assert find_runs(["multirun"])[0] == names
    assert find_runs([first, "outputs"])[0] == [*names, names[0].with_name("seed=3")]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xff", b"1 runs:\n  \x00\n", b"1 runs:\n  /nowhere\n"])
def test_a_damaged_plan_is_one_sentence(tmp_path, content):
    folder = plan(tmp_path / "sweep")
    (folder / "plan.txt").write_bytes(content)
    runs, (problem,) = find_runs([folder])
    assert runs == []
    assert "plan.txt" in problem


EXAMPLES = int(os.environ.get("MTRL_EXAMPLES", "200"))
WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.just(10**400)
VALUES = st.recursive(
    SCALARS, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(WORDS, inside, max_size=3)
)
STATUS = (
    "state",
    "step",
    "total_steps",
    "starts",
    "result",
    "checkpoint",
    "transfer",
    "curriculum",
    "hardware",
)
CONFIG = ("seed", "task", "total_steps", "env", "algo", "evaluation", "transfer", "experiment")
STARTS = st.lists(st.dictionaries(st.sampled_from(["pid", "host", "time", "step"]), VALUES), max_size=2)
STATES = st.sampled_from(["running", "finished", "failed"])


def damaged_files():
    """Return a strategy for the contents that some files of a run have instead of their own."""
    status = st.dictionaries(st.sampled_from(STATUS), VALUES | STARTS | STATES).map(json.dumps)
    config = st.dictionaries(st.sampled_from(CONFIG), VALUES).map(yaml.safe_dump)
    cells = st.lists(st.lists(SCALARS.map(str), max_size=8).map(",".join), max_size=5).map("\n".join)
    names = (
        "step,task,goals,episodes,success_rate,mean_return,mean_length",
        "step,seconds,steps_per_second",
        "step",
    )
    log = st.tuples(st.sampled_from(names), cells).map("\n".join) | cells
    contents = {
        "status.json": status,
        "config.yaml": config,
        "environment.json": status,
        "lineage.json": status,
    }
    contents |= dict.fromkeys(("evaluation.csv", "metrics.csv", "timing.csv"), log)
    text = st.sampled_from(sorted(contents)).flatmap(lambda name: st.tuples(st.just(name), contents[name]))
    files = text.map(lambda file: (file[0], file[1].encode("utf-8", "replace")))
    return st.lists(files | st.tuples(st.sampled_from(sorted(contents)), st.binary(max_size=60)), max_size=4)


def read_everything(folder, files):
    run, _ = (
        write_run(folder, name, step=20_000, stages=2) for name in ("damaged-00000000", "other-00000000")
    )
    for name, content in files:
        (run / name).write_bytes(content)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert status_main([str(folder)]) == 0
        assert status_main([str(folder), "--json"]) == 0
    assert "other-00000000" in shown.getvalue()
    read = Run(run, damaged=True)
    assert read.success is None or 0 <= read.success < 1e18
    curves_of(read, read.tasks)
    read_lineage(run)
    for problem in read.problems:
        assert "\n" not in problem


@pytest.mark.slow
def test_no_content_of_its_files_makes_the_reading_of_a_run_fail(tmp_path):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(damaged_files())
    def search(files):
        folder = tmp_path / "runs"
        shutil.rmtree(folder, ignore_errors=True)
        read_everything(folder, files)

    search()


SEGMENTS = st.lists(
    st.fixed_dictionaries(dict.fromkeys(("low", "high", "size", "sha256"), VALUES)), max_size=2
)
FILES = st.dictionaries(
    st.sampled_from(["model.zip", "state.json", "state.npz", "../x", "\0", "y" * 300]), VALUES
)
ENTRIES = ("format", "step", "total_added", "configuration", "versions", "hardware", "lineage")


@pytest.mark.slow
def test_no_manifest_makes_the_verification_fail(tmp_path):
    folder = tmp_path / "checkpoints" / "step_1"
    folder.mkdir(parents=True)
    whole = {"format": 1, "step": 1, "total_added": 1, "configuration": {}, "versions": {}}
    entries = st.dictionaries(st.sampled_from(ENTRIES), VALUES, max_size=2)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(entries, FILES | VALUES, SEGMENTS | VALUES)
    def search(entries, files, segments):
        manifest = sealed(whole | {"files": files, "segments": segments} | entries)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(RefusedError) as refused:
            whole_checkpoints(tmp_path)
        assert "\n" not in str(refused.value)

    search()
