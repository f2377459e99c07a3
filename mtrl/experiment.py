"""One run, composed and checked, and where it lives: the same overrides always find the same directory."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtrl.checks import check
from mtrl.config.compose import Composed, compose, defaults_of
from mtrl.config.types import MultiheadConfig, is_learned
from mtrl.config.values import flatten, key_of, written
from mtrl.rundir.models import source_content

_READABLE_LENGTH = 80
_ABSENT = object()


@dataclass(frozen=True)
class Composition(Composed):
    """One composed and checked run."""

    given: tuple[str, ...]
    """The overrides as a person gave them; fewer than ``overrides`` where the project made a run of its own."""
    here: bool
    """Whether it runs on this machine, whose devices and memory must then suffice."""
    source: "Composition | None"
    """The run that ``transfer.train`` describes, which is trained first."""

    @cached_property
    def differences(self) -> dict[str, Any]:
        """What the run sets otherwise than its recipe, as flat keys.

        The choices of groups that matter stand among them under the group's name.
        """
        recipe = {"experiment": self.choices["experiment"], "tuned": self.tuned}
        usual = defaults_of(**recipe).choices
        differing = {group: option for group, option in self._chosen().items() if usual.get(group) != option}
        return differing | self._learned_unlike(defaults_of(**recipe, **differing).values)

    @cached_property
    def learned(self) -> dict[str, Any]:
        """What decides the learning and differs from the defaults of the options chosen, with these, as flat keys."""
        return self._chosen() | self._learned_unlike(defaults_of(**self._chosen()).values)

    def _chosen(self) -> dict[str, str]:
        return {group: self.choices[group] for group in ("algo", "variant", "curriculum")}

    def _learned_unlike(self, usual: dict[str, Any]) -> dict[str, Any]:
        usual = flatten(usual)
        learned = {
            key: value
            for key, value in flatten(self.values).items()
            if is_learned(key) and not key.endswith(".name") and usual.get(key, _ABSENT) != value
        }
        if self.config.transfer.active:
            return learned | {"transfer.from": self._origin()}
        return {key: value for key, value in learned.items() if not key.startswith("transfer.")}

    def _origin(self) -> str:
        """Return what the run starts from: the identity of a run trained for it, or the content of a model."""
        if self.source is None:
            return source_content(self.config)[:8]
        # Without its seed, which is this run's: runs that differ in the seed alone stay side by side.
        folder = run_directory(self.source).relative_to(self.source.config.output).parent
        return f"{folder} at {self.source.config.total_steps}"


def compose_run(
    overrides: Sequence[str], *, here: bool = True, given: Sequence[str] | None = None
) -> Composition:
    """Compose one run from overrides such as ``["experiment=mt10", "algo.gamma=0.9"]`` and check it.

    Args:
        overrides: The overrides.
        here: Whether it runs on this machine; a run elsewhere is checked for its devices and memory there.
        given: Those of them that a person gave, if not all.

    Raises:
        ConfigurationError: In one sentence, what is wrong and how to mend it, with this run or its source.
    """
    composed = compose(overrides)
    check(composed.config, here=here)
    given = tuple(overrides if given is None else given)
    return Composition(**vars(composed), given=given, here=here, source=_source(composed, here))


_SHARED = (
    "algo",
    "env.horizon",
    "env.reward",
    "env.norm",
    "env.copies",
    "hardware",
    "checkpoint.",
    "logging.",
)
"""Overrides on the command line that hold for a run and for the one trained before it."""
_WIDTHS, _HEADS = ("actor_layers", "critic_layers", "layer_norm"), ("shared_layers", "actor_heads")


def _source(composed: Composed, here: bool) -> Composition | None:
    """Return the run that ``transfer.train`` describes, None without one.

    It takes over from this run what its networks and its place depend on: they must fit, and lie together.
    """
    cfg = composed.config
    train, variant = cfg.transfer.train, cfg.variant
    if not train:
        return None
    named = {key_of(override) for override in train}

    def composed_with(*choice: str, keys: Sequence[str]) -> Composition:
        own = [
            *shared,
            f"seed={cfg.seed}",
            f"output={written(cfg.output)}",
            f"dry_run={written(cfg.dry_run)}",
        ]
        own += [*choice, *(f"variant.{key}={written(getattr(variant, key))}" for key in keys)]
        own = [override for override in own if key_of(override) not in named]
        return compose_run([*own, *train], here=here, given=given)

    shared = [override for override in composed.overrides if key_of(override).startswith(_SHARED)]
    given = [*(override for override in shared if key_of(override) not in named), *train]
    source = composed_with(f"variant={'shared' if variant.task_id else 'plain'}", keys=_WIDTHS)
    if isinstance(variant, MultiheadConfig) and len(source.config.env.tasks) > 1:
        source = composed_with("variant=multihead", keys=(*_WIDTHS, *_HEADS))
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
    parts += [
        f"{key}={_brief(value)}"
        for key, value in sorted(differences.items())
        if key not in ("task", "env.tasks")
    ]
    readable = ",".join(parts)[:_READABLE_LENGTH].rstrip(",.=") or "default"
    return Path(cfg.output) / cfg.experiment / f"{readable}-{digest}" / f"seed={cfg.seed}"


def _brief(value: object) -> str:
    text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(character for character in text if character.isalnum() or character in "._-+")
