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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    run(*pip, "--no-build-isolation", "--wheel-dir", str(folder), str(REPOSITORY))
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
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    run(*pip, "--target", str(site), str(wheel))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(site)
    command = [sys.executable, str(site / "bin" / "mtrl")]
    where = run(sys.executable, "-c", "import mtrl; print(mtrl.__file__)", cwd=elsewhere, env=environment)
    assert where.startswith(str(site))
    printed = run(*command, "--cfg", "job", "experiment=mt10", cwd=elsewhere, env=environment)
    assert len(yaml.safe_load(printed)["env"]["tasks"]) == 10
    assert "experiment" in run(*command, "--help", cwd=elsewhere, env=environment)
    assert not list(elsewhere.iterdir())


def test_the_version_is_told_once():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == mtrl.__version__
    assert project["scripts"] == {"mtrl": "mtrl.__main__:main"}


def test_everything_that_the_tests_use_has_one_pinned_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = set(project["dependencies"]) | set(extras["test"])
    for extra in re.search(r"\[(.+)\]", next(name for name in extras["test"] if "mtrl" in name))[1].split(
        ","
    ):
        wanted |= set(extras[extra])
    names = {re.split(r"[\[<>=~! ;]", text)[0].lower().replace("_", "-") for text in wanted}
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names - {"mtrl-metaworld"} <= pinned
