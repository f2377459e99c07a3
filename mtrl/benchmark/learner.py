"""Updates per second: our SAC against stable-baselines3's, critics per task against shared ones, and LayerNorm.

Every comparison takes turns in one process, on the same number of threads and the same random transitions. An
update is a whole call of ``train``: drawing the batch, temperature, critics, actor, targets. A critic update
is its part that concerns the critics: target, loss, step, target networks.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from mtrl.benchmark.learners import TASKS, Size, own_sac, stable_baselines3_sac, with_masks
from mtrl.benchmark.pairing import ratio, take_turns, typical
from mtrl.hardware import compilation, keep_freed_memory

_FIRST = 5
"""Updates before any is timed: a CUDA graph is recorded at the fourth."""

_SIZES = {
    "[256]x3 batch 256": Size([256] * 3, [256] * 3, 256),
    "[128]x2 batch 256": Size([128] * 2, [128] * 2, 256),
    "[128]x2 batch 256 LayerNorm": Size([128] * 2, [128] * 2, 256, layer_norm=True),
    "[400]x3 batch 1280": Size([400] * 3, [400] * 3, 1280),
    "[512,1024,1024,512] batch 256": Size([512, 1024, 1024, 512], [512, 1024, 1024, 512], 256),
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
    parser.add_argument(
        "--compile",
        default="auto",
        choices=("auto", "off", "inductor", "cuda_graph"),
        help="how our update runs (auto: as hardware.compile=auto chooses for the device)",
    )
    parser.add_argument(
        "--sizes", nargs="*", default=list(_SIZES), choices=list(_SIZES), help="networks to compare (all)"
    )
    parser.add_argument("--no-heads", action="store_true", help="leave out the critics with heads")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return updates per second and their ratios.

    Of the keys, ``sac_over_sb3`` is the ratio at [256]x3 batch 256; ``multihead_over_shared`` is, for each
    batch size, the rate of critic updates of 10 separate [256]x3 critics over that of one shared critic on
    the same balanced batches, and ``masks_over_shared`` the same for a plain loop over task masks. Under
    ``layer_norm`` stand rates of networks with LayerNorm, in compiled code and by torch.
    """
    import torch

    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    arguments.compile = compilation(arguments.compile, arguments.device)
    try:
        return _run(arguments)
    finally:
        torch.set_num_threads(threads)


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {
        "threads": arguments.threads,
        "device": arguments.device,
        "compile": arguments.compile,
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "load_average": [os.getloadavg()[0]],
        "sizes": {},
    }
    for name in arguments.sizes:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        size = _SIZES[name]
        contenders = {
            "sb3": _updates(stable_baselines3_sac(size, arguments.device), size.batch, arguments.seconds),
            "ours": _updates(
                own_sac(size, arguments.device, arguments.compile), size.batch, arguments.seconds
            ),
        }
        rates = take_turns(contenders, arguments.rounds)
        row = {key: typical(rates, key) for key in rates}
        result["sizes"][name] = row | {"ours_over_sb3": ratio(rates, "ours", "sb3")}
    if "[256]x3 batch 256" in result["sizes"]:
        result["sac_over_sb3"] = result["sizes"]["[256]x3 batch 256"]["ours_over_sb3"]
    if not arguments.no_heads:
        result["heads"] = {}
        for name, batch in _HEADS.items():
            print(f"measuring heads, {name} ...", file=sys.stderr, flush=True)
            result["heads"][name] = _heads(batch, arguments)
        for key in ("multihead_over_shared", "masks_over_shared"):
            result[key] = {name: row[key] for name, row in result["heads"].items()}
        result["variants"] = {}
        for name, batch in _HEADS.items():
            print(f"measuring whole updates, {name} ...", file=sys.stderr, flush=True)
            result["variants"][name] = _variants(batch, arguments)
    result["load_average"].append(os.getloadavg()[0])
    return result


def show(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    from rich.console import Console
    from rich.table import Table

    where = f"{result['device']}, {result['threads']} threads, compile={result['compile']}"
    console = Console()
    table = Table("network", "stable-baselines3", "ours", "ours/sb3", title=f"updates per second, {where}")
    for name, row in result["sizes"].items():
        table.add_row(name, f"{row['sb3']:.1f}", f"{row['ours']:.1f}", f"{row['ours_over_sb3']:.2f}")
    console.print(table)
    if "heads" in result:
        columns = ("shared", "multihead", "linear_heads", "masks")
        title = f"critic updates per second, {TASKS} tasks, [256]x3, balanced batches"
        table = Table("", *columns, "multihead/shared", "masks/shared", title=title)
        for name, row in result["heads"].items():
            rates = [f"{row[column]:.1f}" for column in columns]
            ratios = [f"{row[f'{column}_over_shared']:.2f}" for column in ("multihead", "masks")]
            table.add_row(name, *rates, *ratios)
        console.print(table)
        table = Table("", *result["variants"], title=f"whole updates per second, {TASKS} tasks, [256]x3")
        for name in _VARIANTS:
            table.add_row(name, *(f"{rates[name]:.1f}" for rates in result["variants"].values()))
        console.print(table)
    before, after = result["load_average"]
    console.print(f"{result['cores']} cores; load average {before:.1f} before and {after:.1f} after")


def _heads(batch_size: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Compare critic updates: shared, separate, with linear heads, and separate by task masks."""
    size = Size([256] * 3, [256] * 3, batch_size)
    contenders = {
        "shared": _critic_updates(
            own_sac(size, arguments.device, arguments.compile, balanced=True), arguments.seconds
        ),
        "multihead": _critic_updates(
            own_sac(size, arguments.device, arguments.compile, balanced=True, **_SEPARATE), arguments.seconds
        ),
        "linear_heads": _critic_updates(
            own_sac(size, arguments.device, arguments.compile, balanced=True, **_LINEAR), arguments.seconds
        ),
        "masks": _critic_updates(
            with_masks(own_sac(size, arguments.device, arguments.compile, balanced=True)), arguments.seconds
        ),
    }
    rates = take_turns(contenders, arguments.rounds)
    row = {name: typical(rates, name) for name in rates}
    return row | {f"{name}_over_shared": ratio(rates, name, "shared") for name in rates if name != "shared"}


def _variants(batch_size: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Compare whole updates of networks with and without heads."""
    size = Size([256] * 3, [256] * 3, batch_size)
    contenders = {
        name: _updates(
            own_sac(size, arguments.device, arguments.compile, **({"balanced": True} | options)),
            batch_size,
            arguments.seconds,
        )
        for name, options in _VARIANTS.items()
    }
    rates = take_turns(contenders, arguments.rounds)
    return {name: typical(rates, name) for name in rates}


def _block(work: Callable[[], None], seconds: float) -> Callable[[], float]:
    """Return a block that repeats ``work`` for about ``seconds`` and returns how often a second it did."""
    # the first ones compile or record
    for _ in range(_FIRST):
        work()
    _synchronize()
    started = time.perf_counter()
    work()
    _synchronize()
    repeats = max(2, round(seconds / (time.perf_counter() - started)))

    def block() -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        _synchronize()
        return repeats / (time.perf_counter() - started)

    return block


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _updates(learner: Any, batch_size: int, seconds: float) -> Callable[[], float]:
    return _block(lambda: learner.train(1, batch_size), seconds)


def _critic_updates(learner: Any, seconds: float) -> Callable[[], float]:
    from mtrl.algo.update import move_targets, prepare, update_critics

    batch = prepare(learner, learner.batch_size)
    temperature = learner.temperatures()

    def work() -> None:
        update_critics(learner, batch, temperature)
        move_targets(learner)

    return _block(work, seconds)
