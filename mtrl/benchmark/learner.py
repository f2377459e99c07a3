"""Updates per second: our SAC against stable-baselines3's, and critics per task against shared ones.

Every comparison takes turns in one process, on the same number of threads and the same random transitions. An
update is a whole call of ``train``: drawing the batch, temperature, critics, actor, targets. A critic update
is its part that concerns the critics: target, loss, step, target networks.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from mtrl.benchmark.learners import Size, own_sac, stable_baselines3_sac, with_masks
from mtrl.benchmark.pairing import medians, ratio, take_turns
from mtrl.hardware import compilation, keep_freed_memory

_FIRST = 5
"""Updates before any is timed: a CUDA graph is recorded at the fourth."""

_SIZES = {
    "[256]x3 batch 256": Size([256] * 3, 256),
    "[128]x2 batch 256": Size([128] * 2, 256),
    "[128]x2 batch 256 LayerNorm": Size([128] * 2, 256, layer_norm=True),
    "[400]x3 batch 1280": Size([400] * 3, 1280),
    "[512,1024,1024,512] batch 256": Size([512, 1024, 1024, 512], 256),
}
_HEADS = {"batch 250": 250, "batch 1280": 1280}
_SEPARATE = {"critic_heads": True, "shared_layers": 0}
_LINEAR = {"critic_heads": True}
_VARIANTS: dict[str, dict[str, Any]] = {
    "shared": {},
    "separate": _SEPARATE,
    "one layer shared": {"critic_heads": True, "shared_layers": 1},
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
    import torch

    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    arguments.compile = compilation(arguments.compile, arguments.device)
    result: dict[str, Any] = {
        name: getattr(arguments, name) for name in ("threads", "device", "compile", "rounds")
    }
    try:
        result["sizes"] = {name: _against_sb3(name, arguments) for name in arguments.sizes}
        if not arguments.no_heads:
            result["heads"] = {name: _heads(batch, arguments) for name, batch in _HEADS.items()}
            result["variants"] = {name: _variants(batch, arguments) for name, batch in _HEADS.items()}
    finally:
        torch.set_num_threads(threads)
    if "[256]x3 batch 256" in result["sizes"]:
        result["sac_over_sb3"] = result["sizes"]["[256]x3 batch 256"]["ours_over_sb3"]
    for key in ("multihead_over_shared", "masks_over_shared"):
        if "heads" in result:
            result[key] = {name: row[key] for name, row in result["heads"].items()}
    return result


def _against_sb3(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Compare whole updates of stable-baselines3's SAC and ours."""
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    size = _SIZES[name]
    learners = {
        "sb3": stable_baselines3_sac(size, arguments.device),
        "ours": own_sac(size, arguments.device, arguments.compile),
    }
    contenders = {key: _updates(learner, arguments.seconds) for key, learner in learners.items()}
    rates = take_turns(contenders, arguments.rounds)
    return medians(rates) | {"ours_over_sb3": ratio(rates, "ours", "sb3")}


def _heads(batch_size: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Compare critic updates: shared, separate, with linear heads, and separate by task masks."""
    print(f"measuring heads, batch {batch_size} ...", file=sys.stderr, flush=True)
    variants = {"shared": {}, "multihead": _SEPARATE, "linear_heads": _LINEAR, "masks": {}}
    learners = {name: _balanced(batch_size, arguments, **options) for name, options in variants.items()}
    learners["masks"] = with_masks(learners["masks"])
    contenders = {name: _critic_updates(learner, arguments.seconds) for name, learner in learners.items()}
    rates = take_turns(contenders, arguments.rounds)
    return medians(rates) | {
        f"{name}_over_shared": ratio(rates, name, "shared") for name in rates if name != "shared"
    }


def _variants(batch_size: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Compare whole updates of networks with and without heads."""
    print(f"measuring whole updates, batch {batch_size} ...", file=sys.stderr, flush=True)
    learners = {name: _balanced(batch_size, arguments, **options) for name, options in _VARIANTS.items()}
    contenders = {name: _updates(learner, arguments.seconds) for name, learner in learners.items()}
    return medians(take_turns(contenders, arguments.rounds))


def _balanced(batch_size: int, arguments: argparse.Namespace, **options: Any) -> Any:
    """Return our SAC of [256]x3, on balanced batches unless ``options`` say otherwise."""
    size = Size([256] * 3, batch_size)
    return own_sac(size, arguments.device, arguments.compile, **{"balanced": True} | options)


def _updates(learner: Any, seconds: float) -> Callable[[], float]:
    return _block(lambda: learner.train(1, learner.batch_size), seconds)


def _critic_updates(learner: Any, seconds: float) -> Callable[[], float]:
    from mtrl.algo.update import move_targets, prepare, update_critics

    batch = prepare(learner, learner.batch_size)
    temperature = learner.temperatures()

    def work() -> None:
        update_critics(learner, batch, temperature)
        move_targets(learner)

    return _block(work, seconds)


def _block(work: Callable[[], None], seconds: float) -> Callable[[], float]:
    """Return a block that repeats ``work`` for about ``seconds`` and returns how often a second it did."""

    def rate(repeats: int) -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        _synchronize()
        return repeats / (time.perf_counter() - started)

    # The first ones compile or record.
    rate(_FIRST)
    repeats = max(2, round(seconds * rate(1)))
    return lambda: rate(repeats)


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
