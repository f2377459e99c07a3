"""Multi-task reinforcement learning on Meta-World.

``python -m mtrl`` is the experiment framework; the names below serve people with a training loop of their own.
They are imported on first use, so that ``import mtrl`` stays free of torch and MuJoCo.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {"make_vec_env": "mtrl.env.make", "load": "mtrl.evaluation.policy"}
__all__ = ["__version__", "load", "make_vec_env"]


def __getattr__(name: str) -> Any:
    """Import a public function on first use (PEP 562)."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'mtrl' has no attribute {name!r}")
