"""A density at many vectors in one call is that at one after the other, in every form."""

import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS as FEW
from registry import PAIRS

import caskade_pyro as ck
from caskade_pyro.compiler import cpp as scalar_code
from caskade_pyro.compiler import trace_program
from caskade_pyro.density.batched import FixedRows, Looped, NativeRows, Vmapped, map_disagreement

ROWS = 5

WITHOUT = {
    "slots_drawn": "its simulator samples inside of a vmap",
}
"""Models of the registry that have no traced density."""

TRACED = [name for name in PAIRS if name not in WITHOUT]

doubles = pytest.mark.usefixtures("float64")


def one_by_one(density, z):
    values, gradients = zip(*(density.value_and_grad(row) for row in z), strict=True)
    return torch.stack(values), torch.stack(gradients)


def rows_of(density, rows=ROWS):
    return density.initial(1) + 0.3 * torch.randn(rows, density.dim)


@doubles
@pytest.mark.parametrize("name", TRACED)
def test_many_vectors_are_each_of_them(name):
    """Of every model of the registry, values and gradients at many vectors, in chunks of any size, are those at each."""
    density = ck.LogDensity(PAIRS[name]().bound, noncentered=False)
    assert density.form == "traced"
    z = rows_of(density)
    expected = one_by_one(density, z)
    assert isinstance(density.at_once(), Vmapped)
    for chunk_size in (None, 2):
        torch.testing.assert_close(density.value_and_grad(z, chunk_size), expected, rtol=1e-9, atol=1e-9)
    fixed = density.at_once(rows=2)
    assert isinstance(fixed, FixedRows)
    torch.testing.assert_close(fixed.run(z), expected, rtol=1e-9, atol=1e-9)


# Of the last two, the one has an operation with arguments left out, the other a mask that depends on params.
SOME = [*FEW, "defaults_of_bounds", "dirichlet"]


@doubles
@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.slow) for name in TRACED]
)
def test_compiled_code_runs_over_rows(name):
    """Compiled, the density at many vectors is exactly that at one after the other, and that of the traced form."""
    density = ck.LogDensity(PAIRS[name]().bound, noncentered=False)
    z = rows_of(density)
    traced = density.value_and_grad(z)
    density.compile()
    together = density.value_and_grad(z)
    torch.testing.assert_close(together, one_by_one(density, z), rtol=0, atol=0)
    torch.testing.assert_close(together, traced, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FEW)
def test_single_precision_stays_single(name):
    """In single precision many vectors are each of them, too, and nothing becomes double."""
    density = ck.LogDensity(FEW[name]().bound)
    z = rows_of(density)
    expected = one_by_one(density, z)
    for run in (density.value_and_grad, density.at_once(rows=ROWS).run, density.compile().value_and_grad):
        values, gradients = run(z)
        assert values.dtype == gradients.dtype == torch.float32
        torch.testing.assert_close((values, gradients), expected, rtol=1e-4, atol=1e-3)


def test_kernels_by_inductor_run_over_rows(monkeypatch):
    """Kernels with loops, too, run over rows by themselves."""
    monkeypatch.setattr(scalar_code, "MOST_INPUTS", 0)
    density = ck.LogDensity(FEW["one_plate"]().bound).compile()
    assert isinstance(density.at_once(), NativeRows)
    z = rows_of(density)
    torch.testing.assert_close(density.value_and_grad(z), one_by_one(density, z), rtol=0, atol=0)


def test_no_rows_are_no_values():
    """At no vectors at all there are no values, in every form."""
    density = ck.LogDensity(FEW["one_plate"]().bound)
    z = torch.zeros(0, density.dim)
    for run in (density.value_and_grad, density.at_once(rows=3).run, density.compile().value_and_grad):
        values, gradients = run(z)
        assert values.shape == (0,)
        assert gradients.shape == (0, density.dim)


class Branching(ck.Module):
    """A simulator whose path depends on the value of a param."""

    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu if mu > 0 else 2 * mu, 1.0)


def test_what_branches_runs_row_by_row_and_says_so_once():
    """A density that branches on values runs at one vector after the other, with one warning for all calls."""
    density = ck.LogDensity(ck.PyroModel(Branching().data).bind(obs=torch.tensor([0.3, -0.2])))
    z = torch.tensor([[-0.7], [0.7]])
    with pytest.warns(ck.PerformanceWarning, match="one vector after the other, because it cannot be traced") as caught:
        together = density.value_and_grad(z)
    assert caught[0].filename == __file__
    torch.testing.assert_close(together, one_by_one(density, z))
    density.value_and_grad(z)  # warnings are errors


def test_a_program_that_cannot_be_mapped_says_why():
    """Where vmap has no rule for an operation, there is a reason in one line."""
    program = trace_program(lambda z: (z**2).sum() * torch.rand_like(z).sum(), torch.zeros(2))
    reason = map_disagreement(program, torch.ones(3, 2))
    assert "randomness" in reason
    assert "\n" not in reason


def test_a_chunk_of_no_rows_is_an_error():
    """A chunk size below one is an error, also where it is not needed."""
    density = ck.LogDensity(FEW["one_plate"]().bound)
    with pytest.raises(ck.SamplingError, match="chunk_size must be at least 1"):
        density.value_and_grad(torch.zeros(2, density.dim), chunk_size=0)


def test_looped_equals_its_function():
    """The loop over rows stacks what the function gives."""
    values, gradients = Looped(lambda row: (row.sum(), 2 * row)).run(torch.eye(3))
    torch.testing.assert_close(values, torch.ones(3))
    torch.testing.assert_close(gradients, 2 * torch.eye(3))
