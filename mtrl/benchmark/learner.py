"""Updates per second: our SAC against stable-baselines3's, and critics per task against shared ones.

Every comparison takes turns in one process, on the same number of threads and the same random transitions of MT10's
shape. An update is a whole call of ``train``: drawing the batch, temperature, critics, actor, targets. A critic update
is its part that concerns the critics: target, loss, step, target networks.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from mtrl.algo.networks import StackedMLP
from mtrl.algo.optimizer import FusedAdam
from mtrl.algo.sac import SAC
from mtrl.algo.update import move_targets, prepare, update_critics
from mtrl.benchmark.pairing import Block, medians, ratio, take_turns
from mtrl.hardware import compilation, keep_freed_memory

TASKS = 10
TRANSITIONS = 5_000
"""Random transitions in each replay buffer."""
_FIRST = 5
"""Updates before any is timed: a CUDA graph is recorded at the fourth."""


_SIZES = {
    "[256]x3 batch 256": ([256] * 3, 256, False),
    "[128]x2 batch 256": ([128] * 2, 256, False),
    "[128]x2 batch 256 LayerNorm": ([128] * 2, 256, True),
    "[400]x3 batch 1280": ([400] * 3, 1280, False),
    "[512,1024,1024,512] batch 256": ([512, 1024, 1024, 512], 256, False),
}
"""Widths of the layers of actor and critics, transitions in a batch, and whether the layers are normalised."""
_HEADS = {"batch 250": 250, "batch 1280": 1280}
_LINEAR = {"critic_heads": True}
_SEPARATE = _LINEAR | {"shared_layers": 0}
_VARIANTS: dict[str, dict[str, Any]] = {
    "shared": {},
    "separate": _SEPARATE,
    "one layer shared": _LINEAR | {"shared_layers": 1},
    "linear heads": _LINEAR,
    "linear heads, actor too": _LINEAR | {"actor_heads": True},
    "separate, unbalanced": _SEPARATE | {"balanced": False},
}
"""Networks whose whole update is timed, on balanced batches unless they say otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds of each comparison (9)")
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long one block lasts (0.5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    parser.add_argument("--device", default="cpu", help="device of the learners (cpu)")
    forms = ("auto", "off", "inductor", "cuda_graph")
    parser.add_argument("--compile", default="auto", choices=forms, help="as hardware.compile (auto)")
    sizes = list(_SIZES)
    parser.add_argument("--sizes", nargs="*", default=sizes, choices=sizes, help="networks to compare (all)")
    parser.add_argument("--no-heads", action="store_true", help="leave out the critics with heads")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return updates per second and their ratios.

    Of the keys, ``sac_over_sb3`` is the ratio at [256]x3 batch 256; ``multihead_over_shared`` is, for each
    batch size, the rate of critic updates of 10 separate [256]x3 critics over that of one shared critic on
    the same balanced batches, and ``masks_over_shared`` the same for a plain loop over task masks.
    """
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    device, compiled = arguments.device, compilation(arguments.compile, arguments.device)

    def compare(
        what: str,
        learners: Mapping[str, Any],
        work_of: Callable[[Any], Callable[[], None]],
        base: str | None = None,
    ) -> dict[str, float]:
        print(f"measuring {what} ...", file=sys.stderr, flush=True)
        blocks = {name: _block(work_of(learner), arguments.seconds) for name, learner in learners.items()}
        rates = take_turns(blocks, arguments.rounds)
        others = [name for name in rates if base not in (None, name)]
        return medians(rates) | {f"{name}_over_{base}": ratio(rates, name, base) for name in others}

    def balanced(batch: int, **options: Any) -> Any:
        return own_sac([256] * 3, batch, device, compiled, **{"balanced": True} | options)

    result: dict[str, Any] = {"threads": arguments.threads, "device": device, "compile": compiled}
    result |= {"rounds": arguments.rounds, "sizes": {}}
    for name in arguments.sizes:
        layers, batch, layer_norm = _SIZES[name]
        learners = {
            "sb3": _make(stable_baselines3.SAC, batch, device, {"net_arch": layers}),
            "ours": own_sac(layers, batch, device, compiled, layer_norm=layer_norm),
        }
        result["sizes"][name] = compare(name, learners, _update, "sb3")
    if not arguments.no_heads:
        result |= {"heads": {}, "variants": {}}
        for name, batch in _HEADS.items():
            learners = {
                "shared": balanced(batch),
                "multihead": balanced(batch, **_SEPARATE),
                "linear_heads": balanced(batch, **_LINEAR),
                "masks": with_masks(balanced(batch)),
            }
            result["heads"][name] = compare(f"heads, {name}", learners, _critic_update, "shared")
            learners = {variant: balanced(batch, **options) for variant, options in _VARIANTS.items()}
            result["variants"][name] = compare(f"whole updates, {name}", learners, _update)
    if "[256]x3 batch 256" in result["sizes"]:
        result["sac_over_sb3"] = result["sizes"]["[256]x3 batch 256"]["ours_over_sb3"]
    if not arguments.no_heads:
        for key in ("multihead_over_shared", "masks_over_shared"):
            result[key] = {name: row[key] for name, row in result["heads"].items()}
    return result


def _update(learner: Any) -> Callable[[], None]:
    return lambda: learner.train(1, learner.batch_size)


def _critic_update(learner: Any) -> Callable[[], None]:
    batch, temperature = prepare(learner, learner.batch_size), learner.temperatures()

    def work() -> None:
        update_critics(learner, batch, temperature)
        move_targets(learner)

    return work


def _block(work: Callable[[], None], seconds: float) -> Block:
    """Return a block that repeats ``work`` for about ``seconds`` and returns how often a second it did."""

    def rate(repeats: int) -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return repeats / (time.perf_counter() - started)

    # The first ones compile or record.
    rate(_FIRST)
    repeats = max(2, round(seconds * rate(1)))
    return lambda: rate(repeats)


def own_sac(
    layers: list[int], batch: int, device: str, compile: str, *, balanced: bool = False, **policy: Any
) -> Any:
    """Return our SAC for ten tasks, with ``policy`` as further arguments of its policy."""
    policy |= {"actor_layers": layers, "critic_layers": layers}
    return _make(SAC, batch, device, policy, n_tasks=TASKS, balanced_batches=balanced, compile=compile)


def _make(algorithm: type, batch: int, device: str, policy: dict[str, Any], **options: Any) -> Any:
    """Return a learner whose buffer is full of random transitions, ten tasks in turn; its environments cannot step."""

    class Shape(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (39 + TASKS,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    env = DummyVecEnv([Shape for _ in range(TASKS)])
    options |= {"buffer_size": TRANSITIONS, "batch_size": batch, "device": device, "seed": 0}
    learner = algorithm("MlpPolicy", env, policy_kwargs=policy, **options)
    learner.set_logger(Logger(None, []))
    generator = np.random.default_rng(0)
    infos = [{"task_id": task} for task in range(TASKS)]
    for _ in range(TRANSITIONS // TASKS):
        states = generator.normal(size=(2, TASKS, 39))
        observations = [np.hstack([state, np.eye(TASKS)]).astype(np.float32) for state in states]
        actions = generator.uniform(-1, 1, (TASKS, 4)).astype(np.float32)
        learner.replay_buffer.add(
            *observations, actions, generator.random(TASKS), np.zeros(TASKS, bool), infos
        )
    return learner


def with_masks(learner: Any) -> Any:
    """Give the learner ten separate critics that a loop over task masks evaluates."""

    class MaskedCritics(torch.nn.Module):
        n_heads = 1

        def __init__(self) -> None:
            super().__init__()
            heads = [StackedMLP(2, 39 + TASKS + 4, [256] * 3, 1) for _ in range(TASKS)]
            self.heads = torch.nn.ModuleList(heads)

        def q_values(self, obs: torch.Tensor, actions: torch.Tensor, grouping: None) -> torch.Tensor:
            inputs, tasks = torch.cat([obs, actions], dim=1), obs[:, -TASKS:].argmax(1)
            values = torch.zeros(2, len(obs), 1, device=obs.device)
            for task, head in enumerate(self.heads):
                mask = tasks == task
                if mask.any():
                    values[:, mask] = head(inputs[mask])
            return values

    learner.critic, learner.critic_target = (MaskedCritics().to(learner.device) for _ in range(2))
    learner.critic.optimizer = FusedAdam(learner.critic.parameters())
    learner.critic_parameters = list(learner.critic.parameters())
    learner.target_parameters = list(learner.critic_target.parameters())
    return learner
