"""Every command and every snippet of the README runs, on a budget of seconds."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_runs import REPOSITORY, TINY

from mtrl import hardware
from mtrl.__main__ import main as mtrl_main
from mtrl.config.compose import compose_run, members
from mtrl.errors import ConfigurationError
from mtrl.experiment import run_directory

TEXT = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LINES = [
    line for language, block in BLOCKS if language != "python" for line in block.splitlines() if line.strip()
]
PROMPTS = [line for line in LINES if line.startswith("$ ")]
ANSWERS = [line for line in LINES if line.startswith("mtrl: ")]
SPANS = list(dict.fromkeys(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))))
COMMANDS = list(
    dict.fromkeys(
        [line for line in LINES if line not in PROMPTS and line not in ANSWERS]
        + [span for span in SPANS if span.startswith(("python -m ", "tensorboard "))]
    )
)
OVERRIDES = [
    span for span in SPANS if re.fullmatch(r"([a-z_]+[a-z_./]*=[^\s\"()]+ ?)+", span) and "..." not in span
]
# The second is a file that the reader has yet to write.
REFUSED = {"env.reward=v3", "curriculum=three"}
SETTING_UP = {"python3", "pip", "pytest"}
BUDGET = (
    *(words for words in TINY if not words.startswith(("total_steps", "env.copies"))),
    "total_steps=160",
    "evaluation.every=120",
    "evaluation.final_episodes=1",
    "checkpoint.every=1000",
)
"""What a command of the README is given to end within seconds; its other words stay as they are."""
PHASES = (160, 200, 240)


def words_of(command):
    return shlex.split(command, comments=True)


def of_module(name):
    return [command for command in COMMANDS if words_of(command)[:3] == ["python", "-m", name]]


def key_of(word):
    return word.split("=")[0].lstrip("+")


def trains(command):
    """Tell whether a command of ``python -m mtrl`` is a run, and not a question such as --help."""
    words = words_of(command)[3:]
    return not any(word.startswith("--") or word.startswith("dry_run") for word in words)


def shrunk(command):
    """Return the words of a command, its budget cut to seconds: steps, networks, evaluations and sweeps.

    Of a sweep its first list keeps two values and the others one.
    """
    words, lists = [], 0
    for word in words_of(command)[3:]:
        key, _, value = word.partition("=")
        if "," in value and not value.startswith(("[", "{")):
            word = f"{key}={','.join(value.split(',')[: 1 + (lists == 0)])}"
            lists += 1
        words.append(word)
    budget = list(BUDGET)
    if any(word.startswith("phase=") for word in words):
        budget = [word for word in budget if key_of(word) != "total_steps"]
        budget.append(f"phases=[{','.join(map(str, PHASES))}]")
    if "-m" in words and "experiment=mt10" in words:
        # Each member is a process that would read ten models.
        budget.append("env.tasks=[reach-v3,push-v3]")
    words = [word for word in words if key_of(word) not in {key_of(other) for other in budget}] + budget
    return [*words, *source_budget(words)]


def source_budget(words):
    """Return the run that a transfer begins with, cut to seconds like the run itself."""
    if "-m" in words or not any("transfer" in word for word in words):
        return []
    train = compose_run(words).config.transfer.train
    short = ["total_steps=120", *(word for word in BUDGET if word.startswith("evaluation."))]
    kept = [word for word in train if key_of(word) not in {key_of(other) for other in short}]
    return [f"transfer.train={[*kept, *short]}".replace("'", '"')] if train else []


@pytest.fixture(autouse=True)
def plenty(monkeypatch):
    """What the README shows must not depend on how much memory this machine has left."""
    monkeypatch.setattr(hardware, "free_memory", lambda: 256 * 2**30)


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """Return a directory in which ``outputs/mt1`` holds a run."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("readme")
    train(folder / "outputs", "total_steps=200", "evaluation.every=1000", "logging.tensorboard=true")
    ten = ("experiment=mt10", "total_steps=120", "evaluation.every=1000", "evaluation.final_episodes=1")
    train(folder / "outputs", *ten)
    # What compares a transfer with its baseline reads two runs; that they train is shown above.
    for word in ("algo.gamma=0.98", "algo.gamma=0.97"):
        train(folder / "outputs", "experiment=transfer/reach_to_push", "transfer.train=[]", word, *ten[1:])
    return folder


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Return the directory in which the commands are run one after the other, as a reader would."""
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("runs")


def test_there_is_a_check_for_every_command():
    modules = {words_of(command)[2] for command in COMMANDS if words_of(command)[0] == "python"}
    commands = ("evaluation", "report", "play", "tune", "status", "benchmark", "options")
    assert modules <= {"mtrl", *(f"mtrl.{name}" for name in commands)}
    assert {words_of(command)[0] for command in COMMANDS} <= {"python", "tensorboard"} | SETTING_UP
    assert len(COMMANDS) > 15
    assert len(OVERRIDES) > 20


# A command that is shown twice, with and without a comment, is one.
TRAINING = dict.fromkeys(shlex.join(words_of(command)) for command in of_module("mtrl") if trains(command))
SWEEPS = [command for command in TRAINING if "-m" in words_of(command)[3:]]


# What is trained below composes first.
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(one, marks=[pytest.mark.slow] if line in TRAINING and line not in SWEEPS else [])
        for one in of_module("mtrl")
        for line in [shlex.join(words_of(one))]
    ],
)
def test_a_training_command_composes(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = words_of(command)[3:]
    if "hydra/launcher=joblib" in words and find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        pytest.skip("the launcher is not installed")
    with pytest.raises(SystemExit) as end:
        mtrl_main([*words, "dry_run=true"])
    assert end.value.code == 0
    assert ("outputs" if trains(command) else "experiment") in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# The members of a sweep are processes of their own; test_command.py and test_sweep.py have shorter ones.
@pytest.mark.parametrize(
    "command",
    [pytest.param(one, marks=[pytest.mark.slow] if one in SWEEPS else []) for one in TRAINING],
)
def test_a_training_command_trains(command, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    words = shrunk(command)
    if "-m" in words:
        if "hydra/launcher=joblib" in words and find_spec("hydra_plugins.hydra_joblib_launcher") is None:
            pytest.skip("the launcher is not installed")
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        line = [sys.executable, "-m", "mtrl", *words]
        result = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        runs = members([word for word in words if word != "-m"])
        assert len(runs) == 2
    else:
        with pytest.raises(SystemExit) as end:
            mtrl_main(words)
        assert end.value.code == 0
        runs = [words]
    for run in runs:
        composition = compose_run(run)
        status = yaml.safe_load((run_directory(composition) / "status.json").read_text())
        assert status["state"] == "finished"
        assert status["step"] >= composition.config.total_steps


def test_the_three_phases_are_one_run_that_goes_on(tmp_path, monkeypatch):
    # Elsewhere than the other commands, of which one has trained this run to the end of its last phase.
    monkeypatch.chdir(tmp_path)
    commands = [f"python -m mtrl experiment=mt10 phase={number}" for number in (1, 2, 3)]
    assert {tuple(words_of(command)) for command in commands} <= {tuple(words_of(line)) for line in COMMANDS}
    for command in commands:
        with pytest.raises(SystemExit):
            mtrl_main(shrunk(command))
    path = run_directory(compose_run(shrunk(commands[-1])))
    status = yaml.safe_load((path / "status.json").read_text())
    assert [start["step"] for start in status["starts"]] == [0, *PHASES[:2]]
    assert status["step"] == PHASES[2]


@pytest.mark.parametrize("name", [1, 2, 3, 4, 5])
def test_each_of_the_five_examples_is_there(name):
    assert len(re.findall(rf"^\*\*Example {name}: ", TEXT, re.MULTILINE)) == 1


@pytest.mark.parametrize(("prompt", "answer"), list(zip(PROMPTS, ANSWERS, strict=True)))
def test_an_answer_that_is_shown_is_the_one_that_is_given(prompt, answer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        mtrl_main(words_of(prompt[2:])[3:])
    assert capsys.readouterr().err.strip() == answer


@pytest.mark.parametrize("span", OVERRIDES)
def test_an_override_in_the_text_composes(span):
    words = span.split()
    if any("sb3_contrib" in word for word in words) and find_spec("sb3_contrib") is None:
        pytest.skip("sb3_contrib is not installed")
    if any(re.fullmatch(r"(n_trials|seeds|search|sampler|prune|objective|name)=.*", word) for word in words):
        pytest.skip("it is the search's, which has tests of its own")
    refusals = []
    # Some make sense for one task alone, some for several, some in stages or after a source.
    recipes = ("experiment=mt1", "experiment=mt10", "experiment=mt1 transfer.train=[task=push-v3]")
    for recipe in (*recipes, "experiment=mt10 curriculum=progressive", "experiment=transfer/reach_to_push"):
        base = [word for word in recipe.split() if word.split("=")[0] not in {w.split("=")[0] for w in words}]
        try:
            for member in members([*base, *words]):
                compose_run(member)
        except ConfigurationError as error:
            refusals.append(str(error))
        else:
            assert span not in REFUSED
            return
    assert span in REFUSED, refusals


@pytest.mark.parametrize("command", [*of_module("mtrl.evaluation"), *of_module("mtrl.status")])
def test_a_command_that_reads_runs_works(command, trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    module, *words = words_of(command)[2:]
    if module == "mtrl.evaluation":
        from mtrl.evaluation.__main__ import main

        words += ["--episodes", "1"]
    else:
        from mtrl.status import main
    assert main(words) == 0
    assert "reach-v3" in capsys.readouterr().out


@pytest.mark.parametrize("command", of_module("mtrl.report"))
def test_a_report_is_written(command, trained, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    from mtrl.report.__main__ import main

    monkeypatch.chdir(trained)
    assert main(words_of(command)[3:]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


@pytest.mark.parametrize("command", of_module("mtrl.play"))
def test_a_video_is_written(command, trained):
    pytest.importorskip("imageio_ffmpeg")
    words = [sys.executable, *words_of(command)[1:], "--size", "64", "--every", "10"]
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(words, cwd=trained, env=variables, capture_output=True, text=True)
    if "neither EGL nor OSMesa" in result.stderr:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stderr
    assert (trained / result.stdout.strip()).stat().st_size > 1000


@pytest.mark.slow  # test_tune.py has searches of its own
@pytest.mark.parametrize("command", of_module("mtrl.tune"))
def test_a_search_runs_a_trial(command, tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna")
    from mtrl.tune.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    words = words_of(command)[3:]
    assert main([*words, "dry_run=true"]) == 0
    assert "trials of" in capsys.readouterr().out
    shorter = [word for word in words if not word.startswith("n_trials=")]
    assert main([*shorter, "n_trials=1", "seeds=1", *BUDGET]) == 0
    (best,) = tmp_path.rglob("best.yaml")
    assert yaml.safe_load(best.read_text().split("\n", 1)[1])


def test_the_table_of_options_is_printed(capsys):
    from mtrl.config.options import main

    for command in of_module("mtrl.config.options"):
        assert main(words_of(command)[3:]) == 0
        assert "| `seed` |" in capsys.readouterr().out


def test_tensorboard_reads_what_a_run_writes(trained):
    commands = [command for command in COMMANDS if command.startswith("tensorboard ")]
    assert commands
    for command in commands:
        # The command itself serves until it is ended; --inspect reads the same files and says what is in them.
        words = [sys.executable, "-m", "tensorboard.main", *words_of(command)[1:], "--inspect"]
        result = subprocess.run(words, cwd=trained, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        assert "success_rate" in result.stdout


SMALL = {
    "env": ["--rounds", "1", "--tasks", "reach-v3", "--no-subproc", "--threads", "1"],
    "learner": ["--rounds", "1", "--seconds", "0.01", "--sizes", "[256]x3 batch 256", "--no-heads"],
    "train": ["--rounds", "1", "--steps", "20", "--threads", "1", "--sb3-threads", "1"],
    "start": ["--rounds", "1", "--sets", "mt10"],
}
"""What makes each benchmark a matter of seconds: then it measures nothing, and runs all the same."""


# The one with a list of all in its comment takes as long as the others together; env alone takes most of it.
BENCHMARKS = [
    pytest.param(command, marks=pytest.mark.slow)
    if "#" in command or words_of(command)[3] == "env"
    else command
    for command in of_module("mtrl.benchmark")
]


@pytest.mark.parametrize("command", BENCHMARKS)
def test_a_benchmark_runs(command, monkeypatch, tmp_path, capsys):
    from mtrl.benchmark import learners, start
    from mtrl.benchmark.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learners, "TRANSITIONS", 300)
    # It starts the command itself and compiles everything, which others do above.
    monkeypatch.setattr(start, "_start", lambda words, cache: 1.0)
    monkeypatch.setattr(start, "_load", lambda cache: 1.0)
    words = words_of(command)[3:]
    small = [word for word in TINY if not word.startswith(("total_steps", "evaluation.every"))]
    # The words of a command that is listed with others stand in its comment.
    others = [word for word in re.findall(r"[a-z]+", command.partition("#")[2]) if word in SMALL]
    for subcommand in dict.fromkeys([words[0], *others]):
        given = words if subcommand == words[0] else [subcommand]
        said = {key_of(word) for word in given}
        budget = [word for word in small if key_of(word) not in said]
        mt10 = [] if "experiment" in said else ["experiment=mt10"]
        overrides = [*budget, *mt10] if subcommand == "train" else []
        if (subcommand, tuple(given)) in RAN:
            continue
        assert main([*given, *overrides, *SMALL[subcommand]]) == 0
        RAN.add((subcommand, tuple(given)))
        assert capsys.readouterr().out


RAN = set()
"""Benchmarks that ran already: the README names some of them twice."""


def test_setting_up_names_files_and_extras_that_exist():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = [command for command in COMMANDS if words_of(command)[0] in SETTING_UP]
    assert lines
    for line in lines:
        words = words_of(line)
        if "-c" in words:
            assert (REPOSITORY / words[words.index("-c") + 1]).is_file()
        for extras in re.findall(r"\.\[([a-z,]+)\]", line):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "mtrl" in project["scripts"], "tab completion needs the console script"


@pytest.mark.parametrize("snippet", [block for language, block in BLOCKS if language == "python"])
def test_a_snippet_runs(snippet, trained, monkeypatch):
    monkeypatch.chdir(trained)
    (run,) = (trained / "outputs" / "mt1").glob("*/seed=1")
    shorter = re.sub(r"learn\([\d_]+\)", "learn(10)", snippet)
    shorter = re.sub(r'"outputs/mt1/[^"]*"', repr(str(run)), shorter)
    names = {"obs": np.zeros((2, 40), np.float32)}
    exec(shorter, names)
    if "action" in names:
        assert names["action"].shape == (2, 4)
    if "env" in names:
        names["env"].close()


def test_the_loop_written_out_meets_the_ends_of_episodes():
    (loop,) = [block for language, block in BLOCKS if "terminal_observation" in block]
    names = {}
    exec(loop, names)
    # 1000 steps of four copies are two whole episodes of each.
    assert len(names["solved"]) == 8
    assert names["terminated"] == [False] * 4
    last = np.array([info["terminal_observation"] for info in names["infos"]])
    np.testing.assert_array_equal(names["next_obs"], last)
    assert not np.array_equal(names["obs"], last)
    names["env"].close()


def test_the_map_names_every_module():
    rows = re.findall(r"^\| (`.*?`) \|", TEXT.partition("## Map")[2], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)/?`", row)]
    there = {
        path.name.removesuffix(".py") for path in (REPOSITORY / "mtrl").iterdir() if path.name[0] not in "_."
    }
    assert sorted(named) == sorted(there)


def test_the_files_that_are_linked_are_there():
    missing = [
        target
        for target in re.findall(r"\]\(([^)#]+)\)", TEXT)
        if "://" not in target and not (REPOSITORY / target).exists()
    ]
    assert missing == []
