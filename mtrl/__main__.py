"""The command: ``python -m mtrl`` or ``mtrl``. Composes and checks before anything heavy is imported."""

import argparse
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from mtrl import __version__, hardware
from mtrl.errors import REFUSED, ConfigurationError
from mtrl.signals import Signals


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    hardware.wait_without_spinning()
    if "--version" in words:
        # Hydra has a flag of this name, which tells its own version.
        print(f"mtrl {__version__}")
        sys.exit(0)
    try:
        with Signals() as signals:
            sys.exit(_run(words, signals))
    except ConfigurationError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"mtrl: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        # In the launcher of a sweep; a run listens to signals itself.
        sys.exit(130)


def _run(words: list[str], signals: Signals) -> int:
    flags = _flags(words)
    if flags.help:
        return _help()
    _check_flags(flags)
    # Our presets of resources bear the names of the launchers on purpose.
    warnings.filterwarnings("ignore", message="(?s).*validated against ConfigStore schema with the same name")
    if flags.shell_completion and any(word.startswith("query=") for word in flags.overrides):
        return _complete(words, os.environ.get("COMP_LINE", ""), signals)
    if flags.shell_completion or flags.info or flags.hydra_help or flags.cfg in ("hydra", "all"):
        return _hand_to_hydra(words, signals)
    if flags.multirun:
        return _sweep(words, flags.overrides, signals)
    for launcher in (word for word in flags.overrides if word.startswith("hydra/launcher=")):
        raise ConfigurationError(f"{launcher} is for the members of a sweep: add -m, or leave it out")

    from mtrl.experiment import compose_run

    composition = compose_run(flags.overrides)
    if flags.cfg == "job":
        import yaml

        print(yaml.safe_dump(composition.values, sort_keys=False), end="")
        return 0

    from mtrl.start import run_all

    return run_all(composition)


def _flags(words: list[str]) -> Namespace:
    """Return the flags of the command line as Hydra names them.

    Raises:
        ConfigurationError: One that does not exist, with the nearest that does, or one without its value.
    """
    from hydra._internal.utils import get_args_parser

    from mtrl.config.compose import groups
    from mtrl.tasks import closest

    parser = get_args_parser()
    known = [name for name in vars(parser)["_option_string_actions"] if name.startswith("--")]

    def refuse(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        if unknown == message.split()[0]:
            raise ConfigurationError(f"{message}: python -m mtrl --help shows how to say it")
        name, _, value = unknown.lstrip("-").partition("=")
        near = closest(unknown, known)
        if value or name in groups():
            near = f"{name}={value or '...'}"
        hint = f"did you mean {near}?" if near else "python -m mtrl --help shows what there is"
        raise ConfigurationError(f"there is no flag {unknown}: {hint}")

    # argparse would print its usage, several lines of flags that are Hydra's, and take --experiment mt10 for the
    # value of Hydra's --experimental-rerun.
    vars(parser).update(error=refuse, allow_abbrev=False)
    return parser.parse_args(words)


def _help() -> int:
    from mtrl.config.help import help_text

    try:
        print(help_text(), flush=True)
    except BrokenPipeError:
        # The reader has seen enough (a pager, head); Python would complain again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _check_flags(flags: argparse.Namespace) -> None:
    """Refuse what Hydra has flags for and this command has not, and flags that contradict each other.

    Raises:
        ConfigurationError: In one sentence.
    """
    for name, mend in _NOT_FOR_US.items():
        if getattr(flags, name):
            raise ConfigurationError(f"--{name.replace('_', '-')} is not for this command: {mend}")
    modes = [name for name in ("multirun", "run", "cfg", "info", "shell_completion") if getattr(flags, name)]
    if len(modes) > 1:
        said = " and ".join(f"--{name.replace('_', '-')}" for name in modes)
        raise ConfigurationError(f"{said} exclude each other: leave out all but one")


_NOT_FOR_US = {
    "config_name": "choose a recipe with experiment=...",
    "config_path": "choose a recipe with experiment=...",
    "config_dir": "put files of your own under conf/, as python -m mtrl --help shows its groups",
    "package": "--cfg job shows the whole configuration",
    "experimental_rerun": "the same command again goes on with a run",
}
"""Flags of Hydra's that would have no effect here, and what does."""


def _complete(words: list[str], line: str, signals: Signals) -> int:
    from mtrl.config.completion import is_for_hydra, offered

    if is_for_hydra(line):
        return _hand_to_hydra(words, signals)
    print("\n".join(offered(line)))
    return 0


def _sweep(words: list[str], overrides: list[str], signals: Signals) -> int:
    """Check every member, run them with Hydra's launcher, each in a process of its own, and show the results."""
    from mtrl.config.compose import members
    from mtrl.experiment import compose_run
    from mtrl.sweep import check_directories, check_launcher, make_folder, runs_here, show_plan, show_results

    check_launcher(overrides)
    here = runs_here(overrides)
    compositions = [compose_run(member, here=here) for member in members(overrides)]
    check_directories(compositions)
    if any(composition.config.dry_run for composition in compositions):
        show_plan(compositions)
        return 0
    folder = make_folder(overrides)
    show_plan(compositions, folder)
    _hand_to_hydra([*words, f"hydra.sweep.dir={folder}"], signals)
    return show_results(compositions, folder)


def _hand_to_hydra(words: list[str], signals: Signals) -> int:
    import hydra

    from mtrl.config.compose import CONF, as_hydra_reads, register_schema
    from mtrl.sweep import run_member

    register_schema()
    # A launcher has its own ways with signals, and so has what passes them on to a member.
    signals.release()
    sys.argv[1:] = [as_hydra_reads(word) for word in words]
    hydra.main(config_path=str(CONF.absolute()), config_name="config", version_base="1.3")(run_member)()
    return 0


if __name__ == "__main__":
    main()
