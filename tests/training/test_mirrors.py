"""TensorBoard and Weights & Biases get what the CSV files say, and cost the run neither imports nor its end."""

import errno
import importlib.util
import json
import struct
import subprocess
import sys

import pytest
from tiny_runs import REPOSITORY, rows

from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory


def test_it_is_off_and_not_imported_unless_asked_for_and_does_not_move_the_run():
    plain = compose_run([])
    assert plain.config.logging.wandb == "off"
    if importlib.util.find_spec("wandb"):
        assert run_directory(compose_run(["logging.wandb=offline"])) == run_directory(plain)
    script = "import mtrl.training.callbacks, sys; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY).returncode == 0


def test_an_unknown_mode_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(ConfigurationError, match=r"logging\.wandb=yes is not one of off, online, offline"):
        compose_run(["logging.wandb=yes"])
    monkeypatch.setattr("mtrl.checks.installed", lambda name: False)
    with pytest.raises(ConfigurationError, match=r"needs wandb.*\[track\]"):
        compose_run(["logging.wandb=offline"])


def test_online_without_a_login_is_refused_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("mtrl.checks.installed", lambda name: True)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigurationError, match="wandb login first"):
        compose_run(["logging.wandb=online"])
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert compose_run(["logging.wandb=online"]).config.logging.wandb == "online"


@pytest.mark.parametrize("broken", ["add_scalar", "close", "__init__"])
def test_a_mirror_that_fails_ends_neither_the_run_nor_its_logs(train, tmp_path, monkeypatch, caplog, broken):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"torch.utils.tensorboard.SummaryWriter.{broken}", full)
    words = ("task=reach-v3", "logging.tensorboard=true", "total_steps=200", "evaluation.every=1000")
    path = train(tmp_path, *words)
    assert caplog.text.count("TensorBoard gets nothing") == 1
    assert (path / "metrics.csv").read_text().count("\n") == 3


def logged_rows(path):
    """Return what an offline run of wandb holds: records in blocks of 32 KiB, as LevelDB writes its log."""
    from wandb.proto import wandb_internal_pb2

    content, at, block, rows, parts = path.read_bytes(), 7, 2**15, [], b""
    while at + 7 <= len(content):
        left = block - at % block
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        whole, last = 1, 4
        if kind in (whole, last):
            record, parts = wandb_internal_pb2.Record.FromString(parts), b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows


def test_an_offline_run_holds_what_the_csv_files_say(train, tmp_path):
    pytest.importorskip("wandb")
    run = train(tmp_path, "logging.wandb=offline")
    (log,) = run.glob("wandb/offline-run-*/*.wandb")
    logged = logged_rows(log)

    def mirrored(name):
        return {row["step"]: row[name] for row in logged if name in row}

    evaluations = {int(row["step"]): float(row["success_rate"]) for row in rows(run / "evaluation.csv")}
    assert mirrored("evaluation_train/success_rate") == evaluations
    losses = {
        int(row["step"]): float(row["loss/critic"]) for row in rows(run / "metrics.csv") if row["loss/critic"]
    }
    assert losses
    assert mirrored("training/loss/critic") == pytest.approx(losses, rel=1e-6)
