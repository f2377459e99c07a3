"""Every command, override and snippet of README.md and docs/*.md works, on a budget of seconds."""

import re
import shlex
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_runs import REPOSITORY, TINY, python, without

from mtrl import hardware, play
from mtrl.__main__ import main as mtrl_main
from mtrl.config.compose import compose_sweep
from mtrl.config.values import written
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory

PAGES = {path: path.read_text() for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]}
TEXT = "\n".join(PAGES.values())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
CODE = re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", PROSE, re.DOTALL)
SPANS = list(dict.fromkeys(" ".join(span.split()) for _, span in CODE))
LINES = [line for language, block in BLOCKS if language != "python" for line in block.splitlines() if line]
PROMPTS = [line.removeprefix("$ ") for line in LINES if line.startswith("$ ")]
ANSWERS = [line for line in LINES if line.startswith("mtrl: ")]
SNIPPETS = [block for language, block in BLOCKS if language == "python"]
OVERRIDES = [
    span for span in SPANS if re.fullmatch(r"([a-z_]+[a-z_./]*=[^\s\"()]+ ?)+", span) and "..." not in span
]
REFUSED = {"env.reward=v3", "curriculum=three"}
"""Overrides that the text says are refused; the second is a file that the reader has yet to write."""


def commands() -> list[str]:
    """Return every command without its comment, once; several may stand in one line."""
    shown = [line for line in LINES if line not in ANSWERS and not line.startswith("$ ")]
    shown += [span for span in SPANS if span.startswith(("python -m ", "tensorboard "))]
    words = [shlex.split(one, comments=True) for line in shown for one in line.split(" && ")]
    return list(dict.fromkeys(map(shlex.join, words)))


COMMANDS = commands()
SETTING_UP = ("python3", ".", "pip", "pytest")


def of_module(name):
    return [command for command in COMMANDS if command.split()[:3] == ["python", "-m", name]]


def arguments(command):
    return shlex.split(command)[3:]


QUESTIONS = [one for one in of_module("mtrl") if re.search(r" (--|dry_run)", one)]
SWEEPS = [one for one in of_module("mtrl") if "-m" in arguments(one)]
PHASES = {
    f"python -m mtrl experiment=mt10 phase={number}": steps for number, steps in enumerate((160, 200, 240), 1)
}
"""The phases of one run, which are trained one after the other, and where each ends on a budget of seconds."""
TRAINING = [one for one in of_module("mtrl") if one not in (*QUESTIONS, *SWEEPS, *PHASES)]


BUDGET = [
    *without(TINY, ["total_steps", "env.copies_per_task", "evaluation.every", "evaluation.final_episodes"]),
    *("total_steps=160", "evaluation.every=120", "evaluation.final_episodes=1", "checkpoint.every=1000"),
]
"""What a command is given to end within seconds; its other words stay as they are."""


def shrunk(command):
    """Return the words of a command with a budget of seconds, for the run that a transfer begins with, too."""
    words, budget = arguments(command), BUDGET
    if any(word.startswith("phase=") for word in words):
        budget = [*without(budget, ["total_steps"]), f"phases={written(list(PHASES.values()))}"]
    words = [*without(words, budget), *budget]
    if not any("transfer" in word for word in words):
        return words
    short = ["total_steps=120", *(word for word in BUDGET if word.startswith("evaluation."))]
    train = [*without(compose_run(words).config.transfer.train, short), *short]
    return [*words, f"transfer.train={written(train)}"]


def run_here(words):
    with pytest.raises(SystemExit) as end:
        mtrl_main(words)
    return end.value.code


@pytest.fixture(autouse=True)
def plenty_of_memory(monkeypatch):
    """What the pages show must not depend on how much memory this machine has left."""
    monkeypatch.setattr(hardware, "free_memory", lambda: 256 * 2**30)


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """Return a directory in which ``outputs`` holds runs of mt1, mt3, mt10, and two of a transfer's target."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("readme")
    tiny = ("total_steps=120", "evaluation.every=1000", "evaluation.final_episodes=1")
    train(folder / "outputs", *tiny, "logging.tensorboard=true")
    train(folder / "outputs", "experiment=mt3", *tiny)
    train(folder / "outputs", "experiment=mt10", *tiny)
    # A report compares a transfer with its baseline by reading two runs; that they train is shown elsewhere.
    for word in ("algo.gamma=0.98", "algo.gamma=0.97"):
        train(folder / "outputs", "experiment=transfer/reach_to_push", "transfer.train=[]", word, *tiny)
    return folder


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Return the directory in which the commands are run one after the other, as a reader would."""
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("runs")


def test_there_is_a_check_for_every_command():
    tested = ("evaluation", "report", "play", "tune", "status", "benchmark")
    modules = {command.split()[2] for command in COMMANDS if command.startswith("python ")}
    assert modules <= {"mtrl", *(f"mtrl.{name}" for name in tested)}
    assert {command.split()[0] for command in COMMANDS} <= {"python", "tensorboard", *SETTING_UP}
    assert len(COMMANDS) > 30
    assert len(OVERRIDES) > 20
    assert set(range(1, 6)) == {int(n) for n in re.findall(r"^\*\*Example (\d): ", TEXT, re.MULTILINE)}


@pytest.mark.parametrize("command", [*QUESTIONS, *SWEEPS])
def test_a_question_is_answered_and_a_sweep_composes(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "joblib" in command:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    assert run_here([*arguments(command), "dry_run=true"]) == 0
    assert ("outputs" if command in SWEEPS else "experiment") in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", TRAINING)
def test_a_training_command_trains(command, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    words = shrunk(command)
    assert run_here(words) == 0
    composition = compose_run(words)
    status = yaml.safe_load((run_directory(composition) / "status.json").read_text())
    assert status["state"] == "finished"
    assert status["step"] >= composition.config.total_steps


def test_the_three_phases_are_one_run_that_continues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(list(PHASES)[:2]) <= set(COMMANDS)
    assert [run_here(shrunk(command)) for command in PHASES] == [0, 0, 0]
    path = run_directory(compose_run(shrunk(list(PHASES)[-1])))
    status = yaml.safe_load((path / "status.json").read_text())
    assert [*(start["step"] for start in status["starts"]), status["step"]] == [0, *PHASES.values()]


@pytest.mark.parametrize(("prompt", "answer"), list(zip(PROMPTS, ANSWERS, strict=True)))
def test_an_answer_that_is_shown_is_the_one_that_is_given(prompt, answer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_here(arguments(prompt))
    assert capsys.readouterr().err.strip() == answer


@pytest.mark.parametrize("span", OVERRIDES)
def test_an_override_in_the_text_composes(span):
    words = span.split()
    if any("sb3_contrib" in word for word in words) and find_spec("sb3_contrib") is None:
        pytest.skip("sb3_contrib is not installed")
    if any(re.fullmatch(r"(n_trials|seeds|search|sampler|prune|objective|name)=.*", word) for word in words):
        pytest.skip("it is an option of mtrl.tune, whose tests use it")
    refusals = []
    # Some make sense for one task alone, some for several, some in stages or after a source.
    recipes = ("experiment=mt1", "experiment=mt10", "experiment=mt1 transfer.train=[task=push-v3]")
    for recipe in (*recipes, "experiment=mt10 curriculum=progressive", "experiment=transfer/reach_to_push"):
        try:
            for member in compose_sweep([*without(recipe.split(), words), *words]).members:
                compose_run(member)
        except ConfigurationError as error:
            refusals.append(str(error))
        else:
            assert span not in REFUSED
            return
    assert span in REFUSED, refusals


READERS = [*of_module("mtrl.evaluation"), *of_module("mtrl.status"), *of_module("mtrl.report")]


@pytest.mark.parametrize("command", READERS)
def test_a_command_that_reads_runs_works(command, trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    module = command.split()[2]
    if module == "mtrl.report":
        pytest.importorskip("matplotlib")
    main = import_module(module if module == "mtrl.status" else f"{module}.__main__").main
    words = arguments(command)
    if module == "mtrl.report" and not [word for word in words if not word.startswith("-")]:
        words.append("outputs")
    assert main([*words, *(["--episodes", "1"] if module == "mtrl.evaluation" else [])]) == 0
    shown = capsys.readouterr().out
    assert Path(shown.strip()).is_file() if module == "mtrl.report" else "reach-v3" in shown


# That videos, searches and measurements come of it is shown by the tests of these commands.
@pytest.mark.parametrize("command", of_module("mtrl.play"))
def test_a_command_that_shows_is_understood(command, trained, monkeypatch, capsys):
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.chdir(trained)
    monkeypatch.setattr(play, "choose_graphics", lambda: "egl")
    monkeypatch.setattr(play, "write_mp4", lambda *_: None)
    assert play.main(arguments(command)) == 0
    assert capsys.readouterr().out.strip().endswith(".mp4")


@pytest.mark.parametrize("command", [*of_module("mtrl.tune"), *of_module("mtrl.benchmark")])
def test_a_command_that_searches_or_measures_is_understood(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    module, words = command.split()[2], arguments(command)
    if module == "mtrl.tune":
        pytest.importorskip("optuna")
        words.append("dry_run=true")
    else:

        def run(options):
            compose_run(getattr(options, "overrides", []))
            return {"trials of": words[0]}

        monkeypatch.setattr(f"mtrl.benchmark.{words[0]}.run", run)
    assert import_module(f"{module}.__main__").main(words) == 0
    assert "trials of" in capsys.readouterr().out


def test_tensorboard_reads_what_a_run_writes(trained):
    shown = [command for command in COMMANDS if command.startswith("tensorboard ")]
    assert shown
    for command in shown:
        # The command itself serves until it is ended; --inspect reads the same files and says what is in them.
        result = python("-m", "tensorboard.main", *shlex.split(command)[1:], "--inspect", cwd=trained)
        assert result.returncode == 0, result.stderr
        assert "success_rate" in result.stdout


def test_setting_up_names_files_and_extras_that_exist():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    installing = [shlex.split(command) for command in COMMANDS if command.startswith("pip ")]
    assert installing
    for words in installing:
        assert (REPOSITORY / words[words.index("-c") + 1]).is_file()
        for extras in re.findall(r"\.\[([a-z,]+)\]", " ".join(words)):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "mtrl" in project["scripts"], "tab completion needs the console script"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet, trained, monkeypatch):
    monkeypatch.chdir(trained)
    (run,) = (trained / "outputs" / "mt1").glob("*/seed=1")
    shorter = re.sub(r"learn\([\d_]+\)", "learn(10)", snippet)
    names = {"obs": np.zeros((2, 40), np.float32)}
    exec(re.sub(r'"outputs/mt1/[^"]*"', repr(str(run)), shorter), names)
    if "action" in names:
        assert names["action"].shape == (2, 4)
    if "terminated" in names:
        # The loop written out: 1000 steps of four copies are two whole episodes of each.
        assert len(names["solved"]) == 8
        assert names["terminated"] == [False] * 4
        last = np.array([info["terminal_observation"] for info in names["infos"]])
        np.testing.assert_array_equal(names["next_obs"], last)
        assert not np.array_equal(names["obs"], last)
    if "env" in names:
        names["env"].close()


def test_the_loop_written_out_is_there():
    assert sum("terminal_observation" in snippet for snippet in SNIPPETS) == 1


def test_the_map_names_every_module_and_package():
    rows = re.findall(r"^\| (`.*?`) \|", TEXT.partition("## Map")[2].partition("\n## ")[0], re.MULTILINE)
    named = {name.removeprefix("mtrl/") for row in rows for name in re.findall(r"`([\w/.]+)`", row)}
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (REPOSITORY / "mtrl").iterdir()
        if path.name[0] not in "_." and path.name != "variant.py"
    }
    assert named == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_are_linked_are_there(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGES[page])
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
