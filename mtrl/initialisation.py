"""The first weights of a network, where they are not those that torch draws."""

import torch

from mtrl.networks import StackedMLP

INITIALISATIONS = ("torch", "metaworld_algorithms")
ACTOR_OUTPUT, CRITIC_OUTPUT = 1e-3, 3e-3
"""Bounds of the last layer of actor and critics in ``metaworld_algorithms`` (its ``rl/networks.py``)."""


@torch.no_grad()
def initialise(net: StackedMLP, scheme: str, output_bound: float) -> None:
    """Draw the weights of ``net`` anew as ``scheme`` does; ``torch`` leaves them as they are.

    ``metaworld_algorithms``, the code of Meta-World+ (McLean et al. 2025, github.com/rainx0r/metaworld-algorithms):
    He-uniform weights and no bias in hidden layers, a last layer uniform within ``output_bound``.

    Raises:
        ValueError: there is no such scheme.
    """
    if scheme not in INITIALISATIONS:
        raise ValueError(f"initialisation={scheme} is not one of {', '.join(INITIALISATIONS)}")
    if scheme == "torch":
        return
    for layer in net.layers[:-1]:
        bound = (6 / layer.weight.shape[1]) ** 0.5
        layer.weight.uniform_(-bound, bound)
        layer.bias.zero_()
    net.layers[-1].weight.uniform_(-output_bound, output_bound)
    net.layers[-1].bias.uniform_(-output_bound, output_bound)
