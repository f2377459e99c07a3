"""The one reader of a run directory's CSV, YAML and JSON files, which may be damaged or hostile.

Nothing in them is executed. Whatever is wrong with a file, reading it raises DamagedError and nothing else.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mtrl.errors import DamagedError

_LARGEST_YAML, _LARGEST, _LARGEST_JSON, _LARGEST_TABLE = 2**18, 2**22, 2**26, 2**27
"""Bytes beyond which a file is no configuration (YAML is slow to read), no text, no table of values, and no log."""
_DEEPEST = 50
"""Levels of tables in tables beyond which a file is none of ours: Python cannot show it."""
# PyYAML lets the errors of int(), bool() and of regular expressions through.
_UNREADABLE = (OSError, ValueError, RecursionError, LookupError, AttributeError, TypeError, yaml.YAMLError)


class Table:
    """Columns of equal length, by name, and a sentence for whatever could not be read.

    A column is an array of float64, in which an empty cell is NaN, or for text of str.
    """

    def __init__(self, columns: dict[str, NDArray], problems: list[str]) -> None:
        self.columns, self.problems = columns, problems

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> NDArray:
        return self.columns[name]

    def take(self, rows: NDArray) -> "Table":
        """Return the rows that a mask or an array of indices selects."""
        return Table({name: column[rows] for name, column in self.columns.items()}, self.problems)


def read_table(path: Path, text: Sequence[str] = (), columns: Sequence[str] | None = None) -> Table:
    """Read those of ``columns`` that a CSV log has, all if None; those in ``text`` are text, all others numbers.

    A last line without its line break is a torn write: it is ignored and reported even if it looks whole, because a
    number may have lost its last digits. So are lines with a wrong number of cells or with words for numbers.

    Raises DamagedError if the file cannot be opened.
    """
    if path.is_file() and not path.stat().st_size:
        # A crash came before the header.
        return Table({}, [])
    lines = _read(path, lambda text: text.split("\n"), _LARGEST_TABLE, "replace")
    problems = [f"{path}: the last line is torn and ignored"] if lines.pop() else []
    header = _cells(lines[0]) if lines else []
    wanted = {name: index for index, name in enumerate(header) if columns is None or name in columns}
    rows, damaged = [], []
    for number, line in enumerate(lines[1:], start=2):
        cells = _cells(line)
        try:
            if len(cells) != len(header) or "\x00" in line or "\ufffd" in line:
                raise ValueError
            rows.append(
                [cells[i] if name in text else float(cells[i] or "nan") for name, i in wanted.items()]
            )
        except ValueError:
            damaged.append(number)
    if damaged:
        several = f"{len(damaged)} lines, the first one line {damaged[0]}, are"
        what = several if len(damaged) > 1 else f"line {damaged[0]} is"
        problems.append(f"{path}: {what} damaged and ignored")
    values = dict(zip(wanted, zip(*rows, strict=True) if rows else [()] * len(wanted), strict=True))
    # Not arrays of str, in which every cell takes as much memory as the longest.
    arrays = {name: np.array(cells, object if name in text else float) for name, cells in values.items()}
    return Table(arrays, problems)


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise DamagedError if there is none, or one larger than 64 MiB."""
    return _read(path, lambda text: _table(json.loads(text), "table of values"), _LARGEST_JSON)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the configuration in a YAML file without aliases; raise DamagedError if there is none, or 256 KiB."""
    return _read(
        path, lambda text: _table(yaml.load(text, Loader=_PlainLoader), "configuration"), _LARGEST_YAML
    )


def section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the table ``name`` in ``values``; empty if it is missing or something else."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def number(value: object) -> float | None:
    """Return a number that a run can have counted to, None for anything else."""
    # NaN, the infinities, and integers that no run counts to are outside.
    known = isinstance(value, int | float) and not isinstance(value, bool) and -1e18 < value < 1e18
    return float(value) if known else None


def read_text(path: Path) -> str:
    """Return a file's text; raise DamagedError if it is missing, empty, larger than 4 MiB, or no text."""
    return _read(path, str)


def _table(found: Any, what: str) -> dict[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"it holds no {what}")
    # A hexadecimal number may be read and yet be too long to show.
    if what == "configuration":
        str(found)
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        tables = (list(value.values()) if isinstance(value, dict) else value for value in level)
        level = [value for table in tables for value in table if isinstance(value, dict | list)]
    if level:
        raise RecursionError
    return found


def _read(path: Path, parse: Callable[[str], Any], largest: int = _LARGEST, errors: str = "strict") -> Any:
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        size = path.stat().st_size
        if not 0 < size <= largest:
            raise ValueError(f"it is {size / 2**20:.1f} MiB long" if size else "it is empty")
        with path.open(encoding="utf-8", errors=errors, newline="") as file:
            return parse(file.read(largest))
    except _UNREADABLE as error:
        raise _cannot_be_read(path, error) from error


def _cannot_be_read(path: Path, error: Exception) -> DamagedError:
    reason = " ".join(str(error).split())
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        reason = f"{error.problem}, line {error.problem_mark.line + 1}"
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"byte {error.start} is no text"
    elif isinstance(error, OSError):
        reason = error.strerror or reason
    return DamagedError(f"{path.name} cannot be read ({reason})")


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which let a small file stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases, which no configuration of mtrl does")
        return super().compose_node(parent, index)


# YAML 1.1 takes 1e-4 for a word; configurations are written by people who mean the number.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
