"""A foreign algorithm that refuses a value of its own argument, each time in another way."""

import builtins

from stable_baselines3 import SAC


class Picky(SAC):
    def __init__(self, *args, refusal=None, **kwargs):
        super().__init__(*args, **kwargs)
        if refusal is not None:
            raise getattr(builtins, refusal)("not this one")
