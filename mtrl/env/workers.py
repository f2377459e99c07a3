"""Environment copies in worker processes, several a process, with failures that are named and never hang.

stable-baselines3's ``SubprocVecEnv`` starts one process per copy, reports a dead one as a bare ``EOFError``,
waits for ever for a stopped one, and hangs in ``close()`` afterwards.
"""

import multiprocessing
import os
import pickle
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.util import get_temp_dir
from typing import Any, NoReturn

import cloudpickle
import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from mtrl.env.metaworld import Indices, OrderedVecEnv
from mtrl.errors import WorkerLostError, WorkerRaisedError
from mtrl.rundir.environment import import_alike
from mtrl.signals import HANDLED, NO_EXIT

_LONGEST = 70
"""Bytes of the longest directory for temporary files in which a socket can be made, whose path may have 107."""
_UNGUARDED = 64
"""Exit code of a worker that imports a script which starts workers without asking whether it is the main one."""


class WorkerVecEnv(OrderedVecEnv):
    """Copies spread over worker processes, each a ``DummyVecEnv`` of consecutive copies.

    ``make_envs`` holds one function per copy, ``names`` what each is called in messages until it tells another of
    ``tasks``; a worker that does not answer for ``timeout`` seconds counts as lost.
    """

    def __init__(
        self,
        make_envs: Sequence[Callable[[], gymnasium.Env]],
        workers: int,
        *,
        names: Sequence[str],
        tasks: Sequence[str] = (),
        timeout: float = 120.0,
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # This is a worker that imports the script which starts it, and has come to the same line.
            os._exit(_UNGUARDED)
        self._names, self.tasks, self._timeout = list(names), tasks, timeout
        self._under_way, self._step_answers = False, []
        self._owned = [chunk.tolist() for chunk in np.array_split(np.arange(len(make_envs)), workers)]
        # A forked child would inherit torch's and MuJoCo's threads in an unknown state. This module is imported
        # once for all workers, and starts no thread.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["mtrl.env.workers"])
        _start_fork_server()
        self._remotes: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        for owned in self._owned:
            ours, theirs = context.Pipe()
            payload = cloudpickle.dumps([make_envs[i] for i in owned])
            process = context.Process(target=_serve, args=(theirs, payload), daemon=True)
            try:
                # A worker whose own description breaks off ends with a traceback from inside multiprocessing.
                with NO_EXIT:
                    process.start()
            except (EOFError, ConnectionError) as error:
                self.close()
                raise WorkerLostError(
                    "the server that starts worker processes was killed: run the same command again to continue"
                ) from error
            theirs.close()
            self._remotes.append(ours)
            self._processes.append(process)
        # Each answers once it has made its copies.
        super().__init__(len(make_envs), *self._receive()[0])

    def _reset(self) -> NDArray[np.float32]:
        self._collect()
        for worker, owned in enumerate(self._owned):
            self._send(worker, "reset", [self._seeds[i] for i in owned], [self._options[i] for i in owned])
        self._reset_seeds()
        self._reset_options()
        obs, infos = zip(*self._receive(), strict=True)
        self.reset_infos = list(chain(*infos))
        self._name(self.reset_infos)
        return np.concatenate(obs)

    def _begin_step(self, actions: NDArray[Any]) -> None:
        self._under_way = True
        for worker, owned in enumerate(self._owned):
            self._send(worker, "step", actions[owned[0] : owned[-1] + 1])

    def _collect(self) -> None:
        """Take the answers to a step under way, before anything else is asked."""
        if self._under_way:
            self._under_way, self._step_answers = False, self._receive()

    def _end_step(self) -> VecEnvStepReturn:
        self._collect()
        obs, rewards, dones, infos, reset_infos = zip(*self._step_answers, strict=True)
        of_copies, self.reset_infos = list(chain(*infos)), list(chain(*reset_infos))
        self.warn_of_unstable(of_copies)
        done = np.concatenate(dones)
        self._name([self.reset_infos[i] if done[i] else info for i, info in enumerate(of_copies)])
        return np.concatenate(obs), np.concatenate(rewards), done, of_copies

    def _name(self, infos: Sequence[dict[str, Any]]) -> None:
        for copy, info in enumerate(infos if self.tasks else []):
            self._names[copy] = f"copy {copy} ({self.tasks[info['task_id']]})"

    def _who(self, copy: int) -> str:
        return self._names[copy]

    def _close(self) -> None:
        # By force: workers hold nothing that is not in the main process or lost anyway.
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        for remote in self._remotes:
            remote.close()
        self._processes, self._remotes = [], []

    def has_attr(self, attr_name: str) -> bool:
        """Tell whether every copy has the attribute, which need not be able to leave its process."""
        return all(self._ask("has_attr", None, attr_name))

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of the copies in ``indices``."""
        return self._ask("get_attr", indices, attr_name)

    def set_attr(self, attr_name: str, value: object, indices: Indices = None) -> None:
        """Set an attribute of the copies in ``indices``."""
        self._ask("set_attr", indices, attr_name, value)

    def _call(self, name: str, *arguments: Any, indices: Sequence[int], **named: Any) -> list[Any]:
        return self._ask("env_method", indices, name, *arguments, **named)

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Indices = None) -> list[bool]:
        """Tell of the copies in ``indices`` whether they are wrapped in ``wrapper_class``."""
        return self._ask("env_is_wrapped", indices, wrapper_class)

    def _ask(self, method: str, indices: Indices, *args: object, **kwargs: object) -> list[Any]:
        """Return the answers of the workers' DummyVecEnv to ``method``, in the order of ``indices``."""
        self.require(method, "new", "ready", "stepping")
        self._collect()
        wanted = self._get_indices(indices)
        asked = {}
        for worker, owned in enumerate(self._owned):
            local = [i - owned[0] for i in wanted if owned[0] <= i <= owned[-1]]
            if local:
                self._send(worker, method, local, args, kwargs)
                asked[worker] = [i + owned[0] for i in local]
        # All answers are taken before a refusal is raised, or the next question would be given an old one.
        answers = self._receive(asked)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        by_copy = dict(zip(chain(*asked.values()), chain(*answers), strict=True))
        return [by_copy[i] for i in wanted]

    def _send(self, worker: int, *message: object) -> None:
        try:
            self._remotes[worker].send_bytes(cloudpickle.dumps(message))
        except OSError as error:
            self._lost(worker, "was killed", error)

    def _receive(self, workers: Iterable[int] | None = None) -> list[Any]:
        """Return the answers of ``workers``, by default of all."""
        answers = []
        for worker in range(len(self._owned)) if workers is None else workers:
            try:
                if not self._remotes[worker].poll(self._timeout):
                    self._lost(worker, f"has not answered for {self._timeout:g} s")
                ok, answer = self._remotes[worker].recv()
            except (EOFError, ConnectionError) as error:
                self._lost(worker, "was killed", error)
            if not ok:
                self.close()
                index, trace = answer
                name = self._copies_of(worker) if index is None else self._names[self._owned[worker][index]]
                raise WorkerRaisedError(f"the environment of {name} raised:\n{trace}")
            answers.append(answer)
        return answers

    def _lost(self, worker: int, what: str, cause: BaseException | None = None) -> NoReturn:
        process = self._processes[worker]
        process.join(0.5)
        if process.exitcode == _UNGUARDED:
            self.close()
            raise RuntimeError(
                "each worker process imports this script, which would start workers of its own: put what it does "
                'below the line if __name__ == "__main__":, or give make_vec_env workers=1'
            ) from None
        code = f" (exit code {process.exitcode})" if process.exitcode is not None else ""
        name = f"worker process {process.pid} of {self._copies_of(worker)}"
        self.close()
        raise WorkerLostError(f"{name} {what}{code}: run the same command again to continue") from cause

    def _copies_of(self, worker: int) -> str:
        return ", ".join(self._names[i] for i in self._owned[worker])


def _start_fork_server() -> None:
    """Start the process that workers are forked from, where it does not run yet, deaf to what ends a run.

    Such a signal reaches the whole process group, also while a run starts workers in order to finish. What is
    blocked here stays blocked in the server and its workers; the main process gets its own a moment later, and
    ends the workers after it has saved.
    """
    before, variables = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED), {*os.environ}
    os.environ.update(import_alike())
    usual = tempfile.tempdir
    try:
        if len(os.fsencode(tempfile.gettempdir())) > _LONGEST:
            tempfile.tempdir = "/tmp"
        # Made once for the process, below the directory for temporary files.
        get_temp_dir()
        # It unblocks some of them once it has started a process of its own.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = usual
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if "PYTHONSAFEPATH" not in variables:
            os.environ.pop("PYTHONSAFEPATH", None)


class _Envs(list):
    """The copies of a worker; remembers which of them was asked for last."""

    last: int | None = None

    def __getitem__(self, index: int) -> gymnasium.Env:
        self.last = index
        return super().__getitem__(index)


def _serve(remote: Connection, payload: bytes) -> None:
    """Answer requests until the pipe closes; an exception is an answer too."""
    envs = None
    try:
        envs = DummyVecEnv(cloudpickle.loads(payload))
        envs.envs = _Envs(envs.envs)
        remote.send((True, (envs.observation_space, envs.action_space)))
        while True:
            answer = _answer(envs, *cloudpickle.loads(remote.recv_bytes()))
            try:
                remote.send((True, answer))
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                remote.send((True, TypeError(f"the answer cannot leave its process: {error}")))
    except (EOFError, ConnectionError):
        # The main process is gone, perhaps while the copies were made.
        return
    except Exception:  # sent on whole, and raised again by the receiver
        remote.send((False, (None if envs is None else envs.envs.last, traceback.format_exc())))


def _answer(envs: DummyVecEnv, command: str, *args: Any) -> Any:
    if command == "step":
        return *envs.step(*args), envs.reset_infos
    if command == "reset":
        envs._seeds, envs._options = args
        return envs.reset(), envs.reset_infos
    indices, positional, named = args
    if command == "has_attr":
        return [hasattr(envs.envs[index], *positional) for index in indices]
    # What a copy refuses leaves it as it was, in a worker as anywhere else.
    refusals: Any = Exception
    if command == "env_method":
        refusals = (ValueError, TypeError)
        try:
            for index in indices:
                envs.envs[index].get_wrapper_attr(positional[0])
        except AttributeError as absent:
            return absent
    # One by one, so that it is known which of them raised.
    call = getattr(envs, command)
    try:
        answers = [call(*positional, indices=[index], **named) for index in indices]
    except refusals as refusal:
        return refusal
    return [None if answer is None else answer[0] for answer in answers]
