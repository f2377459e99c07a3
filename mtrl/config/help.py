"""The text of ``--help``, read off the configuration files."""

from mtrl.config.compose import CONF, groups

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
    """Return the help: examples, then each group with its options and what their files say they are."""
    parts = [_EXAMPLES]
    for group, options in groups().items():
        parts.append(f"  {group}\n")
        for option in options:
            parts.append(f"    {option:<22} {_description(group, option)}\n")
    return "".join(parts) + _FOOTER


def _description(group: str, option: str) -> str:
    """Return the first comment of an option's file, past Hydra's own directives."""
    for line in (CONF / group / f"{option}.yaml").read_text().splitlines():
        if line.startswith("# ") and not line.startswith("# @"):
            return line[2:]
    return ""
