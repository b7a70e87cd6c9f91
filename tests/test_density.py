"""The log density over a flat vector: its forms agree with each other and with the model written by hand in Pyro."""

import pickle

import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS, Galaxy, Survey, axes, data
from pyro import poutine
from pyro.distributions.transforms import biject_to

import caskade_pyro as ck
from caskade_pyro.compiler import cpp as scalar_code
from caskade_pyro.compiler import library as native
from caskade_pyro.compiler.cpp import loops_are_fast
from caskade_pyro.density import starts

few_compiled = pytest.mark.parametrize(
    "name", [name if name in ("one_plate", "crossed") else pytest.param(name, marks=pytest.mark.slow) for name in PAIRS]
)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One cache for all tests of this process, empty at first."""
    return tmp_path_factory.mktemp("densities")


@pytest.fixture(autouse=True)
def _use_cache(cache, monkeypatch):
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(cache))


def by_hand(pair, density, z):
    """The hand-written model's log density at a vector of the bridged one's, with the Jacobians."""
    nodes = poutine.trace(pair.by_hand).get_trace().nodes
    transforms = {name: biject_to(nodes[name]["fn"].support) for name in density.names}
    points = {name: slot.of(z) for name, slot in density.slices.items()}
    values = {name: transforms[name](point) for name, point in points.items()}
    expected = poutine.trace(poutine.condition(pair.by_hand, data=values)).get_trace().log_prob_sum()
    return expected + sum(transforms[n].log_abs_det_jacobian(points[n], values[n]).sum() for n in density.names)


def agree(pair, density):
    """Value and gradient are those of the hand-written model at random points."""
    for _ in range(4):
        z = 0.5 * torch.randn(density.dim, requires_grad=True)
        expected = by_hand(pair, density, z)
        (slope,) = torch.autograd.grad(expected, z)
        value, gradient = density.value_and_grad(z.detach())
        torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PAIRS)
def test_traced_density_is_that_of_the_hand_written_model(name):
    """At random points value and gradient of the traced density are those of the hand-written model."""
    pair = PAIRS[name]()
    density = ck.LogDensity(pair.bound, noncentered=False)
    assert (density.form, density.eager_because) == ("traced", None)
    agree(pair, density)


@pytest.mark.usefixtures("float64")
@few_compiled
def test_density_compiled_by_inductor_is_that_of_the_hand_written_model(name, monkeypatch, tmp_path):
    """At random points value and gradient, in kernels by Inductor, are those of the hand-written model."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    monkeypatch.setattr(scalar_code, "MOST_INPUTS", 0)
    monkeypatch.setattr(native, "loops_are_fast", lambda: False)
    pair = PAIRS[name]()
    density = ck.LogDensity(pair.bound, noncentered=False).compile()
    assert (density.form, density.eager_because) == ("compiled", None)
    assert density.native is not None
    agree(pair, density)


@pytest.mark.skipif(not loops_are_fast(), reason="Inductor writes the loops on this machine")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PAIRS)
def test_density_in_loops_is_that_of_the_hand_written_model(name, monkeypatch, tmp_path):
    """At random points value and gradient, in loops of our own, are those of the hand-written model."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    monkeypatch.setattr(scalar_code, "MOST_INPUTS", 0)
    monkeypatch.setattr(native, "lower", lambda program: pytest.fail("Inductor wrote the loops"))
    pair = PAIRS[name]()
    density = ck.LogDensity(pair.bound, noncentered=False).compile()
    assert (density.form, density.eager_because) == ("compiled", None)
    agree(pair, density)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PAIRS)
def test_density_written_out_is_that_of_the_hand_written_model(name, monkeypatch, tmp_path):
    """At random points value and gradient, written out in scalars, are those of the hand-written model."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    pair = PAIRS[name]()
    density = ck.LogDensity(pair.bound, noncentered=False).compile()
    assert (density.form, density.eager_because) == ("compiled", None)
    agree(pair, density)


@pytest.mark.parametrize("name", PAIRS)
def test_a_vector_and_the_params_are_two_names_of_one_point(name):
    """Constrained and unconstrained again, a vector is the same, alone and in a row of vectors, offsets included."""
    bound = PAIRS[name]().bound
    density = ck.LogDensity(bound)
    rows = 0.5 * torch.randn(3, density.dim)
    params = density.constrain(rows)
    assert {key: tuple(value.shape) for key, value in params.items()} == {
        one.name: (3, *one.draw_shape) for one in bound.plan.in_plates if not getattr(one, "from_simulator", False)
    }
    for row, z in enumerate(rows):
        point = {key: value[row] for key, value in params.items()}
        torch.testing.assert_close(density.constrain(z), point)
        sites = {site.name: point[site.name] for site in bound.plan.sites}
        torch.testing.assert_close(density.unconstrain(sites), z, rtol=1e-4, atol=1e-4)


def test_slices_cover_the_vector():
    """Every entry of the vector belongs to one site, in the order of the names."""
    density = ck.LogDensity(PAIRS["one_plate"]().bound)
    assert density.names == (
        "mean",
        "scatter",
        "noise",
        "galaxies.x0",
        "galaxies.log_sigma_decentered",
        "galaxies.log_I0",
    )
    covered = [index for name in density.names for index in range(density.dim)[density.slices[name].slice]]
    assert covered == list(range(density.dim))
    assert density.slices["galaxies.x0"].shape == (4, 2)


def test_starting_points_depend_on_the_seed_alone():
    """The same seed gives the same point, another seed another one, and no global generator moves."""
    density = ck.LogDensity(PAIRS["one_plate"]().bound)
    before = torch.get_rng_state()
    first, again, other = density.initial(3), density.initial(3), density.initial(4)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    assert torch.isfinite(density.value(torch.stack([first, other]))).all()


def test_values_that_do_not_fit_are_named():
    """Unknown sites, missing sites, wrong shapes and values outside of the support are errors that name them."""
    density = ck.LogDensity(PAIRS["one_plate"]().bound)
    params = density.constrain(torch.zeros(density.dim))
    with pytest.raises(ck.SamplingError, match=r"no site galaxies\.x1"):
        density.unconstrain({**params, "galaxies.x1": 0.0})
    with pytest.raises(ck.SamplingError, match="No values are given for noise"):
        density.unconstrain({name: value for name, value in params.items() if name != "noise"})
    with pytest.raises(ck.SamplingError, match=r"shape \(4, 2\) for galaxies\.x0; got \(2,\)"):
        density.unconstrain({**params, "galaxies.x0": torch.zeros(2)})
    with pytest.raises(ck.SamplingError, match="noise lies outside"):
        density.unconstrain({**params, "noise": torch.tensor(-1.0)})
    with pytest.raises(ck.SamplingError, match=r"vector of shape \(19,\)"):
        density.value(torch.zeros(3))


class Bounded(ck.Module):
    """A uniform prior whose upper end is another param."""

    def __init__(self):
        super().__init__()
        self.top = ck.Param("top", prior=dist.LogNormal(0.0, 1.0))
        self.x = ck.Param("x", prior=ck.prior(dist.Uniform, 0.0, self.top))

    @ck.forward
    def data(self, x):
        return dist.Normal(x, 1.0)


def test_a_support_that_depends_on_params_is_followed():
    """The transform of a site goes with its prior's support, and the density is the one over that support."""
    density = ck.LogDensity(ck.PyroModel(Bounded().data).bind(obs=torch.tensor(0.4)))
    for z in (torch.tensor([1.0, 0.3]), torch.tensor([-2.0, 2.0])):
        top = z[0].exp()
        x = top * z[1].sigmoid()
        torch.testing.assert_close(density.constrain(z), {"top": top, "x": x})
        jacobian = z[0] + top.log() + z[1].sigmoid().log() + (1 - z[1].sigmoid()).log()
        expected = dist.LogNormal(0.0, 1.0).log_prob(top) - top.log() + dist.Normal(x, 1.0).log_prob(torch.tensor(0.4))
        torch.testing.assert_close(density.value(z), expected + jacobian)


# What cannot be traced


class Branching(ck.Module):
    """A simulator whose path depends on the value of a param."""

    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu if mu > 0 else 2 * mu, 1.0)


def test_what_branches_on_a_value_runs_eagerly():
    """A simulator with data-dependent control flow is not traced; the reason is kept, and the density is right."""
    bound = ck.PyroModel(Branching().data).bind(obs=torch.tensor([0.3, -0.2]))
    density = ck.LogDensity(bound).compile()
    assert density.form == "eager"
    assert "cannot be traced" in density.eager_because
    assert "\n" not in density.eager_because
    for mu in (-0.7, 0.7):
        expected = poutine.trace(poutine.condition(bound, data={"mu": torch.tensor(mu)})).get_trace().log_prob_sum()
        torch.testing.assert_close(density.value(torch.tensor([mu])), expected)


def test_a_simulator_with_a_memory_is_not_traced():
    """A density that changes from call to call is refused, since the trace would freeze it."""
    calls = []

    class Forgetful(Branching):
        @ck.forward
        def data(self, mu):
            calls.append(1)
            return dist.Normal(mu + len(calls), 1.0)

    with pytest.raises(ck.ModelError, match="keeps state between calls"):
        ck.PyroModel(Forgetful().data).bind(obs=torch.tensor([0.3, -0.2]))


class Variance(ck.Module):
    """Data whose variance has a prior that is hardly proper."""

    def __init__(self, spread=1e-3):
        super().__init__()
        self.variance = ck.Param("variance", prior=dist.InverseGamma(spread, spread))

    @ck.forward
    def data(self, variance):
        return dist.Normal(0.0, variance.sqrt())


def test_another_start_is_tried_where_draws_from_the_priors_overflow(monkeypatch):
    """Where no median of draws has a finite density, the next way to start is tried; where none has, that is said."""
    with monkeypatch.context() as without_medians:
        without_medians.setattr(starts, "TRIES_NEAR_MEDIANS", 0)
        density = ck.LogDensity(ck.PyroModel(Variance().data).bind(obs=torch.tensor([0.3, -0.2])))
        assert torch.isfinite(density.value(density.initial(1)))

    class Impossible(Variance):
        @ck.forward
        def data(self, variance):
            return dist.Uniform(-0.1, 0.1 * torch.sigmoid(variance))

    bound = ck.PyroModel(Impossible().data).bind(obs=torch.tensor([0.3, -0.2]))
    with pytest.raises(ck.SamplingError, match="No starting point has a finite"):
        ck.LogDensity(bound)


# Compiling


def survey(stamps):
    """The design document's survey, bound to stamps."""
    X, Y = axes()
    return ck.PyroModel(Survey(Galaxy(), 4).stamps, dims={"obs": ("galaxies",)}).bind(X, Y, obs=stamps)


def test_other_data_of_the_same_shapes_share_the_compiled_code(cache, monkeypatch):
    """Compiled for one data set, a model bound to another runs from the cache, without lowering, and with its own data."""
    first = ck.LogDensity(survey(data(4, 7, 7))).compile()
    made = sorted(cache.iterdir())
    monkeypatch.setattr(native, "_make", lambda program, folder: pytest.fail("it was made again"))
    second = ck.LogDensity(survey(3 * data(4, 7, 7) + 1)).compile()
    assert sorted(cache.iterdir()) == made
    assert first.form == second.form == "compiled"
    z = 0.3 * torch.randn(first.dim)
    torch.testing.assert_close(second.value_and_grad(z), second._eager(z), rtol=1e-4, atol=1e-2)
    assert not torch.allclose(first.value(z), second.value(z))


def test_a_density_survives_pickling():
    """Unpickled, a density is in the same form and has the same values."""
    density = ck.LogDensity(PAIRS["crossed"]().bound)
    again = pickle.loads(pickle.dumps(density))
    z = torch.randn(density.dim)
    torch.testing.assert_close(again.value_and_grad(z), density.value_and_grad(z))
    assert again.form == density.form


def test_without_a_compiler_the_traced_density_runs(monkeypatch):
    """A machine without a C++ compiler gets the traced density, and a line that says why."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    native._compiler.cache_clear()
    try:
        density = ck.LogDensity(PAIRS["shared_param"]().bound).compile()
    finally:
        native._compiler.cache_clear()
    assert density.form == "traced"
    assert density.eager_because == (
        "it cannot be compiled: there is no C++ compiler (no-such-compiler) on this machine"
    )


class Correlated(ck.Module):
    """A covariance that depends on a param."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.length = ck.Param("length", prior=dist.LogNormal(0.0, 0.5))

    @ck.forward
    def data(self, length):
        t = torch.linspace(0, 1, self.size)
        covariance = torch.exp(-((t[:, None] - t) ** 2) / length**2) + 0.1 * torch.eye(self.size)
        return dist.MultivariateNormal(torch.zeros(self.size), covariance)


def test_small_matrices_are_written_out():
    """The density of a small covariance is compiled, its factorisation too, and equals that of the model."""
    density = ck.LogDensity(ck.PyroModel(Correlated(5).data).bind(obs=data(5))).compile()
    z = torch.tensor([0.3])
    torch.testing.assert_close(density.value_and_grad(z), density._eager(z), rtol=1e-4, atol=1e-4)
    assert density.native is not None


@pytest.mark.slow
def test_what_needs_more_than_kernels_runs_all_the_same():
    """A density with a large matrix factorisation equals that of the model, in whatever form it runs."""
    density = ck.LogDensity(ck.PyroModel(Correlated(12).data).bind(obs=data(12))).compile()
    z = torch.tensor([0.3])
    torch.testing.assert_close(density.value_and_grad(z), density._eager(z), rtol=1e-4, atol=1e-4)
    assert density.native is None
