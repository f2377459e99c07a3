"""What lies where in a run directory. Whoever needs a file of a checkpoint asks here; imports nothing heavy.

::

    run.lock  config.yaml  environment.json  status.json  run.log  metrics.csv  evaluation.csv  timing.csv
    lineage.json                   what the weights began with; only where there is a transfer
    comparison.json                of a transfer with its baseline, where transfer.baseline asks for it
    refused_transition.npz         the transition with a NaN or an infinity that ended the run, if one did
    play.mp4                       the video of python -m mtrl.play
    tensorboard/                   with logging.tensorboard=true
    buffer/seg_<low>_<high>.npz    transitions; written once, shared by checkpoints
    checkpoints/step_<n>/          model.zip state.json state.npz normaliser.npz score.json manifest.json
    checkpoints/best, stage_<k>/   model.zip normaliser.npz score.json
"""

from pathlib import Path

MODEL, NORMALISER, SCORE = "model.zip", "normaliser.npz", "score.json"
"""The files of every saved model; the normaliser only where the run has one."""
STATE, ARRAYS, MANIFEST = "state.json", "state.npz", "manifest.json"
"""The further files of a checkpoint that a run continues from."""


def checkpoints_of(run: Path) -> Path:
    """Return the folder of a run's saved models and checkpoints."""
    return run / "checkpoints"


def buffer_of(run: Path) -> Path:
    """Return the folder of a run's transitions."""
    return run / "buffer"


def segment_name(low: int, high: int) -> str:
    """Return the name of the file with the transitions numbered ``low`` up to but without ``high``."""
    return f"seg_{low}_{high}.npz"


def step_checkpoint(run: Path, step: int) -> Path:
    """Return the checkpoint of an environment step."""
    return checkpoints_of(run) / f"step_{step}"


def best_model(run: Path) -> Path:
    """Return the folder of the model with the best evaluation."""
    return checkpoints_of(run) / "best"


def stage_model(run: Path, stage: int) -> Path:
    """Return the folder of the model with which a stage of the curriculum ended."""
    return checkpoints_of(run) / f"stage_{stage}"


def step_of(checkpoint: Path) -> int:
    """Return the environment step in the name of a checkpoint of ``step_checkpoints``."""
    return int(checkpoint.name.removeprefix("step_"))


def step_checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints that a run can continue from, by rising step."""
    named = [
        path for path in checkpoints_of(run).glob("step_*") if path.name.removeprefix("step_").isdecimal()
    ]
    return sorted(named, key=step_of)


def run_of(model: Path) -> Path | None:
    """Return the run directory that a model's file lies in; None for a zip of another name."""
    return model.parent.parent.parent if model.name == MODEL else None
