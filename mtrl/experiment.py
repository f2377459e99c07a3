"""One run, composed and checked, and its directory: the same overrides always give the same directory."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtrl.checks import check
from mtrl.config.compose import Composed, compose, defaults_of
from mtrl.config.types import MultiheadConfig, is_learned, require
from mtrl.config.values import flatten, key_of, written
from mtrl.rundir.models import source_content

_ABSENT = object()


@dataclass(frozen=True)
class Composition(Composed):
    """One composed and checked run."""

    user_overrides: tuple[str, ...]
    """The overrides that a person gave; ``overrides`` also has those that a source or a baseline adds to them."""
    source: "Composition | None"
    """The run that ``transfer.train`` describes, which is trained first."""

    @cached_property
    def differences(self) -> dict[str, Any]:
        """What differs from the recipe and decides learning, as ``{"variant": "multihead", "algo.gamma": 0.9}``."""
        recipe = {"experiment": self.choices["experiment"], "tuned": self.tuned}
        usual = defaults_of(**recipe).choices
        differing = {group: option for group, option in self._chosen().items() if usual.get(group) != option}
        return differing | self._learned_keys_differing_from(defaults_of(**recipe, **differing).values)

    @cached_property
    def learned(self) -> dict[str, Any]:
        """The options of algo, variant and curriculum, and what decides learning and differs from their defaults."""
        return self._chosen() | self._learned_keys_differing_from(defaults_of(**self._chosen()).values)

    def _chosen(self) -> dict[str, str]:
        return {group: self.choices[group] for group in ("algo", "variant", "curriculum")}

    def _learned_keys_differing_from(self, usual: dict[str, Any]) -> dict[str, Any]:
        usual = flatten(usual)
        learned = {
            key: value
            for key, value in flatten(self.values).items()
            if is_learned(key) and not key.endswith(".name") and usual.get(key, _ABSENT) != value
        }
        if not self.config.transfer.active:
            return {key: value for key, value in learned.items() if not key.startswith("transfer.")}
        if self.source is None:
            return learned | {"transfer.from": source_content(self.config)[:8]}
        # The source has this run's seed. It is left out, so that runs which differ only in the seed share a folder.
        folder = run_directory(self.source).relative_to(self.source.config.output).parent
        return learned | {"transfer.from": f"{folder} at {self.source.config.total_steps}"}


def compose_run(
    overrides: Sequence[str],
    *,
    on_this_machine: bool = True,
    user_overrides: Sequence[str] | None = None,
    targets: Sequence[dict[str, Any]] = (),
) -> Composition:
    """Compose one run from overrides, and the run it starts from, and check both; ConfigurationError names a mistake.

    Args:
        overrides: For instance ``["experiment=mt10", "algo.gamma=0.9"]``.
        on_this_machine: Whether the run starts here; otherwise its devices and memory are checked where it starts.
        user_overrides: The overrides that a person gave; None if all of them.
        targets: The values of the runs that start from this one, one after the other.
    """
    composed = compose(overrides)
    circle = f"transfer.train of experiment={composed.config.experiment} leads back to the same run: "
    require(composed.values not in targets, circle + "name a source that begins from scratch or from another")
    check(composed.config, on_this_machine=on_this_machine)
    user_overrides = tuple(overrides if user_overrides is None else user_overrides)
    source = _source(composed, on_this_machine, targets)
    return Composition(**vars(composed), user_overrides=user_overrides, source=source)


_PASSED_TO_SOURCE = (
    *("algo", "env.horizon", "env.reward", "env.norm", "env.copies", "evaluation.horizon"),
    *("hardware", "checkpoint.", "logging."),
)
"""Overrides of a run that also hold for its source."""
_WIDTHS = ("actor_layers", "critic_layers", "layer_norm")


def _source(
    composed: Composed, on_this_machine: bool, targets: Sequence[dict[str, Any]]
) -> Composition | None:
    """Return the run that ``transfer.train`` describes, None without one.

    It takes over from this run the seed, the output directory, the overrides of ``_PASSED_TO_SOURCE`` and the sizes
    of the networks, because its weights must fit. What ``transfer.train`` names itself is not taken over.
    """
    cfg = composed.config
    train, variant = cfg.transfer.train, cfg.variant
    if not train:
        return None
    named = {key_of(override) for override in train}
    shared = [override for override in composed.overrides if key_of(override).startswith(_PASSED_TO_SOURCE)]
    user_overrides = [*(override for override in shared if key_of(override) not in named), *train]

    def composed_with(choice: str, keys: Sequence[str]) -> Composition:
        own = [
            *shared,
            f"seed={cfg.seed}",
            f"output={written(cfg.output)}",
            f"dry_run={written(cfg.dry_run)}",
        ]
        own += [choice, *(f"variant.{key}={written(getattr(variant, key))}" for key in keys)]
        own = [override for override in own if key_of(override) not in named]
        given = {"on_this_machine": on_this_machine, "user_overrides": user_overrides}
        return compose_run([*own, *train], **given, targets=[*targets, composed.values])

    source = composed_with(f"variant={'shared' if variant.task_id else 'plain'}", _WIDTHS)
    # Only the composed source shows how many tasks it has. Heads need several, so it is composed again with them.
    if isinstance(variant, MultiheadConfig) and len(source.config.env.tasks) > 1:
        source = composed_with("variant=multihead", (*_WIDTHS, "shared_layers", "actor_heads"))
    return source


def run_directory(composition: Composition) -> Path:
    """Return ``<output>/<experiment>/<readable>-<8 hex>/seed=<n>``.

    The hash covers the keys that decide what is learned and differ from their options' defaults, so that a
    key added to the project later changes no directory.
    """
    cfg, differences = composition.config, composition.differences
    digest = hashlib.sha256(json.dumps(composition.learned, sort_keys=True).encode()).hexdigest()[:8]
    parts = [cfg.task] if cfg.task else []
    if "env.tasks" in differences and not cfg.task:
        parts.append(f"{len(cfg.env.tasks)}-tasks")
    others = sorted(set(differences) - {"task", "env.tasks"})
    parts += [f"{key}={_brief(differences[key])}" for key in others]
    readable = ",".join(parts)[:80].rstrip(",.=") or "default"
    return Path(cfg.output) / cfg.experiment / f"{readable}-{digest}" / f"seed={cfg.seed}"


def _brief(value: object) -> str:
    text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(character for character in text if character.isalnum() or character in "._-+")
