"""Read the YAML and JSON files of a run directory, which nobody vouches for. Nothing in them is executed.

YAML is read without tags and aliases, JSON as data, and neither beyond a size that a run's files never have.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

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
