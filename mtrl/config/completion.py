"""What tab completion offers: groups with their options, keys, and the values that are known."""

from typing import Any

from mtrl.config.compose import defaults_of, groups
from mtrl.errors import ConfigurationError
from mtrl.tasks import MT50


def is_for_hydra(line: str) -> bool:
    """Tell whether Hydra's own completion knows the last word: its own keys, and paths of files."""
    word = "" if line[-1:].isspace() else line.split()[-1]
    return word.startswith("hydra") or word.partition("=")[2].startswith((".", "/"))


def offered(line: str) -> list[str]:
    """Return how the last word of a command line may go on, the whole word each time.

    Hydra's own completion would offer the schemas as options and none below a folder of recipes.
    """
    words = line.split()[1:]
    word = "" if not words or line[-1].isspace() else words.pop()
    key, equals, value = word.partition("=")
    if equals:
        done, comma, value = value.rpartition(",")
        return [f"{key}={done}{comma}{each}" for each in _values(key, words) if each.startswith(value)]
    head = word[: word.rfind(".") + 1]
    found = [f"{head}{name}" for name in _names(head.rstrip("."), words)]
    return [name for name in found if name.startswith(word)]


def _values(key: str, words: list[str]) -> list[str]:
    if key in groups():
        return groups()[key]
    if key == "task":
        return sorted(MT50)
    value = _at(key, words)
    if isinstance(value, bool):
        return ["false", "true"]
    # A value that is missing or null tells nothing, and a list is too long to be changed by hand.
    return [] if value in (None, "???") or isinstance(value, dict | list) else [str(value)]


def _names(parent: str, words: list[str]) -> list[str]:
    """Return the names below a key, "" for the first ones, with what comes after them."""
    inside = _at(parent, words) if parent else _composed(words)
    names = [] if parent else [f"{group}=" for group in groups()]
    if not isinstance(inside, dict):
        return names
    for name, value in inside.items():
        chosen_by_group = (name in groups()) if not parent else (name == "name" and parent in groups())
        if isinstance(value, dict) and value:
            names.append(f"{name}.")
        elif not chosen_by_group:
            names.append(f"{name}=")
    return sorted(names)


def _at(key: str, words: list[str]) -> Any:
    value: Any = _composed(words)
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _composed(words: list[str]) -> dict[str, Any]:
    """Return the configuration of the options among the words before, as far as they go together."""
    pairs = (word.partition("=") for word in words)
    chosen = {group: option for group, _, option in pairs if option in groups().get(group, [])}
    try:
        return defaults_of(**chosen).values
    except ConfigurationError:
        return defaults_of().values
