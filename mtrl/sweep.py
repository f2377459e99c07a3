"""Members of a sweep: each in a process of its own, so that a crash takes only itself."""

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mtrl.checks import check_writable
from mtrl.config.compose import CONF, Sweep, compose_sweep
from mtrl.config.types import require
from mtrl.config.values import flatten, key_of, written
from mtrl.errors import FAILED, TRY_AGAIN, UnreadableRunError
from mtrl.experiment import Composition, compose_run, run_directory
from mtrl.rundir.environment import import_alike
from mtrl.rundir.run import PLAN, Run
from mtrl.rundir.write import numbered
from mtrl.signals import LAUNCHED, SAME_EVENT, WARNINGS, Signals, handled
from mtrl.status import render, summary

_PLUGINS = {"joblib": ("hydra_joblib_launcher", "sweep"), "submitit": ("hydra_submitit_launcher", "cluster")}
"""Packages of launchers, and the extras that install them."""
AGAIN = 2
"""How often a member is started again that ends with ``TRY_AGAIN``: a worker was killed, the disk was full."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_WAIT_FOR_REQUEUE = 120.0
"""Seconds between a cluster's notice (SIGTERM) and its order to put the job into the queue again."""


def run_member(_: DictConfig) -> int:
    """Run the member that Hydra's launcher has composed; its exit code stops no other member."""
    job, variables = HydraConfig.get(), {}
    overrides = OmegaConf.to_container(job.overrides.task, resolve=False)
    launcher = job.runtime.choices["hydra/launcher"]
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
        variables[_VISIBLE] = devices[job.job.num % len(devices)]
    return run_process([sys.executable, "-m", "mtrl", *overrides], variables)


def _without_fresh(words: Sequence[str]) -> list[str]:
    """Return the words of a command without ``fresh``, which would put aside what an earlier start has made."""
    return [word for word in words if key_of(word) != "fresh"]


def run_process(command: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
    """Run a command with further environment variables and return its exit code.

    It gets the signals that this process gets, and is started again, a few times, if it asks to be tried again.

    Raises:
        SystemExit: A signal ended it: the launcher must not start another one.
    """
    environment = os.environ | import_alike() | (variables or {}) | {LAUNCHED: "1"}
    received: list[tuple[int, float]] = []
    process: subprocess.Popen | None = None

    def forward(number: int, _: FrameType | None) -> None:
        """Pass a signal on; at the second that asks for the end, end the process at once."""
        now = time.monotonic()
        asked = [(which, at) for which, at in received if which not in WARNINGS]
        hurry = any(which != number or now - at > SAME_EVENT for which, at in asked)
        received.append((number, now))
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL if hurry and number not in WARNINGS else number)

    # joblib may run members in threads, which cannot handle signals.
    heard = handled() if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, forward) for number in heard}
    try:
        for again in range(AGAIN + 1):
            if again:
                command = _without_fresh(command)
                message = f"ended with {TRY_AGAIN} and is started again, {again} of {AGAIN} times"
                print(f"mtrl: {shlex.join(command)} {message}", file=sys.stderr, flush=True)
            process = subprocess.Popen(command, env=environment)
            # A signal that came before there was a process to pass it on to.
            for number, _ in received:
                process.send_signal(number)
            code = process.wait()
            if code != TRY_AGAIN or received:
                break
        if received and code != 0:
            # Under submitit, its handler puts the job into the queue again once the cluster says so.
            handler, deadline = before.get(signal.SIGUSR2), time.monotonic() + _WAIT_FOR_REQUEUE
            while callable(handler) and time.monotonic() < deadline:
                if any(number == signal.SIGUSR2 for number, _ in received):
                    handler(signal.SIGUSR2, None)
                    break
                time.sleep(0.1)
            raise SystemExit(128 + received[0][0])
        return code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_sweep(overrides: Sequence[str], signals: Signals) -> int:
    """Check every member, run them with Hydra's launcher, and show the results; return the exit code.

    Raises:
        ConfigurationError: A member cannot run; none has started.
    """
    check_launcher(overrides)
    sweep = compose_sweep(overrides)
    check_writable(sweep.directory, "hydra.sweep.dir")
    # On a cluster, each member is checked as it starts.
    here = sweep.launcher != "submitit_slurm"
    compositions = [compose_run(member, on_this_machine=here) for member in sweep.members]
    _check_directories(compositions)
    plan = [f"{len(compositions)} runs:", *(f"  {run_directory(each)}" for each in compositions)]
    if any(composition.config.dry_run for composition in compositions):
        print("\n".join(plan))
        return 0
    named = any(key_of(word) == "hydra.sweep.dir" for word in sweep.for_hydra)
    folder = make_folder(sweep.directory, may_exist=named)
    (folder / PLAN).write_text("\n".join(plan) + "\n", encoding="utf-8")
    print("\n".join(plan), flush=True)
    # A launcher has its own ways with signals, and so has what passes them on to a member.
    signals.release()
    code = 0
    try:
        _launch(sweep, folder, [as_it_was_composed(each) for each in compositions])
    except Exception as error:  # What has run is shown all the same.
        code, why = FAILED, str(error).strip().partition("\n")[0] or type(error).__name__
        print(f"mtrl: hydra/launcher={sweep.launcher} failed: {why}", file=sys.stderr)
    return _show_results(compositions, folder) or code


def as_it_was_composed(composition: Composition) -> list[str]:
    """Return the overrides of a member with what they look up (``${...}``) as found: a clock soon says otherwise."""
    found, output = flatten(composition.values), f"output={written(composition.config.output)}"
    words = [
        f"{word.partition('=')[0]}={written(found[key_of(word)])}"
        if "$" in word and key_of(word) in found
        else word
        for word in composition.overrides
    ]
    # That of a recipe's file may look up the clock, too.
    own = output == "output=outputs" or any(key_of(word) == "output" for word in words)
    return words if own else [*words, output]


def _launch(sweep: Sweep, folder: Path, members: Sequence[list[str]]) -> None:
    """Let Hydra's launcher run the members, in processes that import what this one does."""
    os.environ.update(import_alike())
    with hydra.initialize_config_dir(str(CONF.absolute()), job_name="sweep", version_base="1.3"):
        words = [*sweep.for_hydra, f"hydra.sweep.dir={written(str(folder))}"]
        config = hydra.compose("config", words, return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=run_member, config=config
        )
        for first in range(0, len(members), sweep.at_once):
            batch = members[first : first + sweep.at_once]
            for result in launcher.launch(batch, initial_job_idx=first):
                # Raises what the member's job has raised.
                _ = result.return_value


def check_launcher(overrides: Sequence[str]) -> None:
    """Refuse a launcher whose package is not installed, naming the extra to install."""
    for text in overrides:
        key, _, option = text.partition("=")
        package, extra = _PLUGINS.get(option.split("_")[0], ("", ""))
        if key == "hydra/launcher" and package:
            install = f"{text} needs a package that is not there: pip install 'mtrl-metaworld[{extra}]'"
            require(importlib.util.find_spec(f"hydra_plugins.{package}") is not None, install)


def _check_directories(compositions: Sequence[Composition]) -> None:
    """Refuse members that are one run: keys that do not decide what is learned give them one directory."""
    found: dict[Path, Composition] = {}
    for each in compositions:
        directory = run_directory(each)
        other = found.setdefault(directory.absolute(), each)
        pairs = (other.overrides, each.overrides), (each.overrides, other.overrides)
        own = [" ".join(word for word in one if word not in another) for one, another in pairs]
        require(
            other is each,
            f"{' and '.join(words or 'the same words twice' for words in own)} are one run, in {directory}: start "
            "them one after the other without -m, or sweep over keys that decide what is learned",
        )


def make_folder(directory: Path, *, may_exist: bool) -> Path:
    """Make and return the directory of a sweep: its own one, also when several start in one second."""
    for folder in numbered(directory):
        with suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=may_exist)
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
    try:
        with (folder / "results.txt").open("w", encoding="utf-8") as file:
            Console(file=file, width=200, markup=False).print(table)
    except OSError as error:
        print(f"mtrl: {folder / 'results.txt'} cannot be written ({error.strerror})", file=sys.stderr)
    for directory in missing:
        print(f"{directory}: did not start", file=sys.stderr)
    return 1 if missing or any(run.state != "finished" for run in runs) else 0
