"""A run and the runs it needs: the source of a transfer before it, the same run from scratch after it."""

from copy import deepcopy
from dataclasses import replace

from rich.console import Console

from mtrl.compose import Composition, compose_run
from mtrl.config import ConfigurationError
from mtrl.identity import run_directory, source_run
from mtrl.lifecycle import run_once
from mtrl.rundir import Run
from mtrl.sources import find_model

COMPARISON = "comparison.json"
"""What a transfer came to beside its baseline, in its run directory."""


def run_all(composition: Composition, *, shared: bool = False) -> int:
    """Run what was composed and what ``transfer`` asks for around it; return the first exit code but 0.

    Args:
        composition: The run.
        shared: Others may need the same run: where one of them is at it, wait for what it comes to.

    Raises:
        ConfigurationError: One of the runs cannot start; nothing of it was written.
    """
    begun = _begun(composition)
    first = source_run(composition)
    if first is not None and not (begun and not run_directory(first).exists()):
        code = run_all(first, shared=True)
        if code:
            return code
        if not composition.config.dry_run:
            composition = _from(composition, _model_of(first))
    if composition.config.transfer.source is not None and not begun:
        # Refused before the directory is made; the run itself reads the source once more.
        from mtrl.transfer import prepare_transfer

        prepare_transfer(composition.config)
    code = run_once(composition, wait=shared)
    if code or not (composition.config.transfer.baseline and composition.config.transfer.active):
        return code
    scratch = baseline(composition)
    code = run_once(scratch, wait=True)
    if code == 0 and not composition.config.dry_run:
        _compare(composition, scratch)
    return code


def _from(composition: Composition, source: str) -> Composition:
    """Return the same run, told where its source is; its identity is that of the run that was trained."""
    told = deepcopy(composition)
    told.config.transfer.source = told.values["transfer"]["source"] = source
    return told


def _model_of(first: Composition) -> str:
    path = run_directory(first)
    try:
        return str(find_model(str(path)).model.parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"the run of transfer.train left no model: {error}") from error


def _begun(composition: Composition) -> bool:
    """Tell whether the run will go on from what it has left, without its source."""
    path = run_directory(composition)
    if composition.config.fresh or not (path / "config.yaml").is_file():
        return False
    return Run(path).state == "finished" or any((path / "checkpoints").glob("step_*"))


def baseline(composition: Composition) -> Composition:
    """Return the same run from scratch."""
    kept = [words for words in composition.overrides if not words.lstrip("+").startswith("transfer.")]
    scratch = compose_run([*kept, "transfer.source=null", "transfer.train=[]", "transfer.baseline=false"])
    return replace(scratch, said=tuple(kept))


def _compare(composition: Composition, scratch: Composition) -> None:
    from mtrl.records import write_json
    from mtrl.transfer.comparison import compare, table

    path, other = run_directory(composition), run_directory(scratch)
    comparison = compare(path, other)
    write_json(path / COMPARISON, comparison)
    console = Console(markup=False)
    console.print(table(comparison))
    console.print(f"both curves: python -m mtrl.report {path} {other}", soft_wrap=True, highlight=False)
