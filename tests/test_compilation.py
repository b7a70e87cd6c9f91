"""Tracing, and loops and scalars in C++, against the functions that they are made of."""

import json

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.compiler import UntraceableError, cpp, record, trace_program
from caskade_pyro.compiler import library as native
from caskade_pyro.compiler.cpp import loops_are_fast

pytestmark = pytest.mark.usefixtures("float64")

WHERE = torch.tensor([0, 4, 4, 2, 0, 11, -1, 4])
WEIGHTS = torch.linspace(-1.0, 2.0, 60, dtype=torch.float64)


def rearranged(z):
    """Views that are regular in some loops and not in others, and one shape as another one."""
    a = (z * WEIGHTS[:12]).reshape(3, 4)
    b = (a.exp().reshape(2, 6) * torch.arange(6.0)).reshape(4, 3)
    return (b.T * a.flip(1)).sum(1).prod() + (b[1:, ::2] * a[:, 1:3]).sum()


def pieces(z):
    """Arrays made of pieces of others and of numbers."""
    joined = torch.cat([z[:3].exp(), torch.zeros(5), z[7:].sin(), torch.ones(2)])
    stacked = torch.stack([joined, 2.0 * joined[:7].cumsum(0)[-1].expand(15), joined.flip(0)])
    return (stacked**2).mean() + torch.nn.functional.pad(joined, (2, 1), value=3.0).cosh().sum()


def looked_up(z):
    """Elements that are looked up several times, also from the end, whose slopes add up."""
    found = z[WHERE] * WEIGHTS[:8]
    table = torch.zeros(12).index_put((WHERE % 12,), found.tanh(), accumulate=True)
    one = torch.zeros(5).index_put((torch.tensor([3]),), z[4:5].exp(), accumulate=True)
    return (table.exp() * z).sum() + found.square().sum() + (one * z[:5]).sum()


def broadcast(z):
    """Sums over what is repeated, along the first and the last dims."""
    outer = torch.exp(-((z[:, None] - WEIGHTS) ** 2))
    return (outer.sum(0).log1p() * WEIGHTS).sum() + (outer.mean(1) ** 3).sum() + z[0].expand(40).sum()


def long_sums(z):
    """Sums of more terms than are added one after the other."""
    grid = torch.linspace(0.0, 1.0, 5_000)
    return torch.cos(grid * z[0] + z[1]).sum() + (grid[:, None] * z).exp().mean(0).sum()


def choices(z):
    """Comparisons, masks, limits, extremes, and infinities where nobody goes."""
    kept = torch.where(z > 0.1, z.abs().clamp(min=1e-3).log(), torch.tensor(-float("inf")))
    finite = torch.where(kept.isfinite(), kept, 0.5 * z)
    masked = finite.clone()
    masked[z < -0.2] = 7.0
    largest = z.reshape(3, 4).amax(1)
    return masked.sum() + largest.sum() + (z > 0).sum() * z[1] + z.reshape(4, 3).amin(0).prod()


def special(z):
    """Functions of probability."""
    p = torch.nn.functional.softplus(z) + 0.1
    return p.lgamma().sum() + torch.sigmoid(z).logit().sum() + torch.erf(z).sum() + torch.logsumexp(z, 0)


def gathered(z):
    """What is looked up along one dim, and written where numbers say."""
    a = z.reshape(3, 4).exp()
    at = torch.tensor([[0, 3, 1], [2, 2, 0], [1, 0, 3]])
    found = a.gather(1, at) * WEIGHTS[:9].reshape(3, 3)
    rows = a.index_select(0, torch.tensor([2, 0, 2]))[:, :3]
    into = torch.zeros(3, 5).scatter_add(1, at, found.sin()).scatter(1, at[:, :1], rows[:, :1])
    added = torch.zeros(4, 3).index_add(0, torch.tensor([1, 1, 3]), rows)
    return (found + rows).square().sum() + (into[:, :4] * a).sum() + added.cos().sum()


def written_into(z):
    """Tensors of the simulator's own that it fills in place, element by element, by rows and along the diagonal."""
    matrix = torch.zeros(4, 4)
    matrix[0, 1] = z[0] * z[1]
    matrix[2] += z[:4]
    matrix.fill_diagonal_(2.0)
    matrix[1:3, 1:3] *= z[5]
    path = torch.empty(6)
    path[0] = z[6]
    for step in range(1, 6):
        path[step] = 0.5 * path[step - 1] + z[6 + step].tanh()
    return (matrix @ matrix).sum() + path.square().sum() + z.unfold(0, 3, 2).prod(-1).sum()


def normalised(z):
    """Softmax, variances, the largest element, and elements moved around."""
    a = z.reshape(3, 4)
    shares = a.softmax(-1) * a.log_softmax(0)
    return shares.sum() + z.std() * a.var(1).sum() + z.max() - z.min() + (z.roll(3) * z).sum() + a.norm()


def tails(z):
    """Tails of the normal distribution, and signs."""
    return (torch.special.log_ndtr(30 * z) * WEIGHTS[:12]).sum() + torch.copysign(z, -z).sum()


def periodic(z):
    """What is left of phases, cycles that are counted, and other logarithms and powers than the natural ones."""
    t = torch.linspace(-30.0, 30.0, 12)
    period = 2.0 + z.square()
    phase = torch.remainder(t - 5 * z, period) + torch.fmod(t + z, 1.7) + (t * z) % -1.3 + torch.frac(t + z)
    rounded = z * torch.round(3 * z) + z * torch.trunc(3 * z) + z * torch.div(t, period, rounding_mode="floor")
    scales = torch.log10(period) + torch.log2(period) + torch.exp2(z) + torch.hypot(z, period)
    inverse = torch.asinh(z) + torch.acosh(period) + torch.atanh(0.5 * torch.tanh(z)) + torch.relu(z)
    return (phase * rounded).sum() + (scales * inverse).sum()


def many_steps(z):
    """A path of many small steps, as of a differential equation."""
    for number in range(700):
        z = z + 0.01 * torch.sin(z + 0.1 * number)
    return (z**2).sum()


FUNCTIONS = (
    rearranged, pieces, looked_up, broadcast, long_sums, choices, special, gathered, written_into, normalised, tails,
    periodic, many_steps,
)  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("form", ["loops", "scalars"])
def test_code_computes_what_torch_computes(function, form, monkeypatch, tmp_path):
    """Traced and written as C++, a function has the values and slopes that torch gives, at points other than the traced one."""
    if form == "loops" and not loops_are_fast():
        pytest.skip("Inductor writes the loops on this machine")
    if form == "scalars" and function in (long_sums, many_steps):
        pytest.skip("too large for scalars")
    program = trace_program(function, torch.linspace(-0.9, 1.1, 12))
    monkeypatch.setattr(cpp, "MOST_INPUTS", 0 if form == "loops" else 10**9)
    native._make(program, tmp_path / "made")
    compiled = native.Native(
        tmp_path / "made" / "density.so", json.loads((tmp_path / "made" / "plan.json").read_text()), program
    )
    for seed in range(4):
        z = torch.randn(12, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        expected = function(z)
        (slope,) = torch.autograd.grad(expected, z)
        for value, gradient in (compiled.run(z.detach()), program.run(z.detach())):
            torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-10)


def test_only_what_depends_on_the_argument_is_recorded():
    """What is computed from constants is one constant, and an operation met twice is recorded once."""
    data = torch.arange(3.0)

    def function(z):
        scaled = (data.exp() + 1).log() * z
        return (scaled + data * 0 + torch.ones(3)).sum(), (z * (data.exp() + 1).log()).sum(), scaled.sum()

    graph, constants = record(function, torch.ones(3))
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert names.count("aten.mul.Tensor") == 2
    assert names.count("aten.sum.default") == 3
    assert "aten.exp.default" not in names
    assert len(constants) == 2
    for found, expected in zip(graph(data, *constants), function(data), strict=True):
        torch.testing.assert_close(found, expected)


def test_data_become_inputs_and_structure_becomes_numbers():
    """Tensors of the model are inputs of the graph even if all their elements are equal; those that it makes are not."""
    zeros = torch.zeros(4)
    graph, constants = record(lambda z: (z + zeros + torch.zeros(4),), torch.ones(4))
    assert len(constants) == 1
    assert [node.target for node in graph.graph.nodes].count(torch.ops.aten.full.default) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: (z if z[0] > 0 else -z).sum(), "branches on the value"),
        (lambda z: z * float(z.sum().item()), "branches on the value"),
        (lambda z: z[z > 0].sum(), "shape of a tensor depends"),
    ],
    ids=["branch", "item", "mask"],
)
def test_what_is_no_fixed_sequence_is_an_error(function, message):
    """A branch on a value, a value taken out, and a shape that depends on values cannot be traced."""
    with pytest.raises(UntraceableError, match=message):
        record(lambda z: (function(z),), torch.tensor([0.3, -0.2]))


def test_a_write_into_a_tensor_of_the_model_is_an_error():
    """A function that keeps what it computes in a tensor from outside cannot be traced, and the tensor is as it was."""
    kept = torch.zeros(2)

    def function(z):
        kept.copy_(z)
        return (z.sum(),)

    with pytest.raises(UntraceableError, match="writes into a tensor"):
        record(function, torch.ones(2))
    assert torch.equal(kept, torch.zeros(2))


class Ring(ck.Module):
    """One of many rings: its width."""

    def __init__(self):
        super().__init__()
        self.width = ck.Param("width", shape=(), prior=dist.HalfNormal(1.0))

    @ck.forward
    def profile(self, x, width):
        return (-((x / width) ** 2)).exp()


class Rings(ck.Module):
    """Seven of them, computed some at a time."""

    def __init__(self, ring, chunk_size):
        super().__init__()
        self.hierarchical_link("rings", ring, size=7)
        self.chunk_size = chunk_size

    @ck.forward
    def profiles(self, x):
        return dist.Normal(ck.vmap(self.rings.profile, chunk_size=self.chunk_size)(x), 0.1).to_event(1)


def test_chunks_of_members_are_not_written_down_one_by_one():
    """A model that computes members in chunks has the same program as one that computes all at once."""
    x = torch.linspace(0.0, 2.0, 5)
    densities = [
        ck.LogDensity(
            ck.PyroModel(Rings(Ring(), size).profiles, dims={"obs": ("rings",)}).bind(x, obs=torch.ones(7, 5))
        )
        for size in (None, 2)
    ]
    whole, chunked = densities
    z = torch.linspace(-1.0, 1.0, 7)
    assert chunked.form == "traced"
    assert chunked._program.key() == whole._program.key()
    torch.testing.assert_close(chunked.value(z), whole._eager(z)[0])
