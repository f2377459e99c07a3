"""A sweep's members are processes of their own: one that breaks takes nothing with it, and only it is done again."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf
from tiny_runs import REPOSITORY, TINY, python, until, without

from mtrl import sweep
from mtrl.__main__ import main
from mtrl.config import compose
from mtrl.config.compose import CONF
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.write import write_json, write_yaml
from mtrl.signals import Signals

OWN = ["total_steps=60", "logging.progress=off"]
MEMBERS = ["experiment=smoke", *without(TINY, OWN), *OWN]
BREAK = {
    "segfault": "os.kill(os.getpid(), signal.SIGSEGV)",
    "exit": "os._exit(3)",
    "raise": "raise SystemExit('broken on purpose')",
}
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def run_sweep(folder, *words, breaking=None):
    """Run a sweep in ``folder``, which holds another ``mtrl``; the member of seed 2, the first one, breaks there."""
    (folder / "mtrl").mkdir(exist_ok=True)
    (folder / "mtrl" / "__init__.py").write_text("raise SystemExit('this is another mtrl')")
    hook = folder / "hook"
    hook.mkdir(exist_ok=True)
    lines = ["import os, signal, sys", "if 'seed=2' in sys.orig_argv:", f"    {BREAK.get(breaking, 'pass')}"]
    (hook / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return python(
        "-P", "-m", "mtrl", "-m", "seed=2,1", *MEMBERS, *words, cwd=folder, PYTHONPATH=f"{hook}:{REPOSITORY}"
    )


def statuses(folder):
    paths = (folder / "outputs").rglob("status.json")
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def slow(launcher, how):
    return pytest.param(launcher, how, True, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("launcher", "how", "trained"),
    [
        (JOBLIB, "segfault", False),
        ([], "raise", False),
        *(slow(JOBLIB, "exit"), slow([], "segfault"), slow([], "exit"), slow([], "raise")),
        slow(["hydra/launcher=submitit_local"], "exit"),
    ],
)
def test_a_member_that_breaks_takes_only_itself_and_only_it_is_done_again(tmp_path, launcher, how, trained):
    if "submitit_local" in "".join(launcher):
        pytest.importorskip("submitit")
    tmp_path /= "é =,#(x"
    tmp_path.mkdir()
    if not trained:
        # The other member has finished before and only says so.
        composition = compose_run([*MEMBERS, "seed=1"])
        path = tmp_path / run_directory(composition)
        path.mkdir(parents=True)
        write_yaml(path / "config.yaml", composition.values)
        result = {"success_rate": 0.5, "mean_return": 1.0, "tasks": []}
        write_json(
            path / "status.json", {"state": "finished", "step": 60, "total_steps": 60, "result": result}
        )
    first = run_sweep(tmp_path, *launcher, breaking=how)
    assert first.returncode == 1, first.stderr
    done = statuses(tmp_path)
    assert {name: status["state"] for name, status in done.items()} == {"seed=1": "finished"}
    assert "did not start" in first.stderr
    assert trained or "this run is finished" in first.stdout
    again = trained or how != "raise"
    if again:
        second = run_sweep(tmp_path, *launcher)
        assert second.returncode == 0, second.stderr
        after = statuses(tmp_path)
        assert [status["state"] for status in after.values()] == ["finished"] * 2
        assert all(after[name] == status for name, status in done.items())
    # Every call keeps its plan and its results.
    sweeps = list((tmp_path / "multirun").glob("*/*"))
    assert len(sweeps) == 1 + again
    for folder in sweeps:
        assert "seed=2" in (folder / "plan.txt").read_text()
        assert "finished" in (folder / "results.txt").read_text()


def test_a_signal_reaches_the_member_and_ends_the_launcher(tmp_path):
    ready = tmp_path / "ready"
    member = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    script = (
        "import sys\nfrom mtrl.sweep import run_process\n"
        f"run_process([sys.executable, '-c', {member!r}])\nprint('another member')\n"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    until(ready.exists)
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate(timeout=30)
    assert (launcher.returncode, output) == (143, "")


def test_a_member_gets_a_signal_twice_and_still_saves_until_its_launcher_is_asked_twice(monkeypatch):
    left, processes = [], []
    monkeypatch.setattr("os._exit", left.append)
    monkeypatch.setenv("MTRL_LAUNCHED", "1")
    monkeypatch.setattr("mtrl.signals.SAME_EVENT", -1.0)
    with Signals() as signals:
        signals._handle(15, None)
        signals._handle(15, None)
        assert (signals.received, left) == (15, [])

    def ask_twice():
        for _ in range(2):
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)) or processes[0])
    slow = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); [time.sleep(1) for _ in range(60)]"
    asker = threading.Thread(target=ask_twice)
    asker.start()
    with pytest.raises(SystemExit) as ended:
        sweep.run_process([sys.executable, "-c", slow])
    asker.join()
    assert ended.value.code == 143
    assert processes[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("codes", "code", "starts"),
    [([0], 0, 1), ([75, 75, 0], 0, 3), ([75] * 9, 75, 3), ([2], 2, 1), ([75, 1], 1, 2)],
)
def test_only_a_member_that_asks_to_be_tried_again_is_and_a_few_times(tmp_path, capfd, codes, code, starts):
    said = tmp_path / "said"
    script = (
        f"import pathlib, sys; said = pathlib.Path({str(said)!r}); "
        "print(*sys.argv[1:], file=said.open('a')); "
        f"sys.exit({codes}[len(said.read_text().splitlines()) - 1])"
    )
    command = [sys.executable, "-c", script, "seed=1", "++fresh=true", "total_steps=60"]
    assert sweep.run_process(command) == code
    # It is fresh only the first time.
    again = ["seed=1 total_steps=60"] * (starts - 1)
    assert said.read_text().splitlines() == ["seed=1 ++fresh=true total_steps=60", *again]
    messages = capfd.readouterr().err.splitlines()
    assert len(messages) == starts - 1
    assert all(line.endswith(f"started again, {n} of 2 times") for n, line in enumerate(messages, start=1))
    assert "fresh" not in "".join(messages)


@pytest.fixture
def started(monkeypatch):
    """Return a function that starts a member from a launcher's process and returns its words and variables."""

    def start(launcher, number, *overrides):
        hydra = {
            "overrides": {"task": list(overrides)},
            "runtime": {"choices": {"hydra/launcher": launcher}},
            "job": {"num": number},
        }
        monkeypatch.setattr(sweep.HydraConfig, "get", lambda: OmegaConf.create(hydra))
        begun = []
        process = SimpleNamespace(wait=lambda: 0)
        monkeypatch.setattr(subprocess, "Popen", lambda words, env: begun.append((words[2:], env)) or process)
        assert sweep.run_member(None) == 0
        return begun[0]

    return start


@pytest.fixture
def begin_job(tmp_path, monkeypatch):
    """Return a function that makes this process a job of submitit."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path / "%j"))

    def begin(launcher, job):
        monkeypatch.setenv("SUBMITIT_EXECUTOR", launcher.removeprefix("submitit_"))
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", job)
        (tmp_path / job).mkdir()

    return begin


@pytest.mark.parametrize("launcher", ["submitit_slurm", "submitit_local"])
def test_a_member_that_its_cluster_starts_again_is_fresh_only_the_first_time(begin_job, started, launcher):
    words = ["seed=1", "fresh=true"]
    for job in ("7", "8"):
        begin_job(launcher, job)
        assert started(launcher, 0, *words)[0] == ["mtrl", *words]
        assert started(launcher, 0, *words)[0] == ["mtrl", "seed=1"]


@pytest.mark.parametrize(
    ("launcher", "visible", "taken"),
    [
        ("submitit_local", "0,1", ["0", "1", "0", "1"]),
        ("submitit_local", "0", ["0"] * 4),
        ("submitit_local", "", [""] * 4),
        *((launcher, "2,3", ["2,3"] * 4) for launcher in ("basic", "joblib", "submitit_slurm")),
    ],
)
def test_local_members_take_the_gpus_in_turn_and_others_keep_those_given(
    monkeypatch, begin_job, started, launcher, visible, taken
):
    begin_job(launcher, "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [started(launcher, number)[1]["CUDA_VISIBLE_DEVICES"] for number in range(4)] == taken


def test_the_presets_of_submitit_are_one_gpu_a_run():
    for launcher in ("submitit_local", "submitit_slurm"):
        preset = yaml.safe_load((CONF / "hydra" / "launcher" / f"{launcher}.yaml").read_text())
        assert preset["gpus_per_node"] == 1


def test_a_member_of_this_process_is_fresh_whenever_it_is_asked_for(started):
    for _ in range(2):
        assert started("basic", 0, "fresh=true")[0] == ["mtrl", "fresh=true"]


def test_a_handler_that_was_there_is_called_once_the_member_has_saved():
    called = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    member = "import os, signal; os.kill(os.getppid(), signal.SIGUSR2); signal.pause()"
    try:
        with pytest.raises(SystemExit) as ended:
            sweep.run_process([sys.executable, "-c", member])
        assert ended.value.code == 128 + signal.SIGUSR2
        assert called == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_sweeps_that_start_in_one_second_have_directories_of_their_own(tmp_path):
    one, named = tmp_path / "some" / "moment", tmp_path / "named"
    assert len({sweep.make_folder(one, may_exist=False) for _ in range(3)}) == 3
    assert sweep.make_folder(named, may_exist=True) == sweep.make_folder(named, may_exist=True) == named


REFUSED = {
    "seed=range(0,0)": "seed=range(0,0) gives no value, and a sweep of nothing runs nothing",
    "experiment=glob(nothing*)": "experiment=glob(nothing*) gives no value",
    "seed=range(1,1e9)": "seed=range(1,1e9) gives more than the 10,000 members",
    "seed=shuffle(range(1,1e9))": "gives more than the 10,000 members",
    "seed=range(0,200) algo.gamma=range(0.1,0.9,0.01)": "has 16,200 members, and can have 10,000",
    "seed=range(1,10,0)": "is no list of values",
    "seed=range(1,inf)": "gives more than the 10,000 members",
    "seed=interval(1,3)": "is no list of values",
    "hydra.sweep.dir=/proc/x seed=1,2": "hydra.sweep.dir=/proc/x cannot be written (No such file or directory)",
    "hydra.sweep.dir=/dev/null seed=1": "/dev/null cannot be written (Not a directory)",
    "hydra.sweeper.max_batch_size=0 seed=1,2": "hydra.sweeper.max_batch_size=0 must be at least 1",
    "hydra/launcher=basic,joblib seed=1": "varies how Hydra runs, which holds for all members",
    "algo=glob(*_schema) seed=1": "gives no value",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_sweep_that_cannot_be_is_refused_in_one_sentence_and_writes_nothing(
    tmp_path, monkeypatch, capsys, words
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "_launch", lambda *_: pytest.fail("the sweep starts"))
    with pytest.raises(SystemExit) as end:
        main(["-m", *words.split()])
    out, message = capsys.readouterr()
    assert (end.value.code, out, len(message.splitlines())) == (2, "", 1)
    assert REFUSED[words] in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given", ["transfer.source=choice('é,=#','b (1)')", "++transfer.source='é,=#','b (1)'"]
)
def test_paths_of_any_signs_are_varied(given):
    members = compose.compose_sweep([given]).members
    assert [compose.compose(member).config.transfer.source for member in members] == ["é,=#", "b (1)"]


def test_a_glob_offers_the_options_of_a_group():
    def chosen(word):
        return [member[0].partition("=")[2] for member in compose.compose_sweep([word]).members]

    assert chosen("algo=glob(*)") == compose.groups()["algo"]
    options = compose.groups()["experiment"]
    assert chosen("experiment=glob(*,exclude=mt*)") == ["smoke"]
    assert chosen("experiment=glob(paper/*)") == [option for option in options if "paper/" in option]


RECIPE = """
# @package _global_
# Varies its seed
defaults: [smoke]
output: computed/${now:%S-%f}/é=
hydra: {sweeper: {params: {seed: "1,2"}}, sweep: {dir: "sweeps/${now:%S-%f}"}}
"""


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Return the words of each member that a launcher is given, which runs none."""
    monkeypatch.chdir(tmp_path)
    given = []
    monkeypatch.setattr(sweep, "_launch", lambda sweep, folder, members: given.extend([folder, *members]))
    return given


@pytest.mark.parametrize(
    "words", [["seed=1,2", "output=computed/${now:%S-%f}/${seed}/é="], ["experiment=own"]]
)
def test_a_member_runs_where_it_was_planned_whatever_the_clock_says_then(
    tmp_path, monkeypatch, capsys, launched, words
):
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "experiment" / "own.yaml").write_text(RECIPE)
    monkeypatch.setattr(compose, "CONF", conf)
    with pytest.raises(SystemExit) as end:
        main(["-m", *words, "hydra.sweep.dir=sweeps/${now:%f}"])
    assert end.value.code == 1, "no member has started"
    planned = capsys.readouterr().out.splitlines()[1:3]
    folder, *members = launched
    assert folder.parent == Path("sweeps")
    assert folder.name.isdecimal()
    assert [f"  {run_directory(compose_run(member))}" for member in members] == planned
    assert len({line.split("/")[1] for line in planned}) == 1 or words == ["experiment=own"]


def test_a_launcher_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mtrl-metaworld\[cluster\]'"):
        sweep.check_launcher(["seed=1,2", "hydra/launcher=submitit_slurm"])
    sweep.check_launcher(["seed=1,2"])


KEYS = "seed algo experiment algo.gamma output transfer.source ++algo.kwargs.x ~seed +x hydra.sweep.dir env.tasks hydra"
KEYS += " hydra/launcher hydra.sweeper.params hydra.sweeper curriculum.difficulty algo@x é name seeds n_trials search"
ATOMS = "1 2 1e9 inf nan -3 true null a 'a_b' \"é=\" sac [1,2] {a:1} ${seed} ${now:%S} ${nope * mt* \\ '"
ATOMS += " 0 .. /proc/x ( a=b"
CALLS = "choice range interval glob sort shuffle tag int float str extend_list nope"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["mtrl", "mtrl.tune"])
def test_any_words_are_answered_with_a_plan_or_in_one_sentence(tmp_path, monkeypatch, capsys, module):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    generator = random.Random(module)
    pick = lambda words: generator.choice(words.split())  # noqa: E731

    def value(depth=0):
        kind = generator.random() + 0.2 * depth
        if kind > 0.6:
            return pick(ATOMS)
        inner = ",".join(value(depth + 1) for _ in range(generator.randint(0, 3)))
        return inner if kind < 0.2 else f"{pick(CALLS)}({inner}{pick(') ) ,step=0) ,exclude=a)')}"

    command = import_module(f"{module}.__main__").main
    for _ in range(300):
        words = [f"{pick(KEYS)}={value()}" for _ in range(generator.randint(1, 2))] + ["dry_run=true"]
        try:
            code = command(words if module == "mtrl.tune" else ["-m", *words])
        except SystemExit as end:
            code = end.code
        message = capsys.readouterr().err
        assert (code, message.count("\n")) in ((0, 0), (2, 1)), (words, message)
        assert not list(tmp_path.iterdir()), words
