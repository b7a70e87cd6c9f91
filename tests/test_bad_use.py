"""Data and draws that do not fit a model, and algorithms that cannot take it: errors that say why, graphs unchanged."""

import math

import arviz as az
import pyro.distributions as dist
import pytest
import torch
from bridged import axes
from test_bad_models import bind, survey

import caskade_pyro as ck

# Data


class Composition(ck.Module):
    def __init__(self):
        super().__init__()
        self.shares = ck.Param("shares", shape=(3,), prior=dist.Gamma(2.0, 1.0))

    @ck.forward
    def observed(self, shares):
        return dist.Dirichlet(shares)


def test_holes_in_what_has_no_marginal_density(unchanged):
    """Single missing components of a distribution without known marginals are refused, whole observations are not."""
    composition = unchanged(Composition())
    observed = torch.full((4, 3), 1 / 3)
    observed[0] = math.nan
    ck.PyroModel(composition.observed).bind(obs=observed)
    observed[1, 2] = math.nan
    with pytest.raises(ck.ObservationError, match=r"A Dirichlet of event shape \(3,\) has no density.*all components"):
        ck.PyroModel(composition.observed).bind(obs=observed)


@pytest.mark.parametrize("observed", ["loud", {"obs": object()}, {"obs": [[1.0], [1.0, 2.0]]}])
def test_data_that_are_no_numbers(unchanged, observed):
    """Text, objects and ragged lists are no data."""
    with pytest.raises(ck.ObservationError, match="data of 'obs' are no array or tensor"):
        bind(unchanged(survey()), observed)


def test_log_likelihood_without_data(unchanged):
    """Without data there is no likelihood."""
    bound = ck.PyroModel(unchanged(survey()).stamps).bind(*axes())
    with pytest.raises(
        ck.ObservationError, match=r"has no data, so there is no likelihood: bind\(\.\.\., obs=\.\.\.\)"
    ):
        ck.log_likelihood(bound, drawn(bound), progress=False)


# Models


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sample", lambda given: ck.sample(given, progress=False)),
        ("fit", lambda given: ck.fit(given, progress=False)),
        ("prior_predictive", lambda given: ck.prior_predictive(given, progress=False)),
        ("predict", lambda given: ck.predict(given, az.InferenceData(), progress=False)),
        ("log_likelihood", lambda given: ck.log_likelihood(given, az.InferenceData(), progress=False)),
        ("calibrate", lambda given: ck.calibrate(given, progress=False)),
        ("LogDensity", ck.LogDensity),
    ],
)
def test_a_model_without_its_inputs_and_data(unchanged, name, call):
    """A model that was not bound, and a forward method, are refused by name."""
    model = unchanged(survey())
    for given, shown in ((ck.PyroModel(model.stamps), "a PyroModel"), (model.stamps, "a method"), (None, "None")):
        with pytest.raises(ck.ModelError, match=rf"ck\.{name} needs a model.*\.bind\(\.\.\., obs=.*got {shown}\."):
            call(given)


# Draws


def drawn(bound):
    """Draws from the priors as if they were a posterior."""
    return az.InferenceData(posterior=ck.prior_predictive(bound, draws=3, seed=1, progress=False).prior)


def test_no_draws_at_all(unchanged):
    """Predictions need at least one draw."""
    bound = bind(unchanged(survey()), None)
    with pytest.raises(ck.SamplingError, match="draws must be at least 1, not 0"):
        ck.prior_predictive(bound, draws=0, progress=False)
    with pytest.raises(ck.SamplingError, match="draws must be at least 1, not -1"):
        ck.predict(bound, drawn(bound), draws=-1, progress=False)


def test_a_posterior_that_is_none(unchanged):
    """Predictions need ArviZ data with draws of a posterior; what else was given is named."""
    bound = bind(unchanged(survey()), None)
    prior = ck.prior_predictive(bound, draws=3, seed=1, progress=False)
    with pytest.raises(
        ck.SamplingError, match=r"what was given has the groups prior, prior_predictive, observed_data\."
    ):
        ck.predict(bound, prior, progress=False)
    with pytest.raises(ck.SamplingError, match=r"what was given is of the type Dataset\."):
        ck.predict(bound, prior.prior, progress=False)


def test_the_posterior_of_another_model(unchanged):
    """Draws that lack a site list those that are there; draws of other members name new= as the way to predict."""
    bound = bind(unchanged(survey()))
    other = ck.PyroModel(unchanged(Composition()).observed).bind(obs=torch.full((4, 3), 1 / 3))
    for use in (ck.predict, ck.log_likelihood):
        with pytest.raises(ck.SamplingError, match=r"no draws of shares; it has mean, scatter, noise, galaxies\.x0"):
            use(other, drawn(bound), progress=False)
    more = ck.PyroModel(unchanged(survey(5)).stamps).bind(*axes())
    with pytest.raises(ck.SamplingError, match=r"galaxies\.x0 have shape \(4, 2\).*\(5, 2\).*new=\(\.\.\.,\)"):
        ck.predict(more, drawn(bound), progress=False)
    with pytest.raises(ck.PlateError, match="new= names stars, but the plates are galaxies"):
        ck.predict(more, drawn(bound), new=("stars",), progress=False)
    assert ck.predict(more, drawn(bound), new="galaxies", progress=False).posterior_predictive["obs"].shape[2] == 5


def test_params_for_the_log_density(unchanged):
    """Missing params, wrong shapes and different numbers of sets are named with what is expected."""
    bound = bind(unchanged(survey()))
    params = {name: torch.as_tensor(one.values[0]) for name, one in drawn(bound).posterior.data_vars.items()}
    assert bound.log_density(params).shape == (3,)
    without = {name: value for name, value in params.items() if name != "noise"}
    with pytest.raises(ck.SamplingError, match="needs a value of noise; got mean, scatter"):
        bound.log_density(without)
    with pytest.raises(ck.SamplingError, match=r"galaxies\.x0: expected values of shape \(n, 4, 2\).*\(3, 3, 2\)"):
        bound.log_density(params | {"galaxies.x0": torch.zeros(3, 3, 2)})
    with pytest.raises(ck.SamplingError, match="count the sets differently: 2, 3"):
        bound.log_density(params | {"noise": torch.ones(2)})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("yes", "must be 'auto', 'offsets', True, False or a list of site names, not 'yes'"),
        (3, "must be 'auto', 'offsets', True, False or a list of site names, not 3"),
        (["galaxies.size"], r"names 'galaxies\.size', but the sites are mean, scatter"),
        (["noise"], "Site noise cannot be non-centred: its prior has no hyperparameters"),
        (["galaxies.log_I0"], r"galaxies\.log_I0 cannot be non-centred: its prior is of no location-scale family"),
    ],
)
def test_sites_that_cannot_be_noncentred(unchanged, choice, message):
    """noncentered= with unknown or unsuitable sites says why."""
    wrong = unchanged(survey())
    wrong.galaxies.log_I0.prior = ck.prior(dist.Gamma, wrong.scatter, 1.0)
    bound = bind(wrong)
    with pytest.raises(ck.ModelError, match=message):
        bound.noncentered(choice)
    with pytest.raises(ck.ModelError, match=message):
        ck.fit(bound, noncentered=choice, progress=False)


def test_unknown_guides(unchanged):
    """A guide that does not exist lists those that do."""
    with pytest.raises(ck.SamplingError, match=r"no guide 'gauss'; choose 'normal', 'full_rank'"):
        ck.fit(bind(unchanged(survey())), guide="gauss", progress=False)


class Steps(ck.Module):
    """A simulator with an operation that has no derivative."""

    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def seen(self, level):
        return dist.Normal(torch.heaviside(level, torch.tensor(0.5)), 1.0)


@pytest.mark.parametrize("infer", [ck.sample, ck.fit])
def test_a_simulator_without_a_derivative(unchanged, infer):
    """One can draw from it; inference says what it lacks."""
    bound = ck.PyroModel(unchanged(Steps()).seen).bind(obs=torch.zeros(3))
    assert bound.report().rows()[1][-2] == "level"
    assert set(ck.prior_predictive(bound, draws=9, seed=1, progress=False).prior_predictive.sizes.values()) >= {9, 3}
    with pytest.raises(ck.SamplingError, match=r"The density has no gradient.*derivative for aten::heaviside is not"):
        infer(bound, progress=False)
