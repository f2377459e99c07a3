"""Compare rates on a machine whose speed changes."""

from collections.abc import Callable, Mapping
from statistics import median

Rates = dict[str, list[float]]
"""By contender, how much work it did per second in each round."""


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Rates:
    """Let each contender do one block of work per round and return its rates, one a round.

    Every second round goes backwards, so that none always follows the same one. A round before the first
    warms the caches and is not counted. A contender returns how much of its work it did per second.
    """
    rates: Rates = {name: [] for name in contenders}
    for number in range(rounds + 1):
        names = list(contenders) if number % 2 else list(reversed(contenders))
        for name in names:
            rate = contenders[name]()
            if number > 0:
                rates[name].append(rate)
    return rates


def medians(rates: Rates) -> dict[str, float]:
    """Return the median rate of each contender."""
    return {name: median(values) for name, values in rates.items()}


def ratio(rates: Rates, name: str, base: str) -> float:
    """Return how many times faster ``name`` is than ``base``: the median of the rounds' ratios."""
    return median(one / other for one, other in zip(rates[name], rates[base], strict=True))
