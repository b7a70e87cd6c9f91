"""Sampling, fitting, predicting and writing back, on models whose answers are known."""

import os
import signal
import threading
import warnings

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS, Galaxy, Survey, axes, data
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

import caskade_pyro as ck

# Runs too short to be trusted are meant to be short here; what they warn of is tested on its own.
short_runs = pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")


class Mean(ck.Module):
    """A normal mean with a normal prior, whose posterior is known."""

    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(1.0, 2.0), units="mag", description="brightness")

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu, 0.5)


OBSERVED = torch.tensor([2.1, 1.7, 2.6, 2.2])


def exact():
    """Mean and standard deviation of the posterior of `Mean`."""
    precision = 1 / 2.0**2 + len(OBSERVED) / 0.5**2
    return (1.0 / 2.0**2 + OBSERVED.sum().item() / 0.5**2) / precision, precision**-0.5


def bound_mean():
    return ck.PyroModel(Mean().data).bind(obs=OBSERVED)


def test_sampling_recovers_a_conjugate_posterior():
    """NUTS gives the mean and standard deviation that the conjugate formula gives, within Monte Carlo error."""
    posterior = ck.sample(bound_mean(), draws=1000, tune=300, chains=2, seed=3, progress=False)
    mean, sd = exact()
    draws = posterior.posterior["mu"]
    assert abs(draws.mean().item() - mean) < 4.5 * az.mcse(posterior)["mu"].item()
    assert draws.std().item() == pytest.approx(sd, rel=0.1)
    assert draws.attrs["units"] == "mag"
    assert draws.attrs["description"] == "brightness"
    np.testing.assert_array_equal(posterior.observed_data["obs"], OBSERVED)


@pytest.mark.parametrize("guide", ["normal", "full_rank", "laplace"])
def test_fitting_recovers_a_conjugate_posterior(guide):
    """A normal guide of a normal posterior finds its mean and standard deviation."""
    fitted = ck.fit(bound_mean(), guide=guide, steps=1500, seed=3, progress=False)
    draws = fitted.sample(draws=4000, seed=4).posterior["mu"]
    mean, sd = exact()
    assert draws.mean().item() == pytest.approx(mean, abs=0.05)
    assert draws.std().item() == pytest.approx(sd, rel=0.15)
    assert fitted.losses[-100:].mean() < fitted.losses[:10].mean()


@short_runs
def test_same_seed_same_draws_for_any_number_of_processes():
    """The draws depend on the seed alone: not on the processes, nor on what ran before."""
    torch.ones(3, requires_grad=True).sum().backward()  # the parent's autograd has run before it forks
    runs = [
        ck.sample(bound_mean(), draws=20, tune=20, chains=3, seed=5, cores=cores, progress=False) for cores in (1, 2, 3)
    ]
    other = ck.sample(bound_mean(), draws=20, tune=20, chains=3, seed=6, cores=1, progress=False)
    for run in runs[1:]:
        np.testing.assert_array_equal(run.posterior["mu"], runs[0].posterior["mu"])
    assert not np.array_equal(other.posterior["mu"], runs[0].posterior["mu"])
    assert len({float(chain[0]) for chain in runs[0].posterior["mu"].values}) == 3


@short_runs
def test_sampling_leaves_the_generators_alone():
    """Sampling in this process neither reads nor moves the global random state."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    ck.sample(bound_mean(), draws=3, tune=3, chains=1, seed=5, progress=False)
    torch.testing.assert_close(torch.rand(3), expected)


@short_runs
@pytest.mark.parametrize("name", PAIRS)
def test_dims_of_the_output_are_the_plates(name):
    """Variables are sites, dims are plates with their sizes, and coordinates count their members."""
    bound = PAIRS[name]().bound
    posterior = ck.sample(bound, draws=4, tune=4, chains=2, seed=1, cores=1, progress=False)
    for site in bound.describe().sites:
        group = posterior.observed_data if site.likelihood else posterior.posterior
        dims = group[site.name].dims[0 if site.likelihood else 2 :]
        assert dims[: len(site.plates)] == site.plates
        assert group[site.name].shape[-len(site.shape) :] == site.shape or not site.shape
    for plate in bound.describe().plates:
        if plate.name in posterior.posterior.sizes:
            assert posterior.posterior.sizes[plate.name] == plate.size


@short_runs
def test_names_of_members_become_coordinates():
    """Names given to the members of a plate are coordinates of the draws."""
    galaxy = Galaxy()
    survey = Survey(galaxy, 2)
    survey.unlink("galaxies")
    survey.hierarchical_link("galaxies", galaxy, members=["M31", "M33"])
    X, Y = axes()
    bound = ck.PyroModel(survey.stamps, dims={"obs": ("galaxies",)}).bind(X, Y, obs=data(2, 7, 7))
    posterior = ck.sample(bound, draws=3, tune=3, chains=1, seed=1, progress=False)
    assert posterior.posterior["galaxies.log_I0"].sel(galaxies="M33").shape == (1, 3)


@short_runs
def test_values_go_back_into_the_graph():
    """A point of the posterior, written back, is what the graph computes with afterwards."""
    bound = PAIRS["one_plate"]().bound
    survey = bound.model.module
    posterior = ck.sample(bound, draws=5, tune=5, chains=2, seed=1, cores=1, progress=False)
    survey.set_values(ck.point(posterior, survey))
    np.testing.assert_allclose(
        survey.galaxies.x0.value.numpy(), posterior.posterior["galaxies.x0"].mean(("chain", "draw")), rtol=1e-5
    )
    survey.set_values(ck.point(posterior, survey, stat=7))
    assert survey.mean.value.item() == pytest.approx(posterior.posterior["mean"].values[1, 2])


@short_runs
@pytest.mark.filterwarnings("ignore:Single precision:caskade_pyro.PrecisionWarning")  # noise of 1e-4 is hardly any
def test_predictions_follow_the_draws():
    """Posterior predictions scatter around the simulator's prediction for each draw, in the shape of the data."""
    X, Y = axes()
    survey = Survey(Galaxy(), 4)
    survey.noise.to_static(1e-4)
    bound = ck.PyroModel(survey.stamps, dims={"obs": ("galaxies",)}).bind(X, Y, obs=data(4, 7, 7))
    posterior = ck.sample(bound, draws=6, tune=2, chains=2, seed=1, cores=1, progress=False)
    predicted = ck.predict(bound, posterior, draws=3, seed=2, progress=False).posterior_predictive["obs"]
    assert predicted.dims == ("chain", "draw", "galaxies", "obs_dim_1", "obs_dim_2")
    for draw, column in ((0, 0), (5, 2)):
        survey.set_values(ck.point(posterior, survey, stat=6 + draw))
        image = survey.stamps(X, Y, survey.get_values()).mean
        np.testing.assert_allclose(predicted.values[1, column], image, atol=1e-3)


@pytest.mark.parametrize("name", PAIRS)
def test_prior_predictions_have_the_shape_of_draws(name):
    """Prior predictions exist for every model, with the shapes of latent draws and of the data."""
    bound = PAIRS[name]().bound
    found = ck.prior_predictive(bound, draws=3, seed=1, progress=False)
    for observation, values in bound.data.items():
        assert found.prior_predictive[observation].shape == (1, 3, *values.shape)
    for site in bound.plan.sites:
        assert found.prior[site.name].shape == (1, 3, *site.draw_shape)


def test_trouble_is_reported():
    """Too few draws, and chains that disagree, come with a warning that says so."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ck.sample(bound_mean(), draws=30, tune=30, chains=2, seed=1, cores=1, progress=False)
    assert any("effective sample size is down to" in str(one.message) for one in caught)


def test_an_interrupt_keeps_the_draws_made_so_far():
    """Ctrl-C in the middle of sampling returns what all chains have drawn, with a warning."""
    main = os.getpid()
    threading.Timer(4.0, lambda: os.kill(main, signal.SIGINT)).start()
    with pytest.warns(ck.ConvergenceWarning, match="Interrupted"):
        posterior = ck.sample(bound_mean(), draws=1_000_000, tune=20, chains=2, seed=1, cores=2, progress=False)
    assert 0 < posterior.posterior.sizes["draw"] < 1_000_000


def test_a_failing_chain_names_the_error():
    """A simulator that raises during sampling gives an error of ours that shows its traceback."""
    parent = os.getpid()

    class Broken(Mean):
        @ck.forward
        def data(self, mu):
            if mu > -1e9 and os.getpid() != parent:  # looking at the value keeps the simulator from being traced
                raise FloatingPointError("the integrator gave up")
            return dist.Normal(mu, 0.5)

    bound = ck.PyroModel(Broken().data).bind(obs=OBSERVED)
    eager = pytest.warns(
        ck.PerformanceWarning, match="The density runs eager instead of compiled, because it cannot be"
    )
    with eager, pytest.raises(ck.SamplingError, match="the integrator gave up"):
        ck.sample(bound, draws=100, tune=100, chains=2, seed=1, cores=2, progress=False)


# Pyro's own algorithms


def test_pyros_own_algorithms_take_the_model():
    """NUTS, SVI, Predictive and trace of Pyro run on a bound model as on any other."""
    bound = PAIRS["one_plate"]().bound
    chain = MCMC(NUTS(bound), num_samples=3, warmup_steps=3, disable_progbar=True)
    chain.run()
    assert chain.get_samples()["galaxies.x0"].shape == (3, 4, 2)
    guide = AutoNormal(bound)
    svi = SVI(bound, guide, Adam({"lr": 0.01}), Trace_ELBO())
    assert np.isfinite([svi.step() for _ in range(3)]).all()
    drawn = Predictive(bound.predictive, guide=guide, num_samples=5)()
    assert drawn["obs"].shape == (5, 4, 7, 7)
    assert poutine.trace(bound).get_trace().nodes["obs"]["is_observed"]


def test_the_unbound_model_takes_inputs_and_data():
    """A model called with inputs and data is the bound model."""
    X, Y = axes()
    model = ck.PyroModel(Survey(Galaxy(), 4).stamps, dims={"obs": ("galaxies",)})
    stamps = data(4, 7, 7)
    pyro.set_rng_seed(1)
    free = poutine.trace(model).get_trace(X, Y, obs=stamps).log_prob_sum()
    pyro.set_rng_seed(1)
    bound = poutine.trace(model.bind(X, Y, obs=stamps)).get_trace().log_prob_sum()
    torch.testing.assert_close(free, bound)
    assert poutine.trace(model).get_trace(X, Y).nodes["obs"]["value"].shape == (4, 7, 7)


# Non-centring


def test_noncentring_is_decided_from_the_graph():
    """Location-scale priors with hyperparameters in a plate are non-centred, unless the param or the caller objects."""
    bound = PAIRS["one_plate"]().bound
    assert [d.site for d in bound.decisions().values() if d.noncentered] == ["galaxies.log_sigma"]
    assert not any(decision.noncentered for decision in bound.decisions(False).values())
    bound.model.module.galaxies.log_sigma.centered = True
    assert not bound.decisions()["galaxies.log_sigma"].noncentered
    with pytest.raises(ck.ModelError, match=r"galaxies.x0 cannot be non-centred: its prior has no hyperparameters"):
        bound.decisions(["galaxies.x0"])


def test_noncentred_draws_are_in_the_users_params():
    """The reparametrised model's site is the offset; draws of it come back as location + scale * offset."""
    bound = PAIRS["one_plate"]().bound
    trace = poutine.trace(bound.noncentered()).get_trace()
    assert "galaxies.log_sigma_decentered" in trace.nodes
    draws = {
        name: torch.stack([trace.nodes[name]["value"]] * 2)
        for name in trace.stochastic_nodes
        if name not in ("galaxies", "obs")
    }
    from caskade_pyro.density.constrain import to_user_params

    back = to_user_params(bound, draws, "offsets")
    expected = (
        trace.nodes["mean"]["value"] + trace.nodes["scatter"]["value"] * draws["galaxies.log_sigma_decentered"][0]
    )
    torch.testing.assert_close(back["galaxies.log_sigma"][1], expected)
    assert back["galaxies.x0"].shape == (2, 4, 2)
