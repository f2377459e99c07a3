"""The command: ``python -m mtrl`` or ``mtrl``. Composes and checks before anything heavy is imported."""

import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from mtrl import __version__, hardware, streams
from mtrl.config.values import key_of
from mtrl.errors import REFUSED, ConfigurationError
from mtrl.signals import Signals
from mtrl.text import printable

_NOT_FOR_US = {
    "config_name": "choose a recipe with experiment=...",
    "config_path": "choose a recipe with experiment=...",
    "config_dir": "put files of your own under conf/, as python -m mtrl --help shows its groups",
    "package": "--cfg job shows the whole configuration",
    "experimental_rerun": "the same command again continues a run",
    "resolve": "--cfg job shows every value resolved",
}
"""Flags of Hydra's that would have no effect here, and what does."""
_MODES = ("multirun", "run", "cfg", "info", "shell_completion", "hydra_help")
"""Those of which a command has one at most."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    hardware.wait_without_spinning()
    streams.run_command(lambda: _main(words), product=False)


def _main(words: list[str]) -> int:
    if "--version" in words:
        # Hydra has a flag of this name, which shows its own version.
        print(f"mtrl {__version__}")
        return 0
    try:
        with Signals() as signals:
            return _run(words, signals)
    except ConfigurationError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"mtrl: {printable(error)}", file=sys.stderr)
        return REFUSED


def _run(words: list[str], signals: Signals) -> int:
    flags = _flags(words)
    if flags.help:
        from mtrl.config.help import help_text

        print(help_text())
        return streams.delivered()
    for name, fix in _NOT_FOR_US.items():
        if getattr(flags, name) and not (name == "resolve" and flags.cfg):
            raise ConfigurationError(f"--{name.replace('_', '-')} is not for this command: {fix}")
    modes = [f"--{name.replace('_', '-')}" for name in _MODES if getattr(flags, name)]
    if len(modes) > 1:
        raise ConfigurationError(f"{' and '.join(modes)} exclude each other: leave out all but one")
    # Our presets of resources bear the names of the launchers on purpose.
    warnings.filterwarnings("ignore", message="(?s).*validated against ConfigStore schema with the same name")
    if flags.shell_completion:
        return _complete(words, flags.overrides, signals)
    from mtrl.config.compose import compose, compose_sweep
    from mtrl.config.mistakes import check_once

    check_once(flags.overrides)
    if flags.info or flags.hydra_help or flags.cfg in ("hydra", "all"):
        # Hydra would answer a mistake in many lines.
        hydras = [word for word in flags.overrides if key_of(word).startswith("hydra")]
        compose_sweep(hydras)
        compose([word for word in flags.overrides if word not in hydras])
        return _hand_to_hydra(words, signals)
    if flags.multirun:
        from mtrl.sweep import run_sweep

        return run_sweep(flags.overrides, signals)

    from mtrl.experiment import compose_run

    composition = compose_run(flags.overrides)
    if flags.cfg == "job":
        import yaml

        print(yaml.safe_dump(composition.values, sort_keys=False, allow_unicode=True), end="")
        return streams.delivered()

    from mtrl.start import run_with_source_and_baseline

    return run_with_source_and_baseline(composition)


def _complete(words: list[str], asked: list[str], signals: Signals) -> int:
    from mtrl.config.help import is_for_hydra, offered

    shells, line = ("bash", "fish", "zsh"), os.environ.get("COMP_LINE", "")
    what, _, shell = asked[0].partition("=") if len(asked) == 1 else ("", "", "")
    if what not in ("install", "uninstall", "query") or shell not in shells:
        raise ConfigurationError(
            f"-sc needs one word, such as install=bash: the shells are {', '.join(shells)}"
        )
    if what != "query" or is_for_hydra(line):
        return _hand_to_hydra(words, signals)
    print("\n".join(offered(line)))
    return 0


def _flags(words: list[str]) -> Namespace:
    """Return the flags of the command line as Hydra names them; an unknown one is answered with the nearest."""
    from hydra._internal.utils import get_args_parser

    from mtrl.config.compose import groups
    from mtrl.tasks import closest

    parser = get_args_parser()
    known = [name for name in vars(parser)["_option_string_actions"] if name.startswith("--")]

    def refuse(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        if unknown == message.split()[0]:
            raise ConfigurationError(f"{message}: python -m mtrl --help shows how to write it")
        name, _, value = unknown.lstrip("-").partition("=")
        near = f"{name}={value or '...'}" if value or name in groups() else closest(unknown, known)
        hint = f"did you mean {near}?" if near else "python -m mtrl --help shows what there is"
        raise ConfigurationError(f"there is no flag {unknown}: {hint}")

    # argparse would print its usage, several lines of flags that are Hydra's, and take --experiment mt10 for the
    # value of Hydra's --experimental-rerun.
    vars(parser).update(error=refuse, allow_abbrev=False)
    return parser.parse_args(words)


def _hand_to_hydra(words: list[str], signals: Signals) -> int:
    import hydra

    from mtrl.config.compose import CONF, as_hydra_reads
    from mtrl.sweep import run_member

    # A launcher has its own ways with signals, and so has what passes them on to a member.
    signals.release()
    sys.argv[1:] = map(as_hydra_reads, words)
    hydra.main(config_path=str(CONF.absolute()), config_name="config", version_base="1.3")(run_member)()
    return 0


if __name__ == "__main__":
    main()
