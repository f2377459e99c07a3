"""Where the weights of a run come from: a file of its own, written once, for a status changes and may be lost."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtrl.records import write_json

LINEAGE = "lineage.json"

_LARGEST_FILE = 4 * 2**20
"""Bytes of a file beyond which it is certainly none of these."""


def write_lineage(run: Path, lineage: Mapping[str, Any]) -> None:
    """Write down what the weights of a run began with, in its directory."""
    write_json(run / LINEAGE, lineage)


def read_lineage(run: Path) -> dict[str, Any] | None:
    """Return what the weights of a run began with, None where they were new or nothing readable says.

    Runs of earlier versions have it in their status alone.
    """
    for found in (_table(run / LINEAGE), _table(run / "status.json").get("transfer")):
        if (
            isinstance(found, dict)
            and isinstance(found.get("tasks"), list)
            and isinstance(found.get("origins"), dict)
        ):
            return found
    return None


def recorded_content(experiment: Path, seed: int, source: str) -> str | None:
    """Return the content that ``source`` had when the newest run of an experiment began from it.

    Args:
        experiment: Directory of the experiment's runs.
        seed: Their seed.
        source: What ``transfer.source`` names, which is not there any more.
    """
    named = str(Path(source).absolute())
    paths = sorted(experiment.glob(f"*/seed={seed}/{LINEAGE}"), key=lambda path: path.stat().st_mtime)
    for path in reversed(paths):
        lineage = _table(path)
        if lineage.get("named") == named and isinstance(lineage.get("sha256"), str):
            return lineage["sha256"]
    return None


def _table(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text()) if path.stat().st_size <= _LARGEST_FILE else None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
