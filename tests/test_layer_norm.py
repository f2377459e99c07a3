"""The compiled layer normalisation is torch's, forwards and backwards."""

import pytest
import torch
from torch.nn import functional as F

from mtrl import compiled, layer_norm
from mtrl.layer_norm import normalised_relu
from mtrl.networks import StackedMLP

SHAPES = [(1, 1, 1), (2, 3, 5), (2, 256, 128), (20, 25, 256), (3, 7, 100), (2, 2560, 128), (2, 0, 5)]
COMPILED = "_NormalisedReLUBackward"


@pytest.fixture(autouse=True)
def compiled_if_possible():
    layer_norm.choose("auto")


def by_hand(x, weight, bias):
    rows = [
        F.relu(F.layer_norm(x[i], x.shape[-1:], weight[i, 0], bias[i, 0], layer_norm.EPSILON))
        for i in range(len(x))
    ]
    return torch.stack(rows)


def inputs(shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    n, _, width = shape
    draw = [
        torch.randn(s, generator=generator, dtype=dtype) for s in (shape, (n, 1, width), (n, 1, width), shape)
    ]
    return [tensor.requires_grad_() for tensor in draw[:3]], draw[3]


def gradients(function, given, g):
    y = function(*given)
    return [y.detach(), *torch.autograd.grad(y, given, g)]


@pytest.fixture
def by_torch():
    with layer_norm.by_torch():
        yield


def test_compiled_code_is_what_runs_here():
    assert compiled.unusable(layer_norm.KERNEL) is None
    y = normalised_relu(*inputs((2, 3, 5))[0])
    assert y.grad_fn.name() == COMPILED
    assert layer_norm.choose("auto") == "compiled"


@pytest.mark.parametrize("shape", SHAPES)
def test_compiled_code_computes_what_torch_does_network_by_network(shape):
    given, g = inputs(shape)
    ours = gradients(normalised_relu, given, g)
    exact = gradients(by_hand, *[[t.detach().double().requires_grad_() for t in given], g.double()])
    theirs = gradients(by_hand, given, g)
    for value, right, other in zip(ours, exact, theirs, strict=True):
        # as near to the exact numbers as torch's own, with room for another order of summation
        assert value.shape == right.shape
        if right.numel() == 0:
            continue
        scale = right.abs().max().item() + 1e-3
        assert (value - right).abs().max().item() <= 4 * (other - right).abs().max().item() + 1e-6 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_takes_over_where_there_is_no_compiled_code(by_torch, dtype):
    given, g = inputs((2, 3, 5), dtype)
    assert normalised_relu(*given).grad_fn.name() != COMPILED
    for value, right in zip(gradients(normalised_relu, given, g), gradients(by_hand, given, g), strict=True):
        torch.testing.assert_close(value, right)


@pytest.fixture
def no_cached_kernels():
    layer_norm._kernels.cache_clear()
    compiled.load.cache_clear()
    yield
    layer_norm._kernels.cache_clear()
    compiled.load.cache_clear()


@pytest.mark.parametrize("trouble", ["no numba", "disabled", "unwritable", "full disk"])
def test_whatever_keeps_code_from_being_compiled_leaves_the_layer_to_torch_and_says_so(
    trouble, monkeypatch, tmp_path, caplog, no_cached_kernels
):
    def full(module, what):
        raise OSError(28, "No space left on device")

    if trouble == "no numba":
        monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    elif trouble == "disabled":
        monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    elif trouble == "unwritable":
        (tmp_path / "file").touch()
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    else:
        monkeypatch.setattr(compiled, "_load", full)
    given, _ = inputs((2, 3, 5))
    with caplog.at_level("WARNING"):
        assert layer_norm.choose("auto") == "torch"
        assert normalised_relu(*given).grad_fn.name() != COMPILED
    assert len(caplog.records) == 1
    assert "LayerNorm is left to torch, which is slower: " in caplog.text


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 3, 8), (2, 1, 8), (2, 1, 8)),
        ((2, 3, 8), (2, 1, 7), (2, 1, 7)),
        ((400, 3, 64), (2, 1, 64), (2, 1, 64)),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_torch_before_any_memory_is_touched(shapes):
    with pytest.raises(RuntimeError, match="must match"):
        normalised_relu(*(torch.ones(shape) for shape in shapes))


def test_what_torch_broadcasts_or_promotes_it_still_does():
    x, bias = torch.randn(2, 3, 8), torch.zeros(2, 1, 8)
    plain = normalised_relu(x, torch.ones(2, 1, 8), bias)
    torch.testing.assert_close(normalised_relu(x, torch.ones(1, 1, 8), bias), plain)
    torch.testing.assert_close(normalised_relu(x[0], torch.ones(1, 1, 8), bias[:1])[0], plain[0])
    double = normalised_relu(x, torch.ones(2, 1, 8).double(), bias.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), plain)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_traced_and_transformed_tensors_are_left_to_torch():
    given, _ = inputs((2, 3, 5))
    given = [tensor.detach() for tensor in given]
    right = normalised_relu(*given)
    torch.testing.assert_close(torch.jit.trace(normalised_relu, tuple(given))(*given), right)
    together = torch.func.vmap(normalised_relu, in_dims=(0, None, None))(given[0][None], *given[1:])
    torch.testing.assert_close(together[0], right)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert normalised_relu(*(mode.from_tensor(tensor) for tensor in given)).shape == right.shape


def test_large_numbers_stay_finite_where_torchs_do():
    x = inputs((2, 3, 128))[0][0].detach() * 1e19
    weight, bias = torch.ones(2, 1, 128), torch.ones(2, 1, 128)
    with layer_norm.by_torch():
        right = normalised_relu(x, weight, bias)
    assert torch.isfinite(right).all()
    assert torch.isfinite(normalised_relu(x, weight, bias)).all()


@pytest.mark.parametrize(("shared_layers", "balanced"), [(0, True), (0, False), (1, False), (None, True)])
def test_networks_with_heads_agree_with_torch(shared_layers, balanced):
    torch.manual_seed(5)
    net = StackedMLP(2, 6, [16, 24], 1, layer_norm=True, n_heads=4, shared_layers=shared_layers)
    with torch.no_grad():
        for parameter in net.norms.parameters():
            parameter.uniform_(0.5, 1.5)
    # most of the second batch is one task's, which is where the heads are evaluated one after the other
    tasks = torch.arange(4).repeat(8) if balanced else torch.tensor([1] * 28 + [0, 3, 3, 1])
    x, g = torch.randn(32, 6), torch.randn(2, 32, 1)

    def results():
        return [net(x, tasks).detach(), *torch.autograd.grad(net(x, tasks), list(net.parameters()), g)]

    ours = results()
    with layer_norm.by_torch():
        theirs = results()
    assert ours[0].abs().sum() > 0
    for value, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(value, right, rtol=1e-4, atol=1e-5)


def test_without_gradients_the_values_are_the_same():
    given, _ = inputs((2, 64, 100))
    with torch.no_grad():
        without = normalised_relu(*given)
    assert torch.equal(without, normalised_relu(*given).detach())


def test_any_layout_in_memory_is_read_right():
    (x, weight, bias), g = inputs((4, 6, 8))
    strided = [
        x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(),
        weight.detach().repeat_interleave(2, 0)[::2].requires_grad_(),
        bias.detach().repeat_interleave(2, 0)[::2].requires_grad_(),
    ]
    assert not any(tensor.is_contiguous() for tensor in strided)
    mine = gradients(normalised_relu, strided, g.mT.contiguous().mT)
    for value, right in zip(mine, gradients(normalised_relu, [x, weight, bias], g), strict=True):
        assert torch.equal(value, right)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(wrong):
    (x, weight, bias), g = inputs((2, 3, 5))
    with torch.no_grad():
        x[1, 2, 3] = wrong
    y, gx, gweight, _ = gradients(normalised_relu, [x, weight, bias], g)
    assert torch.isnan(y[1, 2]).all()
    assert torch.isnan(gx[1, 2]).all()
    assert torch.isnan(gweight[1]).all()
    for whole in (y[0], y[1, :2], gx[0], gx[1, :2], gweight[0]):
        assert torch.isfinite(whole).all()


def test_a_row_of_equal_values_has_no_infinite_gradient():
    (_, weight, bias), g = inputs((2, 3, 5))
    x = torch.full((2, 3, 5), 7.0, requires_grad=True)
    for value, right in zip(
        gradients(normalised_relu, [x, weight, bias], g),
        gradients(by_hand, [x, weight, bias], g),
        strict=True,
    ):
        torch.testing.assert_close(value, right)


def test_gradients_agree_with_differences_of_a_whole_network(by_torch):
    torch.manual_seed(3)
    net = StackedMLP(2, 5, [7, 6], 1, layer_norm=True).double()
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, (x,))


def test_a_second_gradient_is_refused_rather_than_wrong():
    given, g = inputs((2, 3, 5))
    with pytest.raises(RuntimeError, match="no second gradient"):
        torch.autograd.grad(normalised_relu(*given), given[:1], g, create_graph=True)


def test_a_compiled_network_is_traced_through_torchs_own_operations():
    def count(graph, _):
        seen.append({str(node.target) for node in graph.graph.nodes})
        return graph.forward

    seen = []
    given, _ = inputs((2, 3, 5))
    torch.compile(normalised_relu, backend=count, fullgraph=True)(*given)
    assert any("layer_norm" in target for target in seen[0])
