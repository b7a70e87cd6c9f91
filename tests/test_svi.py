"""Compiled variational fits: the loss, the gradient and the fit are those of Pyro's SVI."""

import math
import os
import signal
import threading

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS
from pyro.infer import autoguide

import caskade_pyro as ck
from caskade_pyro.compiler import library as native
from caskade_pyro.density import Slot
from caskade_pyro.inference import svi_steps
from caskade_pyro.inference.flat_guide import make_flat_guide
from caskade_pyro.inference.guides import GUIDES, make_guide
from caskade_pyro.inference.svi_steps import CompiledElbo, pyros_elbo
from caskade_pyro.inference.weights import Weighed
from caskade_pyro.results.importance import Shift, largest_shift, pareto_khat, warn_of_shift

SIMPLE = [name for name, pair in PAIRS.items() if not pair().improper]
# Many fits here are cut short on purpose, to compare their first steps.
pytestmark = pytest.mark.filterwarnings("ignore:The fit has not arrived:caskade_pyro.ConvergenceWarning")

slowly = [name if name in ("one_plate", "crossed") else pytest.param(name, marks=pytest.mark.slow) for name in SIMPLE]


class Line(ck.Module):
    """A straight line with correlated params."""

    def __init__(self):
        super().__init__()
        self.offset = ck.Param("offset", prior=dist.Normal(0.0, 10.0))
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 10.0))

    @ck.forward
    def data(self, x, offset, slope):
        return dist.Normal(offset + slope * x, 0.5)


X = torch.linspace(0.0, 3.0, 12)
Y = 1.0 + 2.0 * X + 0.5 * torch.randn(12, generator=torch.Generator().manual_seed(1))


def line():
    return ck.PyroModel(Line().data).bind(X, obs=Y)


def guided(bound, guide):
    """A guide that has run, and the model that it is a guide of."""
    guided = make_guide(bound, guide, "auto")
    return guided.guide, guided.model


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("name", slowly)
def test_loss_and_gradient_are_pyros(name, guide):
    """At the same params and noise, the loss and its gradient are those that Pyro's own ELBO gives."""
    bound = PAIRS[name]().bound
    made, model = guided(bound, guide)
    elbo = CompiledElbo(make_flat_guide(made, ck.LogDensity(bound).flat), ck.LogDensity(bound))
    start = elbo.params.clone()
    for shift in (0.0, 0.05):
        elbo.guide.draw(elbo.noise)
        elbo.params.copy_(start + shift * torch.randn_like(start))
        elbo.guide.keep(elbo.params)
        loss, gradient = elbo.loss_and_gradient()
        expected, slope = elbo.guide.by_pyro(model, pyros_elbo(bound, 1), elbo.noise)
        assert math.isfinite(expected)
        assert loss == pytest.approx(expected, rel=1e-10)
        torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-10 * float(slope.abs().max()))


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("guide", GUIDES)
def test_the_same_seed_gives_pyros_losses(guide, particles):
    """For the same seed, each step has the loss that Pyro's SVI has, and the fitted guides are the same."""
    fits = [
        ck.fit(line(), guide, steps=60, seed=3, particles=particles, engine=engine, progress=False)
        for engine in ("compiled", "pyro")
    ]
    assert [one.engine for one in fits] == ["compiled", "pyro"]
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=1e-4)
    for name in ("offset", "slope"):
        ours, pyros = (one.guide.median()[name] for one in fits)
        torch.testing.assert_close(ours, pyros, rtol=1e-3, atol=1e-4)
    ours, pyros = (one.fitted.draw(3, 1)["slope"] for one in fits)
    np.testing.assert_allclose(ours, pyros, rtol=1e-3, atol=1e-3)


def test_a_model_with_discrete_sites_is_fitted_compiled():
    """Discrete sites are summed out by the density, as Pyro's enumerating ELBO does."""

    class Member(ck.Module):
        def __init__(self):
            super().__init__()
            self.outlier = ck.Param("outlier", shape=(), prior=dist.Bernoulli(0.2))

        @ck.forward
        def shift(self, outlier):
            return 5.0 * outlier

    class Mixed(ck.Module):
        def __init__(self):
            super().__init__()
            self.hierarchical_link("members", Member(), size=12)
            self.mu = ck.Param("mu", prior=dist.Normal(0.0, 3.0))

        @ck.forward
        def data(self, mu):
            return dist.Normal(mu + ck.vmap(self.members.shift)(), 0.5)

    bound = ck.PyroModel(Mixed().data, dims={"obs": ("members",)}).bind(obs=Y)
    fits = [ck.fit(bound, steps=30, seed=3, engine=engine, progress=False) for engine in ("auto", "pyro")]
    assert fits[0].engine == "compiled"
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=1e-4)


def test_double_precision_is_fitted_in_double_precision(float64):
    """With double precision as torch's default, losses agree to its digits."""
    bound = ck.PyroModel(Line().data).bind(X.double(), obs=Y.double())
    fits = [ck.fit(bound, steps=100, seed=3, engine=engine, progress=False) for engine in ("compiled", "pyro")]
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=1e-10)


def test_the_fitted_guide_is_a_pyro_guide():
    """After a compiled fit, the guide draws by itself, in Pyro's terms, and Pyro's param store is as it was."""
    before = dict(pyro.get_param_store().items())
    fitted = ck.fit(line(), steps=800, seed=3, engine="compiled", progress=False)
    assert dict(pyro.get_param_store().items()) == before
    assert isinstance(fitted.guide, autoguide.AutoNormal)
    median = fitted.guide.median()
    assert median["slope"].item() == pytest.approx(fitted.fitted.draw(2000, 1)["slope"].mean(), abs=0.05)
    drawn = [fitted.guide()["slope"].item() for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(median["slope"].item(), abs=0.1)


def test_fitting_leaves_the_generators_alone():
    """A compiled fit neither reads nor moves the global random state."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    ck.fit(line(), steps=5, seed=3, progress=False)
    torch.testing.assert_close(torch.rand(3), expected)


def test_a_normal_flow_is_compiled():
    """AutoGuides of other kinds are compiled where they draw from normal noise."""
    fits = [
        ck.fit(line(), autoguide.AutoIAFNormal, steps=20, seed=3, engine=engine, progress=False)
        for engine in ("compiled", "pyro")
    ]
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=1e-3)


# What is not compiled


def test_what_branches_on_a_value_is_fitted_by_pyro():
    """A simulator that looks at values is fitted by Pyro's SVI, with a warning, or an error where it must not be."""

    class Branching(Line):
        @ck.forward
        def data(self, x, offset, slope):
            return dist.Normal(offset + slope * x if slope > 0 else offset, 0.5)

    bound = ck.PyroModel(Branching().data).bind(X, obs=Y)
    with pytest.warns(ck.PerformanceWarning, match="not compiled, because the density runs eager") as caught:
        fitted = ck.fit(bound, steps=3, seed=3, progress=False)
    assert fitted.engine == "pyro"
    assert caught[0].filename == __file__
    with pytest.raises(ck.SamplingError, match="cannot be compiled"):
        ck.fit(bound, steps=3, seed=3, engine="compiled", progress=False)


def test_a_guide_by_hand_is_fitted_by_pyro():
    """A guide that is no AutoGuide is fitted by Pyro's SVI, with a warning."""

    def by_hand(_):
        def guide():
            loc = pyro.param("loc", torch.zeros(2))
            return {name: pyro.sample(name, dist.Normal(loc[i], 0.1)) for i, name in enumerate(("offset", "slope"))}

        return guide

    with pytest.warns(ck.PerformanceWarning, match="it is no AutoGuide") as caught:
        fitted = ck.fit(line(), by_hand, steps=300, seed=3, lr=0.1, progress=False)
    assert fitted.engine == "pyro"
    assert caught[0].filename == __file__
    assert fitted.losses[-50:].mean() < fitted.losses[:50].mean()


def test_subsampled_plates_are_fitted_silently():
    """Where the user sees members a few at a time, traced steps run without a word; asked to compile, it is an error."""
    name, pair = next((name, pair()) for name, pair in PAIRS.items() if pair().subsampled)
    bound = pair.bound
    few = bound.model.bind(*bound.args, **bound.kwargs, obs=bound.data["obs"], subsample_size={pair.subsampled[0]: 2})
    assert ck.fit(few, steps=3, seed=3, progress=False).engine == "traced", name
    with pytest.raises(ck.SamplingError, match="subsampled"):
        ck.fit(few, steps=3, seed=3, engine="compiled", progress=False)


def test_without_a_compiler_the_traced_density_is_fitted(monkeypatch, tmp_path):
    """Without a C++ compiler the fit runs on what was traced, with a warning."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_compiler", lambda: "no g++")
    with pytest.warns(ck.PerformanceWarning, match="runs traced"):
        traced = ck.fit(line(), steps=20, seed=3, progress=False)
    assert traced.engine == "traced"
    pyros = ck.fit(line(), steps=20, seed=3, engine="pyro", progress=False)
    np.testing.assert_allclose(traced.losses, pyros.losses, rtol=1e-4)


def test_a_compiled_form_that_differs_is_not_used(monkeypatch):
    """Where the compiled loss is another than Pyro's, Pyro's runs, with a warning."""
    monkeypatch.setattr(svi_steps, "close", lambda *_: False)
    with pytest.warns(ck.PerformanceWarning, match="differs from Pyro's own loss"):
        assert ck.fit(line(), steps=3, seed=3, progress=False).engine == "pyro"


def test_an_unknown_engine_is_named():
    """The engines that there are stand in the error."""
    with pytest.raises(ck.SamplingError, match="no engine 'jit'; choose 'auto', 'compiled', 'pyro'"):
        ck.fit(line(), engine="jit", progress=False)


@pytest.mark.parametrize("engine", ["compiled", "pyro"])
def test_a_support_that_moves_is_refused(engine):
    """Pyro's guides take the support of a site from their first run, so a site whose support depends on params is refused."""

    class Moving(ck.Module):
        def __init__(self):
            super().__init__()
            self.top = ck.Param("top", prior=dist.Gamma(5.0, 2.0))
            self.level = ck.Param("level", prior=ck.prior(dist.Uniform, 0.0, self.top))

        @ck.forward
        def data(self, level):
            return dist.Normal(level, 0.5)

    bound = ck.PyroModel(Moving().data).bind(obs=torch.tensor([1.0, 2.0]))
    with pytest.raises(ck.SamplingError, match="The support of level depends on other params"):
        ck.fit(bound, steps=3, engine=engine, progress=False)


@pytest.mark.parametrize("engine", ["compiled", "pyro"])
def test_an_interrupt_keeps_the_steps_taken(engine):
    """Ctrl-C in the middle of a fit gives the guide as it is by then."""
    main = os.getpid()
    threading.Timer(4.0, lambda: os.kill(main, signal.SIGINT)).start()
    fitted = ck.fit(line(), steps=10_000_000, seed=3, engine=engine, progress=False)
    assert not fitted.fitted.complete
    assert 0 < len(fitted.losses) < 10_000_000
    assert fitted.guide.median()["slope"].item() == pytest.approx(2.0, abs=1.5)


# How far to trust a fit


def test_khat_is_low_where_the_guide_is_the_posterior():
    """One joint normal for a normal posterior has a low k-hat."""
    fitted = ck.fit(line(), "full_rank", steps=1000, seed=3, lr=0.05, particles=2, progress=False)
    assert fitted.khat < 0.5
    assert fitted.sample(10).posterior.attrs["khat"] == fitted.khat


def test_a_fit_that_has_not_arrived_warns():
    """A guide of the right shape in the wrong place has a low k-hat; that weights move its mean gives it away."""
    early = ck.fit(line(), "full_rank", steps=600, seed=1, lr=0.01, progress=False)
    with pytest.warns(ck.ConvergenceWarning, match=r"draws of \w+ have a mean that is .* off\. Take more steps=|k-hat"):
        early.sample(10)
    later = ck.fit(line(), "full_rank", steps=4000, seed=1, lr=0.05, progress=False)
    assert later.khat < 0.5
    later.sample(10)  # without a warning, which would be an error


def test_the_shift_of_a_mean_is_that_of_the_weights():
    """Draws from a normal distribution weighed by one that is half a standard deviation off are seen to be off by that."""
    z = np.random.default_rng(1).normal(size=(4000, 3))
    moved = 0.5 * z[:, 1] - 0.125  # the log ratio of N(0.5, 1) to N(0, 1)
    slots = {"a": Slot(slice(0, 1), (1,)), "b_decentered": Slot(slice(1, 3), (2,))}
    shift = largest_shift(Weighed(z, moved, slots))
    assert shift.site == "b"
    assert shift.size == pytest.approx(0.5, abs=5 * shift.error)
    assert 0.01 < shift.error < 0.05
    with pytest.warns(
        ck.ConvergenceWarning, match=r"draws of b have a mean that is 0\.7 of their standard deviations off"
    ):
        warn_of_shift(Shift("b", 0.7, 0.05), 1)
    warn_of_shift(Shift("b", 0.7, 0.2), 1)


def test_khat_of_the_laplace_approximation_of_a_normal_posterior_is_low():
    """The Laplace approximation of a normal posterior is that posterior."""
    assert ck.fit(line(), "laplace", steps=1500, seed=3, lr=0.05, progress=False).khat < 0.5


def test_draws_of_a_bad_fit_are_warned_of():
    """A fit that has not converged has a high k-hat, and its draws come with a warning that names it."""
    fitted = ck.fit(line(), steps=20, seed=3, progress=False)
    assert fitted.khat > 0.7
    with pytest.warns(ck.ConvergenceWarning, match="Pareto k-hat of the fit is"):
        fitted.sample(10)


def test_khat_of_a_mode_is_not_a_number():
    """A guide without width has no k-hat, and no warning."""
    fitted = ck.fit(line(), "delta", steps=20, seed=3, progress=False)
    assert math.isnan(fitted.khat)
    fitted.sample(3)


def test_khat_is_the_shape_of_the_tail():
    """Ratios with a Pareto tail of a known shape have that k-hat; equal ones have none."""
    uniform = (np.arange(20_000) + 0.5) / 20_000
    assert pareto_khat(-0.9 * np.log(uniform)) == pytest.approx(0.9, abs=0.1)
    assert pareto_khat(-0.3 * np.log(uniform)) == pytest.approx(0.3, abs=0.1)
    assert pareto_khat(np.zeros(100)) == -math.inf
    assert pareto_khat(np.array([0.0, -math.inf])) == math.inf
