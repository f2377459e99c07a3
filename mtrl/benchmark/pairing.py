"""Compare rates on a machine whose speed changes."""

from collections.abc import Callable, Mapping
from statistics import median

Block = Callable[[], float]
"""Does one block of work and returns how much of it was done per second."""
Rates = dict[str, list[float]]
"""By side, the rate of each round."""


def take_turns(sides: Mapping[str, Block], rounds: int) -> Rates:
    """Let each side do one block per round and return its rates, one a round.

    Every second round goes backwards, so that none always follows the same one. A round before the first
    warms the caches and is not counted.
    """
    rates: Rates = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in sides if number % 2 else reversed(sides):
            rate = sides[name]()
            if number > 0:
                rates[name].append(rate)
    return rates


def medians(rates: Rates) -> dict[str, float]:
    """Return the median rate of each side."""
    return {name: median(values) for name, values in rates.items()}


def ratio(rates: Rates, name: str, base: str) -> float:
    """Return how many times faster ``name`` is than ``base``: the median of the rounds' ratios."""
    return median(one / other for one, other in zip(rates[name], rates[base], strict=True))
