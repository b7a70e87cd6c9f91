"""Nothing that runs after sampling loses the draws; names under which they could not be kept are refused before."""

import warnings
from importlib import import_module

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.results import arviz as conversion
from caskade_pyro.results import keep

sampling = import_module("caskade_pyro.results.sample")  # the package has a function of this name

pytestmark = pytest.mark.usefixtures("float64")


class One(ck.Module):
    def __init__(self):
        super().__init__()
        self.a = ck.Param("a", shape=(), units="m")

    @ck.forward
    def own(self, a):
        return a


class Study(ck.Module):
    """Members in a plate of some name, and pointers of the root that a test gives."""

    def __init__(self, key="groups", size=3, **pointers):
        super().__init__()
        self.hierarchical_link(key, One(), size=size)
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        self.key = key
        self[key].a.prior = ck.prior(dist.Normal, self.mu, 1.0)
        for name, function in pointers.items():
            setattr(self, name, ck.Param(name, function, link=self.mu))

    @ck.forward
    def data(self):
        return dist.Normal(ck.vmap(self[self.key].own)(), 1.0)


def bind(module, dims=("groups",), observed=None):
    observed = torch.tensor([0.5, -0.5, 1.0]) if observed is None else observed
    return ck.PyroModel(module.data, dims={"obs": dims}).bind(obs=observed)


def sample(bound, **kwargs):
    """A short run, without its own warnings of short runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ck.ConvergenceWarning)
        return ck.sample(bound, draws=30, tune=30, chains=2, seed=1, cores=1, progress=False, **kwargs)


@pytest.fixture(scope="module")
def expected():
    """The draws that every run here makes."""
    torch.set_default_dtype(torch.float64)
    found = sample(bind(Study()))
    torch.set_default_dtype(torch.float32)
    return found


def same_draws(found, expected):
    for name in ("mu", "groups.a"):
        np.testing.assert_array_equal(found.posterior[name].values, expected.posterior[name].values)


def broken(*args, **kwargs):
    raise KeyError("not this time")


def test_pointers_that_branch_on_values_are_computed_one_by_one(expected):
    """A pointer that no vmap takes has its values all the same."""
    found = sample(bind(Study(sign=lambda p: torch.ones(()) if p.mu.value > 0 else -torch.ones(()))))
    same_draws(found, expected)
    np.testing.assert_array_equal(found.posterior["sign"], np.sign(found.posterior["mu"]))


def positive(p):
    if p.mu.value <= 0:
        raise OverflowError("too low")
    return p.mu.value.log()


def test_pointers_that_fail_for_some_draws_are_nan_there(expected):
    """The draws come back with a warning that names the pointer, and its values where it has some."""
    module = Study(mean=lambda p: p.mu.value + 1, log=positive)
    with pytest.warns(
        ck.IncompleteResultWarning, match=r"the values of log for \d+ of 60 draws.*OverflowError: too low"
    ) as seen:
        found = sample(bind(module))
    assert seen[0].filename == __file__
    same_draws(found, expected)
    mu = found.posterior["mu"].values
    np.testing.assert_allclose(found.posterior["mean"], mu + 1)
    assert (np.isnan(found.posterior["log"].values) == (mu <= 0)).all()
    np.testing.assert_allclose(found.posterior["log"].values[mu > 0], np.log(mu[mu > 0]))


def test_pointers_that_fail_for_all_draws_are_left_out(expected):
    """A pointer that worked when the model was bound and never again is named, and all else is there."""
    broken_now = []

    def late(p):
        if broken_now:
            raise ZeroDivisionError
        return p.mu.value

    bound = bind(Study(late=lambda p: 2 * late(p)))
    density = ck.LogDensity(bound)
    broken_now.append(True)
    attempts = keep.Attempts()
    found = keep.user_params(density, torch.zeros(4, density.dim), attempts)
    assert set(found) == {"mu", "groups.a"}
    assert attempts.missing == ["the values of late (ZeroDivisionError: )"]


@pytest.mark.parametrize(
    ("where", "name", "said"),
    [
        (sampling, "find_trouble", "diagnostics"),
        (keep, "set_attributes", "their attributes"),
        (sampling, "_attributes", "their attributes"),
        (conversion, "dimensions", "the names of dims and members, and the data"),
        (conversion, "_natural", "the names of dims and members, and the data"),
    ],
)
def test_what_fails_after_sampling_is_said_and_the_draws_are_returned(where, name, said, expected, monkeypatch):
    """Diagnostics, attributes and conversions that fail leave the draws, and a warning of what is missing."""
    monkeypatch.setattr(where, name, broken)
    with pytest.warns(ck.IncompleteResultWarning, match=rf"All draws are returned, but without {said} \(KeyError"):
        found = sample(bind(Study()))
    same_draws(found, expected)
    assert found.sample_stats["diverging"].shape == (2, 30)


def test_an_interrupt_after_sampling_keeps_the_draws(expected, monkeypatch):
    """Ctrl-C during the diagnostics ends these alone."""

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "find_trouble", interrupted)
    with pytest.warns(ck.IncompleteResultWarning, match="without diagnostics"):
        same_draws(sample(bind(Study())), expected)


def test_params_that_cannot_be_computed_leave_the_unconstrained_draws(monkeypatch):
    """At the very least what the sampler saw is returned."""
    monkeypatch.setattr(keep, "user_params", broken)
    with pytest.warns(ck.IncompleteResultWarning, match="without the params as the model has them"):
        found = sample(bind(Study()))
    assert found.posterior["unconstrained"].shape == (2, 30, 4)


def test_statistics_that_cannot_be_stored_leave_the_draws(expected):
    """If not even a plain conversion works, the draws alone are converted."""
    attempts = keep.Attempts()
    values = expected.posterior["mu"].values
    found = keep._plain({"posterior": {"chain": values}, "sample_stats": {"chain": values}}, attempts)
    np.testing.assert_array_equal(found.posterior["chain_value"], values)
    assert attempts.missing


def test_the_version_is_that_of_the_package_itself(expected, monkeypatch):
    """Attributes name the version of the code that ran, whatever is installed."""
    assert expected.posterior.attrs["inference_library_version"] == ck.__version__
    monkeypatch.setattr(ck, "__version__", "7.7.7")
    found = ck.prior_predictive(bind(Study()), draws=2, seed=1, progress=False)
    assert found.prior.attrs["inference_library_version"] == "7.7.7"


# Predictions of simulators that fail


class Fragile(Study):
    @ck.forward
    def data(self):
        values = ck.vmap(self.groups.own)()
        if values.detach()[0] > 2.5:
            raise LookupError("off the grid")
        return dist.Normal(values, 1.0)


def posterior(first):
    values = np.zeros((2, 5, 3))
    values[..., 0] = first
    return az.from_dict({"mu": np.zeros((2, 5)), "groups.a": values})


def test_a_simulator_that_fails_for_one_draw_is_predicted_for_the_others():
    """Predictions and log likelihoods of a draw for which the simulator fails are NaN, and a warning says which."""
    bound = bind(Fragile())
    draws = posterior(np.array([[0, 0, 0, 0, 0], [0, 0, 3, 0, 0]]))
    message = r"fails for 1 of 10 draws, the first at place 7 .*LookupError: off the grid"
    with pytest.warns(ck.IncompleteResultWarning, match=message) as seen:
        found = ck.predict(bound, draws, seed=1, progress=False).posterior_predictive["obs"].values
    assert seen[0].filename == __file__
    bad = np.zeros((2, 5), dtype=bool)
    bad[1, 2] = True
    assert (np.isnan(found).all(-1) == bad).all()
    assert (np.isnan(found).any(-1) == bad).all()
    with pytest.warns(ck.IncompleteResultWarning, match=message) as seen:
        found = ck.log_likelihood(bound, draws, progress=False).log_likelihood["obs"].values
    assert seen[0].filename == __file__
    assert (np.isnan(found).all(-1) == bad).all()
    expected = dist.Normal(0.0, 1.0).log_prob(bound.data["obs"]).numpy()
    np.testing.assert_allclose(found[0], np.broadcast_to(expected, (5, 3)))


def test_a_simulator_that_fails_for_some_params_of_the_prior():
    """The params of all draws are there, and predictions where the simulator has some."""
    with pytest.warns(ck.IncompleteResultWarning, match="what is predicted is NaN there"):
        found = ck.prior_predictive(bind(Fragile()), draws=80, seed=1, progress=False)
    first = found.prior["groups.a"].values[..., 0]
    assert np.isfinite(found.prior["groups.a"]).all()
    assert (first > 2.5).any()
    assert (np.isnan(found.prior_predictive["obs"].values).all(-1) == (first > 2.5)).all()


def test_a_simulator_that_fails_for_all_draws_raises_what_it_raises():
    """Where there is nothing to return, the simulator's own error is raised."""
    with pytest.raises(LookupError, match="off the grid"):
        ck.predict(bind(Fragile()), posterior(3.0), seed=1, progress=False)
    with pytest.raises(LookupError, match="off the grid"):
        ck.log_likelihood(bind(Fragile()), posterior(3.0), progress=False)


# Names


@pytest.mark.parametrize("name", ["chain", "draw", "sample"])
def test_names_of_the_dims_of_draws_are_refused(name):
    """Plates, dims of data, params, pointers and observations cannot have the names of dims of draws."""
    with pytest.raises(ck.PlateError, match=rf"'{name}' of plate {name} is taken.*hierarchical_link"):
        bind(Study(name), (name,))
    with pytest.raises(ck.PlateError, match=f"'{name}' of plate {name}"):
        bind(Study(name), ())
    with pytest.raises(ck.ObservationError, match=f"'{name}' of a dim of the observation 'obs' is taken.*dims="):
        bind(Study(), (name, "groups"), torch.zeros(4, 3))
    with pytest.raises(ck.ModelError, match=f"'{name}' of param {name} is taken"):
        bind(Study(**{name: lambda p: 2 * p.mu.value}))

    class Named(Study):
        @ck.forward
        def data(self):
            return {name: super().data()}

    with pytest.raises(ck.ModelError, match=f"'{name}' of the observation '{name}' is taken"):
        ck.PyroModel(Named().data).bind()


@pytest.mark.parametrize("kind", ["site", "factor", "plate"])
def test_names_of_the_simulators_own_sites(kind):
    """Sites, factors and plates that the simulator opens itself are held against the names of dims as well."""

    class Own(Study):
        @ck.forward
        def data(self):
            if kind == "site":
                pyro.sample("draw", dist.Normal(0.0, 1.0))
            elif kind == "factor":
                pyro.factor("draw", torch.zeros(()))
            else:
                with pyro.plate("draw", 2):
                    pyro.sample("jitter", dist.Normal(0.0, 1.0))
            return super().data()

    with pytest.raises(ck.CaskadeException, match=r"'draw' of (site 'draw'|plate draw) of the simulator"):
        bind(Own())


@pytest.mark.parametrize("taken", ["mu", "twice", "obs", "jitter", "weight", "twice_dim_0", "obs_observed"])
def test_dims_of_data_cannot_be_named_like_what_is_drawn(taken):
    """A dim of data has another name than params, pointers, observations, sites and factors, and dims that are made up."""

    class Own(Study):
        @ck.forward
        def data(self):
            pyro.sample("jitter", dist.Normal(0.0, 1.0))
            pyro.factor("weight", torch.zeros(()))
            return super().data()

    module = Own(twice=lambda p: p.mu.value * torch.ones(2))
    with pytest.raises(ck.ObservationError, match=f"'{taken}' of a dim of the observation 'obs' is taken"):
        bind(module, (taken, "groups"), torch.zeros(4, 3))


def test_replicates_of_a_model_with_such_a_name():
    """The name of a module that is replicated as a whole is that of a plate."""

    class Mean(ck.Module):
        def __init__(self, name):
            super().__init__(name)
            self.x = ck.Param("x", shape=(), batch_shape=(2,), prior=dist.Normal(0.0, 1.0), dynamic=True)

        @ck.forward
        def data(self, x):
            return dist.Normal(x, 1.0)

    with pytest.raises(
        ck.PlateError, match=r"'chain' of plate chain is taken.*replicates.*give the module another name"
    ):
        ck.PyroModel(Mean("chain").data).bind(obs=torch.zeros(2))
