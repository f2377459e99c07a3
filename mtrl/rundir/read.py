"""Read the YAML and JSON files of a run directory, which nobody vouches for. Nothing in them is executed.

YAML is read without tags and aliases, JSON as data, and neither beyond a size that a run's files never have.
"""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray


class Table:
    """Columns of equal length, by name.

    Args:
        columns: float64 arrays, or arrays of str for columns of words; an empty cell is NaN.
        problems: One sentence for whatever could not be read.
    """

    def __init__(self, columns: dict[str, NDArray], problems: list[str]) -> None:
        self.columns = columns
        self.problems = problems

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> NDArray:
        return self.columns[name]

    def take(self, rows: NDArray) -> "Table":
        """Return the rows that a mask or an array of indices selects."""
        return Table({name: column[rows] for name, column in self.columns.items()}, self.problems)


def read_table(path: Path, text: Sequence[str] = (), columns: Sequence[str] | None = None) -> Table:
    """Read a CSV log whose first line is the header.

    A last line without its line break is a torn write: it is ignored and reported, even where it looks whole,
    because a number may have lost its last digits. Other lines with a wrong number of cells or with words for
    numbers are ignored and counted.

    Args:
        path: The file.
        text: Columns of words; all others hold numbers.
        columns: The columns to keep, as far as they exist; all where None.

    Raises:
        OSError: If the file cannot be opened.
    """
    raw = path.read_bytes()
    problems = []
    if raw and not raw.endswith(b"\n"):
        whole = raw.rfind(b"\n") + 1
        problems.append(f"{path}: the last line is torn and ignored")
        raw = raw[:whole]
    break_at = raw.find(b"\n")
    if break_at < 0:
        return Table({}, problems)
    header = next(csv.reader([raw[:break_at].decode("utf-8", "replace").rstrip("\r")]), [])
    body = raw[break_at + 1 :]
    wanted = [index for index, name in enumerate(header) if columns is None or name in columns]
    has_words = any(name in text for name in header)
    rows = None if has_words else _numbers_at_once(body, len(header), wanted)
    if rows is None:
        kept, bad = _line_by_line(body, header, wanted, text)
        if bad:
            first = f"line {bad[0]}" if len(bad) == 1 else f"{len(bad)} lines, the first one line {bad[0]},"
            verb = "is" if len(bad) == 1 else "are"
            problems.append(f"{path}: {first} {verb} damaged and ignored")
        return Table(kept, problems)
    return Table({header[index]: rows[:, place] for place, index in enumerate(wanted)}, problems)


def _numbers_at_once(body: bytes, width: int, wanted: list[int]) -> NDArray | None:
    """Return the wanted columns of an undamaged table of numbers, None where it is not one."""
    lines = body.count(b"\n")
    if not lines or not wanted:
        return np.empty((0, len(wanted)))
    characters = np.frombuffer(body, np.uint8)
    line_ends = np.flatnonzero(characters == ord("\n"))
    commas = np.searchsorted(np.flatnonzero(characters == ord(",")), line_ends)
    if (np.diff(commas, prepend=0) != width - 1).any():
        return None
    # loadtxt refuses empty cells; in a log they stand for "no data".
    for empty, filled in ((b",,", b",nan,"), (b",,", b",nan,"), (b",\n", b",nan\n"), (b"\n,", b"\nnan,")):
        body = body.replace(empty, filled)
    if body.startswith(b","):
        body = b"nan" + body
    try:
        rows = np.loadtxt(io.BytesIO(body), delimiter=",", usecols=wanted, ndmin=2, comments=None)
    except ValueError:
        return None
    return rows if len(rows) == lines else None


def _line_by_line(
    body: bytes, header: list[str], wanted: list[int], text: Sequence[str]
) -> tuple[dict[str, NDArray], list[int]]:
    """Return the columns of the lines that can be read, and the numbers of those that cannot."""
    cells: list[list[str | float]] = [[] for _ in wanted]
    bad = []
    words = {index for index in wanted if header[index] in text}
    for number, line in enumerate(body.decode("utf-8", "replace").split("\n")[:-1], start=2):
        row = line.rstrip("\r").split(",") if '"' not in line else next(csv.reader([line]), [])
        if len(row) != len(header) or "\x00" in line or "\ufffd" in line:
            bad.append(number)
            continue
        try:
            values = [row[i] if i in words else float(row[i]) if row[i] else float("nan") for i in wanted]
        except ValueError:
            bad.append(number)
            continue
        for column, value in zip(cells, values, strict=True):
            column.append(value)
    kept = {
        header[index]: np.array(column, dtype=str if index in words else float)
        for index, column in zip(wanted, cells, strict=True)
    }
    return kept, bad


_LARGEST_FILE = 4 * 2**20
"""Bytes of a configuration or status file beyond which it is certainly none."""


class UnreadableError(ValueError):
    """A file cannot be used; the message is what would follow its name in a sentence."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the configuration in ``path``.

    Raises:
        UnreadableError: It holds none.
    """
    try:
        content = yaml.load(read_text(path), Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise UnreadableError(f"cannot be read ({reason(error)})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UnreadableError("holds no configuration")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the table of values in ``path``.

    Raises:
        UnreadableError: It holds none.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError, OSError) as error:
        raise UnreadableError(f"cannot be read ({reason(error)})") from error
    if not isinstance(content, dict):
        raise UnreadableError("holds no table of values")
    return content


def read_text(path: Path) -> str:
    """Return the text of ``path``.

    Raises:
        ValueError: It is no file, none of text, empty, or too long to be a run's.
        OSError: It cannot be opened.
    """
    if not path.is_file():
        raise ValueError("there is no such file")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(f"it is {size / 2**20:.0f} MiB long")
    if not size:
        raise ValueError("it is empty")
    return path.read_text(encoding="utf-8")


def reason(error: BaseException) -> str:
    """Return in a few words why a file could not be read."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, line {error.problem_mark.line + 1}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no text"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return " ".join(str(error).split())


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which let a small file stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases, which no configuration of mtrl does")
        return super().compose_node(parent, index)


def _number_resolver() -> None:
    # YAML 1.1 takes 1e-4 for a word; configurations are written by people who mean the number.
    pattern = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
    _PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", pattern, list("-+0123456789"))


_number_resolver()
