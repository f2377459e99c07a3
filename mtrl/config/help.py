"""What ``--help`` shows and tab completion offers, read off the configuration files."""

from mtrl.config.compose import CONF, defaults_of, groups
from mtrl.config.values import walk
from mtrl.errors import ConfigurationError
from mtrl.tasks import MT50

_EXAMPLES = """\
Train and evaluate agents on Meta-World. Every word after the command changes the configuration:
a group is chosen with group=option, a value is set with key=value.

  python -m mtrl                                          reach-v3 with SAC
  python -m mtrl experiment=mt10 algo=sac                 ten tasks at once
  python -m mtrl task=push-v3 algo=td3 seed=3             another task, algorithm, seed
  python -m mtrl experiment=mt10 variant=multihead        a critic for each task
  python -m mtrl experiment=mt10 'env.tasks=[reach-v3,door-open-v3]'   a task set of your own
  python -m mtrl algo.gamma=0.98 variant.critic_layers=[512,512]       any key of the configuration
  python -m mtrl -m task=reach-v3,push-v3 seed=1,2,3      a sweep over every combination
  python -m mtrl experiment=mt10 dry_run=true             what would run, and where it would be written

Groups:
"""
_FOOTER = """
Keys:    --cfg job shows every key and its value, with the overrides given.
Again:   the same command finds its run directory again; fresh=true trains from scratch.
Tab:     eval "$(mtrl -sc install=bash)" completes groups, options and keys (also zsh, fish).
Errors:  HYDRA_FULL_ERROR=1 shows tracebacks; hydra.verbose=true shows the debug log.
"""


def help_text() -> str:
    """Return the help: examples, then each group with its options and the first comment of their files."""
    parts = [_EXAMPLES]
    for group, options in groups().items():
        parts.append(f"  {group}\n")
        for option in options:
            lines = (CONF / group / f"{option}.yaml").read_text().splitlines()
            # Comments with an @ are Hydra's directives.
            said = (line[2:] for line in lines if line.startswith("# ") and not line.startswith("# @"))
            parts.append(f"    {option:<22} {next(said, '')}\n")
    return "".join(parts) + _FOOTER


def is_for_hydra(line: str) -> bool:
    """Return whether Hydra's own completion knows the last word: its own keys, and paths of files."""
    word = "" if not line or line[-1].isspace() else line.split()[-1]
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
