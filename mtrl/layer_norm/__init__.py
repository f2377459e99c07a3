"""Layer normalisation followed by gain, bias and ReLU, for many networks side by side.

torch takes about twenty passes over the layer for it, forwards and backwards; on a processor they take as long as
the matrix products of a small network. Compiled code (``kernel.py``) does with five. Where it cannot be had, on
a GPU, and in any precision but float32, torch computes the same up to rounding.
"""

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from mtrl import compiled

logger = logging.getLogger(__name__)

KERNEL = "mtrl.layer_norm.kernel"
EPSILON = 1e-5
"""Added to the variance, as torch.nn.LayerNorm does."""

_by_torch = False
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def choose(asked: str) -> str:
    """Decide what computes from now on in this process, and return it: "compiled" or "torch".

    Args:
        asked: "torch", or else compiled code where it can be had.
    """
    global _by_torch
    _by_torch = asked == "torch" or _kernels() is None
    return "torch" if _by_torch else "compiled"


@contextmanager
def by_torch() -> Iterator[None]:
    """Leave everything to torch meanwhile, as where there is no compiled code."""
    global _by_torch
    before, _by_torch = _by_torch, True
    try:
        yield
    finally:
        _by_torch = before


def normalised_relu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return relu(layer_norm(x) * weight + bias), each network with its own gain and bias.

    Args:
        x: Shape (n, rows, width).
        weight: Gain, shape (n, 1, width).
        bias: Shape (n, 1, width).
    """
    if torch.compiler.is_compiling():
        # the compiler makes one kernel of it anyway
        return torch.relu(torch.addcmul(bias, F.layer_norm(x, x.shape[-1:], eps=EPSILON), weight))
    if not _by_torch and _are_plain(x, weight, bias):
        kernels = _kernels()
        if kernels is not None:
            if torch.is_grad_enabled():
                return _NormalisedReLU.apply(x, weight, bias)
            return _forward(kernels, x.contiguous(), weight.contiguous(), bias.contiguous())[0]
    # torch's own gain and bias are the same for every network; its code is vectorised only where it is given some
    units = _units(x.shape[-1], x.dtype, x.device)
    return torch.relu_(torch.addcmul(bias, F.layer_norm(x, x.shape[-1:], *units, EPSILON), weight))


def _are_plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> bool:
    """Tell whether compiled code may read these at their addresses; torch refuses or broadcasts what it may not."""
    return (
        # what is traced or transformed is not there yet
        torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and type(x) in _PLAIN
        and type(weight) in _PLAIN
        and type(bias) in _PLAIN
        and x.dtype == weight.dtype == bias.dtype == torch.float32
        and x.device.type == weight.device.type == bias.device.type == "cpu"
        and x.dim() == 3
        and weight.shape == bias.shape == (x.shape[0], 1, x.shape[2])
    )


@cache
def _units(width: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(width, dtype=dtype, device=device), torch.zeros(width, dtype=dtype, device=device)


class _Kernels(NamedTuple):
    forward: Any
    backward: Any


@cache
def _kernels() -> _Kernels | None:
    """Return the compiled functions, or None, with a line in the log, where they cannot be had."""
    trouble = compiled.unusable(KERNEL)
    if trouble is None:
        try:
            module = compiled.load(KERNEL, "the layer normalisation")
        # torch does as well: whatever is wrong with a cache is no reason to end a run
        except Exception as error:
            trouble = f"its compiled code cannot be kept or read ({type(error).__name__}: {error})"
    if trouble is not None:
        logger.warning("LayerNorm is left to torch, which is slower: %s", trouble)
        return None
    address, count = ctypes.c_void_p, ctypes.c_ssize_t
    forward = ctypes.CFUNCTYPE(None, *[address] * 6, *[count] * 3, ctypes.c_float)
    backward = ctypes.CFUNCTYPE(None, *[address] * 9, *[count] * 3)
    return _Kernels(forward(module.forward.address), backward(module.backward.address))


def _forward(
    kernels: _Kernels, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output and, shape (2, n, rows), mean and scale of each row."""
    n, rows, width = x.shape
    y = torch.empty_like(x)
    statistics = x.new_empty(2, n, rows)
    means = statistics.data_ptr()
    kernels.forward(
        x.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        y.data_ptr(),
        means,
        means + n * rows * statistics.element_size(),
        n,
        rows,
        width,
        EPSILON,
    )
    return y, statistics


class _NormalisedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        y, statistics = _forward(_kernels(), x, weight, bias)
        ctx.save_for_backward(x, y, weight, statistics)
        return y

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # as torch's once_differentiable, which takes longer than all else here on a small layer
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the compiled layer normalisation has no second gradient: compute within "
                "mtrl.layer_norm.by_torch()"
            )
        x, y, weight, statistics = ctx.saved_tensors
        n, rows, width = x.shape
        g = g.contiguous()
        gx, gweight, gbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        means = statistics.data_ptr()
        _kernels().backward(
            g.data_ptr(),
            x.data_ptr(),
            y.data_ptr(),
            weight.data_ptr(),
            means,
            means + n * rows * statistics.element_size(),
            gx.data_ptr(),
            gweight.data_ptr(),
            gbias.data_ptr(),
            n,
            rows,
            width,
        )
        return gx, gweight, gbias
