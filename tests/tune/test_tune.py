"""``python -m mtrl.tune``: trials are runs of their own, hopeless ones end early, and nothing is done twice."""

import csv
import functools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from tiny_runs import REPOSITORY, TINY, until, without

from mtrl.config import compose
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.lock import RunLock
from mtrl.tune.__main__ import main

optuna = pytest.importorskip("optuna")
from mtrl.tune import study as searching  # noqa: E402
from mtrl.tune.plan import as_overrides, plan, read_space  # noqa: E402
from mtrl.tune.study import begun, learning_curve, open_study, score, to_the_end, tuning_file  # noqa: E402

SPACE = """\
algo.learning_rate: {low: 1e-4, high: 3e-3, log: true}
algo.updates: {low: 1, high: 3}
variant.critic_layers: {choices: [[16, 16], [8]]}
variant.layer_norm: {choices: [true, false]}
"""

# Stands for ``python -m mtrl``: a run whose success is the tenth part of algo.updates, and whose last evaluation
# waits for a file of the name "go" where its seed says so.
FAKE = """
import os, sys, time
from pathlib import Path
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.lock import holder_of
from mtrl.rundir.write import write_yaml
composition = compose_run(sys.argv[1:])
cfg, path = composition.config, run_directory(composition)
with open("calls.txt", "a") as calls:
    print(cfg.seed, cfg.algo.updates, file=calls)
if cfg.algo.updates == 3 and Path("crash").exists():
    sys.exit(1)
if holder_of(path):
    sys.exit(2)
path.mkdir(parents=True, exist_ok=True)
Path("pid").write_text(str(os.getpid()))
write_yaml(path / "config.yaml", composition.values)
with (path / "evaluation.csv").open("w") as log:
    print("step,task,goals,episodes,success_rate,mean_return,mean_length", file=log, flush=True)
    for step in (100, 200, 300):
        if step == 300 and Path("wait").exists():
            time.sleep(60)
        print(f"{step},reach-v3,train,10,{cfg.algo.updates * step / 3000:.4g},1,1", file=log, flush=True)
        time.sleep(0.06)
"""

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks into /proc")


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    (tmp_path / "space.yaml").write_text(SPACE)
    return [*TINY, "search=space.yaml", "name=s"]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(searching, "COMMAND", (sys.executable, str(tmp_path / "fake.py")))
    monkeypatch.setattr(searching, "LOOK_EVERY", 0.05)
    return tmp_path


@functools.cache
def planned(*further):
    """Return the checked search of ``words`` and further ones, whose paths are relative to the present directory."""
    return plan([*TINY, "search=space.yaml", "name=s", *further])


def rows(tmp_path, output="outputs"):
    with (tmp_path / output / "tune/s/trials.csv").open() as file:
        return list(csv.DictReader(file))


def states(study):
    return [one.state.name for one in study.trials]


def test_a_search_trains_runs_and_goes_on_where_it_was(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(searching, "LOOK_EVERY", 0.2)
    (tmp_path / "mtrl").mkdir()
    (tmp_path / "mtrl" / "__init__.py").write_text("raise SystemExit('this is another mtrl')")
    own = ["seeds=4", "sampler=random", "total_steps=200", "output=é =,#(x?%"]
    words = [*without(words, own), *own]
    assert main([*words, "n_trials=1"]) == 0
    (run,) = (tmp_path / "é =,#(x?%/tune/s/runs").rglob("seed=*")
    (row,) = rows(tmp_path, "é =,#(x?%")
    assert run.name == "seed=4"
    assert (row["state"], float(row["success_rate"])) == ("complete", learning_curve(run)[-1][1])
    assert [step for step, _ in learning_curve(run)] == [150, 200]
    capsys.readouterr()
    assert main([*words, "n_trials=1"]) == 0
    assert "trial 0:" not in capsys.readouterr().out, "a search that is done has nothing to do"


def test_the_best_is_written_as_a_tuning_file_that_composes(words, fake, monkeypatch):
    search = planned("seeds=1,2")
    study = open_study(search)
    study.tell(study.ask(search.space), 0.0)
    assert main([*words, "n_trials=2", "seeds=1,2"]) == 0
    assert [row["state"] for row in rows(fake)] == ["complete"] * 2
    calls = (fake / "calls.txt").read_text().split()
    assert calls[0::2] == ["1", "2"], "each trial has two seeds"
    best = max(rows(fake), key=lambda row: float(row["success_rate"]))
    assert float(best["success_rate"]) == pytest.approx(int(best["algo.updates"]) / 10)
    written = fake / "outputs/tune/s/best.yaml"
    conf = fake / "conf"
    shutil.copytree(compose.CONF, conf)
    (conf / "tuning" / "mt1-sac.yaml").write_text(written.read_text())
    before = compose_run([*TINY, f"algo.learning_rate={best['algo.learning_rate']}"]).config
    monkeypatch.setattr(compose, "CONF", conf)
    cfg = compose_run([]).config
    assert cfg.algo.learning_rate == before.algo.learning_rate == float(best["algo.learning_rate"])
    assert cfg.algo.updates == int(best["algo.updates"])
    assert cfg.variant.critic_layers == yaml.safe_load(best["variant.critic_layers"])
    assert cfg.variant.layer_norm == (best["variant.layer_norm"] == "True")
    assert (cfg.algo.gamma, cfg.algo.tau) == (before.algo.gamma, before.algo.tau)
    assert (cfg.algo.batch_size, cfg.env.horizon) == (before.algo.batch_size, 20)


@pytest.mark.parametrize("name", ["..", ".", "a/../..", "/somewhere"])
def test_a_search_stays_below_its_directory(words, name):
    with pytest.raises(ConfigurationError, match="is no directory below outputs/tune"):
        plan([*words[:-1], f"name={name}"])


def test_a_search_without_a_completed_trial_says_why_and_fails(words, monkeypatch, capsys):
    def fail(*_):
        raise searching.TrialFailedError("the moon is full")

    monkeypatch.setattr(searching, "run_seed", fail)
    assert main([*words, "n_trials=2"]) == 1
    assert "no trial was completed (2 failed, the last because the moon is full)" in capsys.readouterr().err


def good_trials(study, n):
    for _ in range(n):
        one = study.ask()
        for step in (100, 200, 300):
            one.report(step / 1000, step)
        study.tell(one, 0.3)


@LINUX
def test_a_hopeless_trial_is_pruned_and_its_run_ended(words, fake):
    study = open_study(planned("seeds=1"))
    good_trials(study, 3)
    study.enqueue_trial({"algo.updates": 1})
    (fake / "wait").touch()
    assert main([*words, "n_trials=4", "seeds=1"]) == 0
    assert [row["state"] for row in rows(fake)] == ["complete"] * 3 + ["pruned"]
    assert study.trials[3].intermediate_values[100] == pytest.approx(0.0333, abs=1e-3)
    assert has_ended(int((fake / "pid").read_text()))


@pytest.mark.slow
def test_a_crash_takes_one_trial_and_a_row_of_them_the_search(words, fake, capsys):
    (fake / "crash").touch()
    study = open_study(planned("seeds=1"))
    for updates in (1, 3, 2):
        study.enqueue_trial({"algo.updates": updates})
    assert main([*words, "n_trials=3", "seeds=1"]) == 0
    assert [row["state"] for row in rows(fake)] == ["complete", "fail", "complete"]
    assert "trial 1 failed with exit code 1: see " in capsys.readouterr().err
    for _ in range(3):
        study.enqueue_trial({"algo.updates": 3})
    assert main([*words, "n_trials=9", "seeds=1"]) == 1
    assert "3 trials failed one after the other" in capsys.readouterr().err
    assert [row["state"] for row in rows(fake)[3:]] == ["fail"] * 3


def search_in_a_trial(fake, words):
    """Return the process of a search whose first run has been evaluated and now waits."""
    (fake / "wait").touch()
    script = (
        f"import sys\nfrom mtrl.tune import study\nstudy.COMMAND = {searching.COMMAND!r}\nstudy.LOOK_EVERY = 0.05\n"
        "from mtrl.tune.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, *words], cwd=fake)
    until(lambda: list(fake.rglob("evaluation.csv")))
    return process


def has_ended(pid):
    """Tell whether a process has ended, also where nobody has asked for its exit code yet (state Z)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@LINUX
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow)],
)
def test_an_ended_search_takes_the_run_with_it_and_its_trial_is_done_again_and_counted_once(
    words, fake, number, code
):
    words = [*words, "n_trials=1", "seeds=1"]
    process = search_in_a_trial(fake, words)
    run = int((fake / "pid").read_text())
    assert not has_ended(run)
    process.send_signal(number)
    assert process.wait(30) == code
    until(lambda: has_ended(run), 20)
    (fake / "wait").unlink()
    study = open_study(planned("seeds=1"))
    assert states(study) == ["FAIL", "WAITING"]
    assert begun(study) == 0
    assert main(words) == 0
    assert states(study) == ["FAIL", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params
    first, again = (fake / "calls.txt").read_text().splitlines()
    assert first == again


def test_a_search_killed_while_it_writes_holds_nobody_up(words):
    search = planned("seeds=1")
    study = open_study(search)
    database, fixed = search.folder / "study.db", study.user_attrs["fixed"]
    script = (
        "import sqlite3, sys, time\ndatabase = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('BEGIN EXCLUSIVE')\ndatabase.execute('DELETE FROM study_user_attributes')\n"
        "print('held', flush=True)\ntime.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(database)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(database, timeout=0).execute("SELECT * FROM studies")
    holder.kill()
    holder.wait()
    before = time.monotonic()
    study = open_study(search)
    study.tell(study.ask(search.space), 0.5)
    assert time.monotonic() - before < 20
    assert study.user_attrs["fixed"] == fixed, "what was written in part is undone"


def test_a_run_that_another_process_holds_is_waited_for(words, fake, monkeypatch, capsys):
    search = planned("seeds=1")
    values = {"algo.learning_rate": 1e-3, "algo.updates": 2, "variant.critic_layers": "[8]"}
    values["variant.layer_norm"] = False
    open_study(search).enqueue_trial(values)
    of_run = [*search.overrides, *as_overrides(values), "seed=1", f"output={search.folder / 'runs'}"]
    held = RunLock(run_directory(compose_run(of_run)))
    # Let go at the first look: the run would be refused while it is held.
    monkeypatch.setattr(searching, "time", SimpleNamespace(sleep=lambda _: held.close()))
    assert main([*words, "n_trials=1", "seeds=1"]) == 0
    assert f"waiting for process {os.getpid()} on " in capsys.readouterr().out
    assert [row["state"] for row in rows(fake)] == ["complete"]


def test_a_late_bloomer_survives_and_a_hopeless_trial_is_pruned(words):
    study = open_study(planned())
    good_trials(study, 3)
    late, hopeless = study.ask(), study.ask()
    for one in (late, hopeless):
        one.report(0.0, 100)
        assert not one.should_prune(), "the first half of 300 steps is not over"
    late.report(0.9, 200)
    hopeless.report(0.0, 200)
    assert (late.should_prune(), hopeless.should_prune()) == (False, True)


def test_a_run_that_ended_early_because_it_was_good_counts_as_good_to_the_end():
    early = to_the_end([(100, 0.5), (200, 1.0)], 100, 1000)
    slow = to_the_end([(step, step / 1000) for step in range(100, 1001, 100)], 100, 1000)
    assert [step for step, _ in early] == [step for step, _ in slow] == list(range(100, 1001, 100))
    assert score(early, "curve") == pytest.approx(0.95)
    assert score(early, "curve") > score(slow, "curve") == pytest.approx(0.55)
    assert score(early, "final") == score(slow, "final") == 1.0
    assert to_the_end([(90, 0.5)], 60, 200) == [(90, 0.5), (150, 0.5), (200, 0.5)]
    assert to_the_end([], 60, 200) == []


def test_what_a_search_was_given_is_in_its_tuning_file(words):
    given = ["variant=multihead", "experiment=mt3", "env.copies_per_task=1", "algo.batch_size=51"]
    given += ["curriculum.check_every=123", "++algo.kwargs.target_update_interval=3", "evaluation.every=150"]
    search = plan([*without(words, given), *given])
    study = open_study(search)
    study.tell(study.ask(search.space), 0.5)
    text = tuning_file(search, study.best_trial)
    found = yaml.safe_load(text)
    assert found["curriculum"]["check_every"] == 123
    assert found["algo"]["kwargs"] == {"target_update_interval": 3}
    assert (found["env"]["horizon"], found["algo"]["batch_size"]) == (20, 51)
    assert not {"evaluation", "hardware", "logging", "task", "variant=multihead"} & set(found)
    assert "# Holds with variant=multihead, which this file cannot choose\n" in text


def test_a_study_that_cannot_be_continued_is_one_sentence(words):
    folder = planned().folder
    open_study(planned())
    whole = (folder / "study.db").read_bytes()
    # The last is a search of version 0.1.0, which is left as it is.
    for name, content, sentence in (
        ("study.db", b"garbage" * 999, "study.db holds no search"),
        ("study.db", whole[: len(whole) // 2], "study.db holds no search"),
        ("journal.log", b"{}\n", "holds a search of mtrl 0.1.0"),
    ):
        (folder / name).write_bytes(content)
        with pytest.raises(
            ConfigurationError, match=f"{sentence}.*begin another search with name="
        ) as refused:
            open_study(planned())
        assert "\n" not in str(refused.value)
    assert (folder / "journal.log").read_bytes() == b"{}\n"


def test_a_trial_that_still_runs_is_left_to_its_process(words):
    study = open_study(planned())
    for host, pid in ((os.uname().nodename, os.getpid()), ("elsewhere", 1)):
        running = study.ask()
        running.set_user_attr("host", host)
        running.set_user_attr("pid", pid)
    assert states(open_study(planned())) == ["RUNNING", "RUNNING"]


def test_trials_of_another_setting_are_not_mixed_in(words):
    open_study(planned())
    with pytest.raises(ConfigurationError, match=r"begun with other seeds, objective.*name="):
        open_study(replace(planned(), seeds=(1, 2), objective="curve"))


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("n_trials=none", "whole numbers"),
        ("n_trials=0", "n_trials=0 must be at least 1"),
        *(
            (f"n_trials={number}", f"n_trials={number} must be a whole number")
            for number in ("inf", "nan", "1.5")
        ),
        ("seeds=1,-2", "seed=-2 must lie in 0.."),
        ("seeds=99999999999", "seed=99999999999 must lie in 0.."),
        ("name=t", "name=s and name=t exclude each other"),
        (f"name={300 * 'x'}", "cannot be written (File name too long)"),
        ("hydra/launcher=basic", "hydra/launcher=basic is for sweeps"),
        ("seeds=1,1", "distinct seeds"),
        ("seed=3", "seeds=1,2,3"),
        ("sampler=best", "sampler=best is not one of tpe, random"),
        ("objective=fun", "objective=fun is not one of final, curve"),
        ("search=none", "search=none does not exist: the options are ddpg, sac, td3"),
        ("algo.gama=3", "did you mean algo.gamma"),
        ("push-v3", "push-v3 is no override"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_sentence(words, word, sentence, capsys):
    assert main([*without(words, [word] if word != "name=t" else []), word]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not os.path.exists("outputs")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("algo.gama: {choices: [1]}", "algo.gamma"),
        ("algo.gamma: {low: 0.9, high: 1.5}", "algo.gamma=1.5 must lie between 0 and 1"),
        ("algo.gamma: {low: 0.99, high: 0.9}", r"no range: `low <= high` must hold"),
        ("algo.gamma: {low: 0, high: 0.9, log: true}", "`low > 0` must hold for `log=True`"),
        (
            "algo.gamma: {low: 0.9, high: 0.99, log: true, step: 0.01}",
            "`step` is not supported when `log` is true",
        ),
        ("algo.updates: {low: 1, high: 3, step: 0.5}", r"step 0\.5, and needs a whole number.*low: 1\.0"),
        ("algo.gamma: {low: 0.9, high: 0.99, step: -1}", "`step > 0` must hold"),
        ("algo.gamma: {low: 0.9, high: 0.99, log: often}", "needs choices, or low and high"),
        ("algo.gamma: {low: .nan, high: 0.9}", "needs choices, or low and high"),
        ("variant: {choices: [shared, plain]}", "varies variant, a group.*once for each"),
        (f"algo.gamma: {{low: 0.5, high: {10**400}}}", "which is no range"),
        ("algo.gamma: 3", "needs choices, or low and high"),
        ("algo.gamma: {lo: 3}", "needs choices, or low and high"),
        ("", "it is empty.*write lines such as"),
        ("{}", "names no parameter"),
        ("a: &a [*a]", "it uses aliases"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_search_space_that_cannot_be_is_refused(words, tmp_path, text, sentence):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        plan(words)


@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
def test_the_search_spaces_that_come_along_are_valid(algo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([f"algo={algo}", "n_trials=5", "dry_run=true", "algo.buffer_size=1000"]) == 0
    shown = capsys.readouterr().out
    assert all(key in shown for key in read_space(algo))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_samplers_go_on_with_other_values(words, name):
    search = replace(planned(), sampler=name)
    seen = []
    for _ in range(3):
        study = open_study(search)
        one = study.ask(search.space)
        study.tell(one, 0.5)
        seen.append(one.params["algo.learning_rate"])
    assert len(set(seen)) == 3
    assert all(1e-4 <= value <= 3e-3 for value in seen)
    assert as_overrides({"variant.layer_norm": True}) == ["variant.layer_norm=true"]
    assert tuning_file(search, study.best_trial).startswith("# @package _global_\n")
