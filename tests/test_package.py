"""The built wheel works by itself, from any directory: the configuration files are inside."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from tiny_runs import REPOSITORY

import mtrl


def run(*words, **options):
    result = subprocess.run(words, capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def pip(command, *words):
    flags = ["--disable-pip-version-check", command, "--quiet", "--no-deps"]
    run(sys.executable, "-m", "pip", *flags, *map(str, words))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


def test_every_configuration_file_is_inside(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(REPOSITORY) for path in (REPOSITORY / "conf").rglob("*.yaml")]
    assert len(files) > 15
    assert {f"mtrl/{path.as_posix()}" for path in files} <= inside
    assert not any(name.startswith(("tests/", "outputs/")) for name in inside)


def test_the_installed_command_composes_from_another_directory(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", "--target", site, wheel)
    there = {"cwd": elsewhere, "env": os.environ | {"PYTHONPATH": str(site)}}
    assert run(sys.executable, "-c", "import mtrl; print(mtrl.__file__)", **there).startswith(str(site))
    command = [sys.executable, str(site / "bin" / "mtrl")]
    printed = run(*command, "--cfg", "job", "experiment=mt10", **there)
    assert len(yaml.safe_load(printed)["env"]["tasks"]) == 10
    assert "experiment" in run(*command, "--help", **there)
    assert not list(elsewhere.iterdir())


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == mtrl.__version__
    assert project["scripts"] == {"mtrl": "mtrl.__main__:main"}


def test_everything_that_the_tests_use_has_one_pinned_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["test"]}
    own = next(name for name in extras["test"] if "mtrl" in name)
    for extra in re.search(r"\[(.+)\]", own)[1].split(","):
        wanted |= set(extras[extra])
    names = {re.split(r"[\[<>=~! ;]", text)[0].lower().replace("_", "-") for text in wanted}
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names - {"mtrl-metaworld"} <= pinned
