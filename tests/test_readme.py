"""Every command and every snippet of the README works: composed where it would train, run where it reads."""

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
from tiny_runs import REPOSITORY

from mtrl import hardware
from mtrl.__main__ import main as mtrl_main
from mtrl.compose import compose_run, members
from mtrl.config import ConfigurationError

TEXT = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LINES = [
    line for language, block in BLOCKS if language != "python" for line in block.splitlines() if line.strip()
]
PROMPTS = [line for line in LINES if line.startswith("$ ")]
ANSWERS = [line for line in LINES if line.startswith("mtrl: ")]
COMMANDS = list(dict.fromkeys(line for line in LINES if line not in PROMPTS and line not in ANSWERS))
SPANS = list(dict.fromkeys(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))))
OVERRIDES = [
    span for span in SPANS if re.fullmatch(r"([a-z_]+[a-z_./]*=[^\s\"()]+ ?)+", span) and "..." not in span
]
REFUSED = {"env.reward=v3"}
SETTING_UP = {"python3", "pip", "pytest"}


def words_of(command):
    return shlex.split(command, comments=True)


def of_module(name):
    return [command for command in COMMANDS if words_of(command)[:3] == ["python", "-m", name]]


@pytest.fixture(autouse=True)
def plenty(monkeypatch):
    """What the README shows must not depend on how much memory this machine has left."""
    monkeypatch.setattr(hardware, "free_memory", lambda: 256 * 2**30)


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """Return a directory in which ``outputs/mt1`` holds a run."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("readme")
    train(folder / "outputs", "total_steps=200", "evaluation.every=1000")
    return folder


def test_there_is_a_check_for_every_command():
    modules = {words_of(command)[2] for command in COMMANDS if words_of(command)[0] == "python"}
    commands = ("evaluation", "report", "play", "tune", "status", "benchmark")
    assert modules <= {"mtrl", *(f"mtrl.{name}" for name in commands)}
    assert {words_of(command)[0] for command in COMMANDS} <= {"python"} | SETTING_UP
    assert len(COMMANDS) > 15
    assert len(OVERRIDES) > 20


@pytest.mark.parametrize("command", of_module("mtrl"))
def test_a_training_command_composes(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = words_of(command)[3:]
    if "hydra/launcher=joblib" in words and find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        pytest.skip("the launcher is not installed")
    with pytest.raises(SystemExit) as end:
        mtrl_main([*words, "dry_run=true"])
    assert end.value.code == 0
    assert "outputs" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


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
    # Some make sense for one task alone, some for several.
    for recipe in ("experiment=mt1", "experiment=mt10", "experiment=mt1 transfer.train=[task=push-v3]"):
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
        from mtrl.evaluation_command import main

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


@pytest.mark.parametrize("command", of_module("mtrl.tune"))
def test_a_search_is_planned(command, tmp_path, monkeypatch, capsys):
    from mtrl.tune.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main([*words_of(command)[3:], "dry_run=true"]) == 0
    assert "trials of" in capsys.readouterr().out


@pytest.mark.parametrize("command", of_module("mtrl.benchmark"))
def test_a_benchmark_exists(command, capsys):
    from mtrl.benchmark.__main__ import main

    _, _, comment = command.partition("#")
    for subcommand in {words_of(command)[3], *re.findall(r"[a-z]+", comment)}:
        with pytest.raises(SystemExit) as end:
            main([subcommand, "--help"])
        assert end.value.code == 0, subcommand


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
