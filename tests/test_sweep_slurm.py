"""On a real SLURM a preempted member goes back into the queue, into its directory, and ends exactly."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import REPOSITORY, TINY, until, without

SCRIPT = REPOSITORY / "tests" / "support" / "one_node_slurm.sh"
OWN = ["total_steps=2500", "algo.learning_starts=40", "algo.batch_size=8", "evaluation.every=1000"]
OWN += ["checkpoint.every=100000", "logging.every=50", "logging.progress=off"]
MEMBERS = ["experiment=smoke", *without(TINY, OWN), *OWN]
RESOURCES = ("gpus_per_node=null", "cpus_per_task=1", "mem_gb=null", "timeout_min=60")
SLURM = ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{each}" for each in RESOURCES)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="SLURM is not installed (slurm-wlm, munge)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="starting a SLURM of one's own needs root"),
]


@pytest.fixture
def slurm(tmp_path):
    pytest.importorskip("submitit")
    folder = tmp_path / "slurm"
    munge = Path("/run/munge/munged.pid")
    ours = [folder / "slurmctld.pid", folder / "slurmd.pid", *([] if munge.exists() else [munge])]
    started = subprocess.run([str(SCRIPT), str(folder)], capture_output=True, text=True, check=False)
    variables = {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    try:
        assert started.returncode == 0, started.stderr
        yield os.environ | variables
    finally:
        for pid_file in ours:
            if pid_file.exists():
                os.kill(int(pid_file.read_text()), signal.SIGTERM)


def status(folder, seed):
    for path in folder.glob(f"outputs/smoke/*/seed={seed}/status.json"):
        return json.loads(path.read_text())
    return {}


def test_a_preempted_member_is_requeued_and_finishes_exactly(slurm, tmp_path):
    alone = [sys.executable, "-m", "mtrl", *MEMBERS, "seed=1", f"output={tmp_path / 'alone'}"]
    subprocess.run(alone, env=slurm, cwd=tmp_path, check=True, capture_output=True)
    command = [sys.executable, "-m", "mtrl", "-m", *MEMBERS, "seed=1,2", *SLURM]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    sweep = subprocess.Popen(command, env=slurm, cwd=tmp_path, **both)
    try:
        until(lambda: status(tmp_path, 1).get("step", 0) >= 100, 180)
        # What SLURM sends to a job that another one displaces; the launcher asks for USR2.
        words = ["squeue", "-h", "-t", "R", "-o", "%i"]
        listed = subprocess.run(words, env=slurm, capture_output=True, text=True, check=True)
        first = next(job for job in listed.stdout.split() if job.endswith("_0"))
        subprocess.run(["scancel", "--signal=TERM", first], env=slurm, check=True)
        subprocess.run(["scancel", "--signal=USR2", first], env=slurm, check=True)
        said, _ = sweep.communicate(timeout=400)
    finally:
        sweep.kill()
    assert sweep.returncode == 0, said
    ended = status(tmp_path, 1)
    assert ended["state"] == "finished"
    assert len(ended["starts"]) == 2
    assert ended["starts"][1]["step"] >= 100
    assert len(status(tmp_path, 2)["starts"]) == 1
    for name in ("metrics.csv", "evaluation.csv"):
        (one,) = tmp_path.glob(f"outputs/smoke/*/seed=1/{name}")
        (other,) = tmp_path.glob(f"alone/smoke/*/seed=1/{name}")
        assert one.read_text() == other.read_text()
