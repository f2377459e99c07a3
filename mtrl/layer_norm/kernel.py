"""Layer normalisation with gain, bias and ReLU in one pass, forwards and backwards, as compiled C functions.

Imported through ``mtrl.compiled.load``, which decides where the compiled code is kept on disk. The functions read
and write at addresses, so that a call costs a microsecond; every array is contiguous and of single precision.
"""

import numpy as np
from numba import carray, cfunc, types

_BLOCK = 32
"""Rows whose gradients are added up before they join the others."""
_VALUES = types.CPointer(types.float32)
_COUNTS = (types.intp, types.intp, types.intp)
# What may be assumed of sums and products for the sake of vector instructions: not that nothing is NaN, and no
# approximate reciprocals (arcp), which are NaN for large numbers and differ between makers of processors.
_OPTIONS = {
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz"},
}


@cfunc(types.void(*[_VALUES] * 6, *_COUNTS, types.float32), **_OPTIONS)
def forward(x, weight, bias, y, mean, scale, n, rows, width, epsilon):  # noqa: ANN001, ANN201
    """Write y = relu((x - mean) * scale * weight + bias); ``y`` may be ``x``.

    Args:
        x: Input, shape (n, rows, width).
        weight: Gain, shape (n, width).
        bias: Shape (n, width).
        y: Output, shape (n, rows, width).
        mean: Output, the mean of each row, shape (n, rows).
        scale: Output, 1 / sqrt(variance + epsilon) of each row, shape (n, rows).
        n: Number of networks.
        rows: Rows of each.
        width: Width of the layer.
        epsilon: Added to the variance.
    """
    xs, ys = carray(x, (n, rows, width)), carray(y, (n, rows, width))
    weights, biases = carray(weight, (n, width)), carray(bias, (n, width))
    means, scales = carray(mean, (n, rows)), carray(scale, (n, rows))
    zero, one = np.float32(0), np.float32(1)
    share = one / np.float32(width)
    for i in range(n):
        gain, shift = weights[i], biases[i]
        for j in range(rows):
            row, out = xs[i, j], ys[i, j]
            total = zero
            for k in range(width):
                total += row[k]
            middle = total * share
            squares = zero
            for k in range(width):
                off = row[k] - middle
                squares += off * off
            factor = one / np.sqrt(squares * share + epsilon)
            means[i, j], scales[i, j] = middle, factor
            for k in range(width):
                value = (row[k] - middle) * factor * gain[k] + shift[k]
                # written so that NaN stays NaN, as in torch
                out[k] = zero if value <= zero else value


@cfunc(types.void(*[_VALUES] * 9, *_COUNTS), **_OPTIONS)
def backward(g, x, y, weight, mean, scale, gx, gweight, gbias, n, rows, width):  # noqa: ANN001, ANN201
    """Write the gradients of ``forward``'s inputs from the gradient ``g`` of its output, (n, rows, width).

    Args:
        g: Gradient of the output.
        x: Input of ``forward``.
        y: Its output.
        weight: Gain.
        mean: As ``forward`` wrote it.
        scale: As ``forward`` wrote it.
        gx: Output, gradient of ``x``; may be ``g``.
        gweight: Output, gradient of ``weight``, (n, width).
        gbias: Output, gradient of ``bias``, (n, width).
        n: Number of networks.
        rows: Rows of each.
        width: Width of the layer.
    """
    gs, xs, ys = carray(g, (n, rows, width)), carray(x, (n, rows, width)), carray(y, (n, rows, width))
    weights, gxs = carray(weight, (n, width)), carray(gx, (n, rows, width))
    gweights, gbiases = carray(gweight, (n, width)), carray(gbias, (n, width))
    means, scales = carray(mean, (n, rows)), carray(scale, (n, rows))
    zero = np.float32(0)
    share = np.float32(1) / np.float32(width)
    of_gain, of_shift = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for i in range(n):
        gain = weights[i]
        for k in range(width):
            gweights[i, k] = zero
            gbiases[i, k] = zero
        for j in range(rows):
            row, kept, given, out = xs[i, j], ys[i, j], gs[i, j], gxs[i, j]
            middle, factor = means[i, j], scales[i, j]
            total, along = zero, zero
            for k in range(width):
                behind = zero if kept[k] <= zero else given[k]
                normal = (row[k] - middle) * factor
                of_shift[k] += behind
                of_gain[k] += behind * normal
                behind *= gain[k]
                out[k] = behind
                total += behind
                along += behind * normal
            total *= share
            along *= share
            # the part of the gradient that shifts or stretches the row is undone by the normalisation
            for k in range(width):
                normal = (row[k] - middle) * factor
                out[k] = factor * (out[k] - total - normal * along)
            # sums of sums, or those of many rows would lose digits
            if (j + 1) % _BLOCK == 0 or j + 1 == rows:
                for k in range(width):
                    gweights[i, k] += of_gain[k]
                    gbiases[i, k] += of_shift[k]
                    of_gain[k] = zero
                    of_shift[k] = zero
