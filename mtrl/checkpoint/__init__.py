"""Checkpoints from which a run continues exactly, and saved models."""

from mtrl.checkpoint.agent import Stateful
from mtrl.checkpoint.model import MODEL, NORMALISER, SCORE, load_weights, save_model
from mtrl.checkpoint.store import Checkpoint, CheckpointFailedError, Store, verify
from mtrl.checkpoint.values import DamagedError

__all__ = [
    "MODEL",
    "NORMALISER",
    "SCORE",
    "Checkpoint",
    "CheckpointFailedError",
    "DamagedError",
    "Stateful",
    "Store",
    "load_weights",
    "save_model",
    "verify",
]
