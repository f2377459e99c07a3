"""A process that has imported everything and forks a run for each line it is sent.

A line is a JSON table: ``overrides``; ``tiny`` (use the light environment); ``faults`` of the environment;
``call`` (a function of ``tiny`` and its arguments); ``kill_when`` (path and size of a file to wait for);
``kill_after`` (seconds) with ``signal`` and ``group``.
The answer is a JSON table: ``code`` (exit code, or minus the signal), ``seconds`` since the signal, ``printed``.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["OMP_NUM_THREADS"] = "1"

import tiny
import torch

import mtrl.train
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run
from mtrl.start import run_one


def warm_up():
    """Run once, so that whatever is imported late is there."""
    original = mtrl.env.make.make_vec_env
    tiny.use_tiny_environment()
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(sys.stderr):
        run_one(compose_run([*tiny.TINY, "total_steps=60", f"output={output}"]))
    mtrl.env.make.make_vec_env = original


def main():
    torch.set_num_threads(1)
    warm_up()
    compositions = {}
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        key = tuple(order["overrides"])
        try:
            if key not in compositions:
                compositions[key] = compose_run(list(key))
            answer = run(order, compositions[key])
        except ConfigurationError as error:
            answer = {"code": 2, "printed": str(error)}
        print(json.dumps(answer), flush=True)


def run(order, composition):
    # A pipe, for a limit on the size of files must not hold for what is printed.
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(reading)
        os.close(writing)
        os._exit(child(order, composition))
    os.close(writing)
    printed = []
    listener = threading.Thread(target=listen, args=(reading, printed), daemon=True)
    listener.start()
    sent = None
    if "kill_when" in order:
        path, size = order["kill_when"]
        while not (os.path.exists(path) and os.path.getsize(path) >= size):
            time.sleep(0.05)
    if order.get("kill_after") is not None:
        time.sleep(order["kill_after"])
        sent = time.monotonic()
        number = order.get("signal", signal.SIGKILL)
        # The child makes its group itself, which it may not have done yet.
        os.killpg(pid, number) if order.get("group") else os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    seconds = None if sent is None else time.monotonic() - sent
    # Workers of a killed run may hold the pipe for a moment.
    listener.join(10)
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": code,
        "seconds": seconds,
        "printed": b"".join(printed).decode(errors="replace"),
        "pid": pid,
    }


def listen(descriptor, printed):
    with open(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(2**16):
            printed.append(chunk)


def child(order, composition):
    try:
        if order.get("tiny", True):
            tiny.use_tiny_environment(**order.get("faults", {}))
        if "call" in order:
            name, arguments = order["call"]
            getattr(tiny, name)(*arguments)
        return run_one(composition)
    except ConfigurationError as error:
        print(f"mtrl: {error}")
        return 2
    except KeyboardInterrupt:
        # Before the run began to listen: the process dies of it, as others do.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    main()
