"""On a real SLURM a preempted member goes back into the queue, into its directory, and ends exactly."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import REPOSITORY

SCRIPT = REPOSITORY / "tests" / "support" / "one_node_slurm.sh"
MEMBERS = [
    "experiment=smoke",
    "env.horizon=20",
    "algo.learning_starts=40",
    "algo.batch_size=8",
    "variant.actor_layers=[8]",
    "variant.critic_layers=[8]",
    "evaluation.every=1000",
    "evaluation.final_episodes=1",
    "checkpoint.every=100000",
    "logging.every=50",
    "logging.tensorboard=false",
    "logging.progress=off",
    "hardware.threads=1",
    "hardware.torch_threads=1",
]
SLURM = [
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=null",
    "hydra.launcher.timeout_min=60",
]

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
    environment = os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    try:
        assert started.returncode == 0, started.stderr
        yield environment
    finally:
        for pid_file in ours:
            if pid_file.exists():
                os.kill(int(pid_file.read_text()), signal.SIGTERM)


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.3)


def jobs(environment):
    listed = subprocess.run(
        ["squeue", "-h", "-t", "R", "-o", "%i"], env=environment, capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


def status(folder, seed):
    for path in folder.glob(f"outputs/smoke/*/seed={seed}/status.json"):
        return json.loads(path.read_text())
    return {}


def test_a_preempted_member_is_requeued_and_finishes_exactly(slurm, tmp_path):
    steps = "total_steps=2500"
    alone = [sys.executable, "-m", "mtrl", *MEMBERS, steps, "seed=1", f"output={tmp_path / 'alone'}"]
    subprocess.run(alone, env=slurm, cwd=tmp_path, check=True, capture_output=True)
    sweep = subprocess.Popen(
        [sys.executable, "-m", "mtrl", "-m", *MEMBERS, steps, "seed=1,2", *SLURM],
        env=slurm,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: status(tmp_path, 1).get("step", 0) >= 100)
        # What SLURM sends to a job that another one displaces; the launcher asks for USR2.
        first = next(job for job in jobs(slurm) if job.endswith("_0"))
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
