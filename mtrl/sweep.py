"""Members of a sweep: each in a process of its own, so that a crash takes only itself."""

import contextlib
import importlib.util
import itertools
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from mtrl.config.compose import members
from mtrl.config.values import key_of, written
from mtrl.errors import TRY_AGAIN, ConfigurationError, UnreadableRunError
from mtrl.experiment import Composition, compose_run, run_directory
from mtrl.rundir.run import PLAN, Run
from mtrl.signals import HANDLED, LAUNCHED, SAME_EVENT, WARNINGS
from mtrl.status import render, summary

_PLUGINS = {"joblib": "hydra_joblib_launcher", "submitit": "hydra_submitit_launcher"}
AGAIN = 2
"""How often a member is started again that ends with ``TRY_AGAIN``: a worker was killed, the disk was full."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_REQUEUE = signal.SIGUSR2
_WAIT_FOR_REQUEUE = 120.0
"""Seconds between a cluster's notice (SIGTERM) and its order to put the job into the queue again."""


def run_member(_: DictConfig) -> int:
    """Run the member that Hydra's launcher has composed; its exit code stops no other member."""
    hydra = HydraConfig.get()
    overrides, launcher = list(hydra.overrides.task), hydra.runtime.choices["hydra/launcher"]
    variables = {}
    if launcher.startswith("submitit"):
        from submitit import JobEnvironment

        # SLURM counts also the starts that never came to this process, and submitit's local jobs count none.
        mark = JobEnvironment().paths.folder / "started"
        if mark.exists():
            overrides = _without_fresh(overrides)
        mark.touch()
    if launcher == "submitit_local":
        # Submitit shows every GPU to every local member: each takes one of them in turn.
        devices = os.environ.get(_VISIBLE, "").split(",")
        variables[_VISIBLE] = devices[hydra.job.num % len(devices)]
    return Member([sys.executable, "-m", "mtrl", *overrides], variables).run()


def _without_fresh(words: Sequence[str]) -> list[str]:
    """Return the words of a command without ``fresh``, which would put aside what an earlier start has made."""
    return [word for word in words if key_of(word) != "fresh"]


class Member:
    """The process of one member, which gets the signals that its launcher's process gets.

    It runs ``command``, in the environment of this process with other ``variables``.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._environment = os.environ | (variables or {}) | {LAUNCHED: "1"}
        self._process: subprocess.Popen | None = None
        self._received: list[tuple[int, float]] = []
        """Each signal and when it came."""
        self._before: dict[int, Any] = {}

    def run(self) -> int:
        """Wait for the process and return its exit code; one that asks to be tried again is, a few times.

        Raises:
            SystemExit: A signal ended the member: the launcher must not start another one.
        """
        # joblib may run members in threads, which cannot handle signals.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._forward) for number in HANDLED}
        try:
            code, again = self._run_once(), 0
            while code == TRY_AGAIN and not self._received and again < AGAIN:
                again += 1
                self._command = _without_fresh(self._command)
                message = f"ended with {TRY_AGAIN} and is started again, {again} of {AGAIN} times"
                print(f"mtrl: {shlex.join(self._command)} {message}", file=sys.stderr, flush=True)
                code = self._run_once()
            if self._received and code != 0:
                self._requeue()
                raise SystemExit(128 + self._received[0][0])
            return code
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _run_once(self) -> int:
        self._process = subprocess.Popen(self._command, env=self._environment)
        # A signal that came before there was a process to pass it on to.
        for number, _ in self._received:
            self._process.send_signal(number)
        return self._process.wait()

    def _forward(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on; at the second that asks for the end, end the member at once."""
        now = time.monotonic()
        asked = [(which, at) for which, at in self._received if which not in WARNINGS]
        hurry = any(which != number or now - at > SAME_EVENT for which, at in asked)
        self._received.append((number, now))
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if hurry and number not in WARNINGS else number)

    def _requeue(self) -> None:
        """Under submitit, let its handler put the job into the queue again once the cluster says so."""
        handler, deadline = self._before.get(_REQUEUE), time.monotonic() + _WAIT_FOR_REQUEUE
        while callable(handler) and time.monotonic() < deadline:
            if any(number == _REQUEUE for number, _ in self._received):
                handler(_REQUEUE, None)
                break
            time.sleep(0.1)


def run_sweep(overrides: Sequence[str], launch: Callable[[list[str]], int]) -> int:
    """Check every member, run them with Hydra's launcher, and show the results; return the exit code.

    ``overrides`` are those of all members, ``launch`` hands the command to Hydra, with further overrides.

    Raises:
        ConfigurationError: A member cannot run; none has started.
    """
    check_launcher(overrides)
    # On a cluster, each member is checked as it starts.
    here = "hydra/launcher=submitit_slurm" not in overrides
    compositions = [compose_run(member, on_this_machine=here) for member in members(overrides)]
    _check_directories(compositions)
    plan = [f"{len(compositions)} runs:", *(f"  {run_directory(each)}" for each in compositions)]
    print("\n".join(plan))
    if any(composition.config.dry_run for composition in compositions):
        return 0
    folder = make_folder(overrides)
    (folder / PLAN).write_text("\n".join(plan) + "\n")
    launch([f"hydra.sweep.dir={written(str(folder))}"])
    return _show_results(compositions, folder)


def check_launcher(overrides: Sequence[str]) -> None:
    """Refuse a launcher whose package is not installed, naming the extra to install."""
    for text in overrides:
        key, _, option = text.partition("=")
        plugin = _PLUGINS.get(option.split("_")[0])
        if key == "hydra/launcher" and plugin and importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
            extra = "sweep" if option == "joblib" else "cluster"
            raise ConfigurationError(
                f"{text} needs a package that is not there: pip install 'mtrl-metaworld[{extra}]'"
            )


def _check_directories(compositions: Sequence[Composition]) -> None:
    """Refuse members that are one run: keys that do not decide what is learned give them one directory."""

    def only_in(one: Composition, other: Composition) -> str:
        words = [word for word in one.overrides if word not in other.overrides]
        return " ".join(words) or "the same words twice"

    found: dict[Path, Composition] = {}
    for each in compositions:
        directory = run_directory(each)
        other = found.setdefault(directory.absolute(), each)
        if other is not each:
            raise ConfigurationError(
                f"{only_in(other, each)} and {only_in(each, other)} are one run, in {directory}: start them one after "
                "the other without -m, or sweep over keys that decide what is learned"
            )


def make_folder(overrides: Sequence[str]) -> Path:
    """Make and return the directory of a sweep: its own one, also when several start in one second."""
    named = [text.partition("=")[2] for text in overrides if text.startswith("hydra.sweep.dir=")]
    if named:
        Path(named[0]).mkdir(parents=True, exist_ok=True)
        return Path(named[0])
    first = Path("multirun") / time.strftime("%Y-%m-%d/%H-%M-%S")
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


def _show_results(compositions: Sequence[Composition], folder: Path) -> int:
    """Print the state of each member, and write it to ``folder``; return 0 if all finished and 1 otherwise."""
    runs, missing = [], []
    for directory in map(run_directory, compositions):
        try:
            runs.append(Run(directory))
        except UnreadableRunError:
            missing.append(directory)
    table = render([summary(run) for run in runs])
    Console(markup=False).print(table)
    with (folder / "results.txt").open("w") as file:
        Console(file=file, width=200, markup=False).print(table)
    for directory in missing:
        print(f"{directory}: did not start", file=sys.stderr)
    return 1 if missing or any(run.state != "finished" for run in runs) else 0
