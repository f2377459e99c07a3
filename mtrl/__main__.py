"""The command: ``python -m mtrl`` or ``mtrl``. Composes and checks before anything heavy is imported."""

import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from mtrl import __version__, hardware
from mtrl.config import ConfigurationError
from mtrl.signals import Signals

REFUSED = 2
"""Exit code of a configuration that cannot run."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    hardware.wait_without_spinning()
    if words in (["--help"], ["-h"]):
        from mtrl.help import help_text

        try:
            print(help_text(), flush=True)
        except BrokenPipeError:
            # The reader has seen enough (a pager, head); Python would complain again when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
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
    if flags.shell_completion or flags.info or flags.hydra_help or flags.cfg in ("hydra", "all"):
        return _hand_to_hydra(words, signals)
    if flags.multirun:
        return _sweep(words, flags.overrides, signals)

    from mtrl.compose import compose_run

    composition = compose_run(flags.overrides)
    if flags.cfg == "job":
        import yaml

        print(yaml.safe_dump(composition.values, sort_keys=False), end="")
        return 0

    from mtrl.chain import run_all

    return run_all(composition)


def _flags(words: list[str]) -> Namespace:
    """Return the flags of the command line as Hydra names them.

    Raises:
        ConfigurationError: One that does not exist, with the nearest that does, or one without its value.
    """
    from hydra._internal.utils import get_args_parser

    from mtrl.compose import groups
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


def _sweep(words: list[str], overrides: list[str], signals: Signals) -> int:
    """Check every member, run them with Hydra's launcher, each in a process of its own, and show the results."""
    from mtrl.compose import compose_run, members
    from mtrl.sweep import check_directories, check_launcher, make_folder, show_plan, show_results

    check_launcher(overrides)
    compositions = [compose_run(member) for member in members(overrides)]
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

    from mtrl.compose import CONF, register_schema, with_free_keys
    from mtrl.sweep import run_member

    # Our presets of resources bear the names of the launchers on purpose.
    warnings.filterwarnings("ignore", message="(?s).*validated against ConfigStore schema with the same name")
    register_schema()
    # A launcher has its own ways with signals, and so has what passes them on to a member.
    signals.release()
    sys.argv[1:] = with_free_keys(words)
    hydra.main(config_path=str(CONF.absolute()), config_name="config", version_base="1.3")(run_member)()
    return 0


if __name__ == "__main__":
    main()
