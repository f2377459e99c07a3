"""What tab completion offers: groups with their options, keys, and the values that are known."""

from mtrl.config.compose import defaults_of, groups
from mtrl.config.values import walk
from mtrl.errors import ConfigurationError
from mtrl.tasks import MT50


def is_for_hydra(line: str) -> bool:
    """Return whether Hydra's own completion knows the last word: its own keys, and paths of files."""
    word = "" if line[-1:].isspace() else line.split()[-1]
    return word.startswith("hydra") or word.partition("=")[2].startswith((".", "/"))


def offered(line: str) -> list[str]:
    """Return what the last word of a command line may become, the whole word each time.

    Hydra's own completion would offer the schemas as options, and nothing below a folder of recipes.
    """
    words = line.split()[1:]
    word = "" if not words or line[-1].isspace() else words.pop()
    pairs = [before.partition("=") for before in words]
    chosen = {group: option for group, _, option in pairs if option in groups().get(group, [])}
    try:
        composed = defaults_of(**chosen).values
    except ConfigurationError:
        composed = defaults_of().values
    values = dict(walk(composed))
    key, equals, value = word.partition("=")
    if equals:
        done, comma, value = value.rpartition(",")
        usual = values.get(key)
        # A value that is missing or null shows nothing, and a list is too long to be changed by hand.
        known = [] if usual in (None, "???") or isinstance(usual, dict | list) else [str(usual)]
        known = ["false", "true"] if isinstance(usual, bool) else known
        known = groups().get(key) or (sorted(MT50) if key == "task" else known)
        return [f"{key}={done}{comma}{each}" for each in known if each.startswith(value)]
    depth = word.count(".")
    chosen_by_group = {"experiment", *(f"{group}.name" for group in groups())}
    names = [f"{group}=" for group in groups()] if depth == 0 else []
    for name, value in values.items():
        if name.count(".") == depth and name not in chosen_by_group:
            names.append(f"{name}." if isinstance(value, dict) and value else f"{name}=")
    return sorted(name for name in names if name.startswith(word))
