"""Predictions and log likelihoods, for every model of the registry and for members that no fit has seen."""

import math

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from registry import PAIRS
from registry.pair import data, latents, trace
from registry.priors import Population

import caskade_pyro as ck
from caskade_pyro.inference import predictive

MADE = {name: pair() for name, pair in PAIRS.items()}
proper = pytest.mark.parametrize("name", [name for name, pair in MADE.items() if not pair.improper])
with_data = pytest.mark.parametrize("name", PAIRS)
doubles = pytest.mark.usefixtures("float64")

DRAWS = 5


def check_dims(bound, group, draws):
    """Dims of a group of draws are the plates, with their sizes, then the own dims of each variable."""
    plan = bound.plan
    own = {one.name: (one.plate_names, one.shape) for one in (*plan.in_plates, *plan.latent_inner)}
    own |= {one.name: (one.dims, one.event_shape) for one in plan.observations.values()}
    sizes = dict(plan.sizes)
    for one in plan.inner:
        sizes.update(zip(one.plates.names, one.plates.sizes, strict=True))
    for name, variable in group.data_vars.items():
        plates, shape = own[name]
        assert variable.dims[: 2 + len(plates)] == ("chain", "draw", *plates), name
        assert variable.shape == (*draws, *(sizes[plate] for plate in plates), *shape), name


@doubles
@proper
def test_prior_predictions(name, monkeypatch):
    """Prior predictions have all sites, all that is reported, and data, in dims of their plates, and run side by side."""
    pair = PAIRS[name]()
    bound = pair.bound
    if not pair.one_by_one:
        monkeypatch.delattr(predictive, "_one_by_one")
    found = ck.prior_predictive(bound, draws=DRAWS, seed=1, progress=False)
    plan = bound.plan
    assert set(found.prior.data_vars) == {one.name for one in (*plan.latents, *plan.reported)}
    assert found.prior_predictive.data_vars.keys() == plan.observations.keys()
    check_dims(bound, found.prior, (1, DRAWS))
    check_dims(bound, found.prior_predictive, (1, DRAWS))
    for variable in (*found.prior.data_vars.values(), *found.prior_predictive.data_vars.values()):
        assert np.isfinite(variable).all()
    again = ck.prior_predictive(bound, draws=DRAWS, seed=1, chunk_size=2, progress=False)
    assert again.prior_predictive.sizes == found.prior_predictive.sizes


def posterior_of(bound, draws=DRAWS, chains=2):
    """Draws from the prior in the form of a posterior, and each of them by Pyro's sites."""
    plan = bound.plan
    values = [latents(trace(bound)) for _ in range(chains * draws)]
    names = {one.name: one.draw_shape for one in plan.latents}
    arrays = {
        name: torch.stack([one[name].reshape(shape) for one in values]).reshape(chains, draws, *shape).numpy()
        for name, shape in names.items()
    }
    return az.from_dict(posterior=arrays), values


@doubles
@with_data
def test_predictions_from_a_posterior(name):
    """Predictions have the data's dims, the chains and draws of the posterior, and no missing entries."""
    bound = PAIRS[name]().bound
    posterior, _ = posterior_of(bound)
    found = ck.predict(bound, posterior, seed=1, progress=False).posterior_predictive
    live = {one.name for one in bound.plan.reported if one.from_simulator}
    assert set(found.data_vars) == {*bound.plan.observations, *live}
    check_dims(bound, found, (2, DRAWS))
    for variable in found.data_vars.values():
        assert np.isfinite(variable).all()
    few = ck.predict(bound, posterior, draws=2, seed=1, progress=False).posterior_predictive
    check_dims(bound, few, (2, 2))


@doubles
@with_data
def test_log_likelihoods_sum_to_the_density_of_the_data(name):
    """The log likelihoods of single observations sum to that of the data, and missing data have none."""
    pair = PAIRS[name]()
    bound = pair.bound
    posterior, values = posterior_of(bound)
    found = ck.log_likelihood(bound, posterior, progress=False).log_likelihood
    assert found.data_vars.keys() == bound.data.keys()
    for observation in bound.plan.observations.values():
        pointwise = found[observation.name]
        gone = torch.isnan(bound.data[observation.name]).expand(observation.batch_shape + observation.event_shape)
        gone = gone.reshape(*observation.batch_shape, -1).all(-1).numpy()
        rows = (f"{observation.name}_observed",) if gone.any() else observation.dims
        assert pointwise.dims == ("chain", "draw", *rows)
        assert pointwise[0, 0].size == (~gone).sum()
        assert np.isfinite(pointwise.values).all()
        sums = pointwise.values.reshape(len(values), -1)
        by_hand = [trace(pair.by_hand, one).nodes[observation.name]["log_prob"].sum().item() for one in values]
        np.testing.assert_allclose(sums.sum(-1), by_hand, rtol=1e-10, atol=1e-12)


class Answers(ck.Module):
    """Answers of persons to items."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("persons", Ability(), members=("Ann", "Bob", "Cem"))
        self.hierarchical_link("items", Ability(), size=2)
        self.level = ck.Param("level", prior=dist.Normal(0.0, 0.1))

    @ck.forward
    def answers(self, level):
        ability, ease = ck.vmap(self.persons.own)(), ck.vmap(self.items.own)()
        return {
            "answer": dist.Bernoulli(logits=ability[:, None] + ease),
            "score": dist.Normal(ability + level, 1.0),
        }


class Ability(ck.Module):
    def __init__(self):
        super().__init__()
        self.value = ck.Param("value", shape=(), prior=dist.Normal(0.0, 0.1))

    @ck.forward
    def own(self, value):
        return value


@doubles
def test_models_with_missing_data_are_compared(tmp_path):
    """What is missing has no part in leave-one-out, and the rest keeps its names, also in a file."""
    dims = {"answer": ("persons", "items"), "score": ("persons",)}
    answers = torch.tensor([[1.0, 0.0], [math.nan, 1.0], [0.0, math.nan]])
    bound = ck.PyroModel(Answers().answers, dims=dims).bind(obs={"answer": answers, "score": torch.zeros(3)})
    prior = ck.prior_predictive(bound, draws=200, seed=1, progress=False)
    posterior = az.InferenceData(posterior=prior.prior)
    found = ck.log_likelihood(bound, posterior, progress=False)
    found.to_netcdf(str(tmp_path / "log_likelihood.nc"))
    posterior.extend(az.from_netcdf(str(tmp_path / "log_likelihood.nc")))
    group = posterior.log_likelihood
    assert group["answer"].dims == ("chain", "draw", "answer_observed")
    assert group["answer_persons"].values.tolist() == ["Ann", "Ann", "Bob", "Cem"]
    assert group["answer_items"].values.tolist() == [0, 1, 1, 0]
    assert group["score"].dims == ("chain", "draw", "persons")
    logits = posterior.posterior["persons.value"].sel(persons="Bob") + posterior.posterior["items.value"].sel(items=1)
    by_hand = dist.Bernoulli(logits=torch.as_tensor(logits.values)).log_prob(torch.tensor(1.0))
    np.testing.assert_allclose(group["answer"][..., 2].values, by_hand, rtol=1e-12)
    found = az.loo(posterior, var_name="answer")
    assert found.n_data_points == 4
    assert np.isfinite(found.elpd_loo)


class InPlace(ck.Module):
    """A simulator that no vmap takes: it writes into a tensor of its own, and branches on a value."""

    def __init__(self):
        super().__init__()
        self.a = ck.Param("a", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def line(self, a):
        predicted = torch.zeros(3)
        predicted[1:] = a
        if a > 0:
            predicted = predicted + 1
        return dist.Normal(predicted, 1.0)


@doubles
def test_log_likelihoods_of_what_cannot_be_mapped():
    """A simulator that cannot run for many draws side by side runs for one after the other."""
    bound = ck.PyroModel(InPlace().line).bind(obs=torch.tensor([0.0, 1.0, 2.0]))
    a = torch.tensor([[0.5, -1.0, 2.0, 0.1]], dtype=torch.float64)
    posterior = az.from_dict(posterior={"a": a.numpy()})
    found = ck.log_likelihood(bound, posterior, progress=False).log_likelihood["obs"].values[0]
    shift = (a[0] > 0).double()
    by_hand = dist.Normal(torch.stack([shift, a[0] + shift, a[0] + shift], -1), 1.0).log_prob(bound.data["obs"])
    np.testing.assert_allclose(found, by_hand, rtol=1e-12)
    joint = by_hand.sum(-1) + dist.Normal(0.0, 1.0).log_prob(a[0])
    torch.testing.assert_close(bound.log_density({"a": a[0]}), joint)


@doubles
def test_single_log_likelihoods_stand_in_the_order_of_the_data():
    """Where data have their plates in another order than Pyro, log likelihoods and predictions follow the data."""
    bound = PAIRS["nested_transposed"]().bound
    posterior, values = posterior_of(bound)
    found = ck.log_likelihood(bound, posterior, progress=False).log_likelihood["obs"].values.reshape(-1, 5, 3)
    for one, row in zip(values, found, strict=True):
        ability = one["schools.pupils.ability"].reshape(3, 5).T
        expected = dist.Normal(ability, one["noise"]).log_prob(bound.data["obs"])
        torch.testing.assert_close(torch.as_tensor(row), expected)
    assert (posterior.posterior["schools.pupils.ability"].shape) == (2, DRAWS, 3, 5)


class Group(Population):
    def __init__(self, n):
        super().__init__(n)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        self.members.value.prior = ck.prior(dist.Normal, self.mean, self.spread)


def group(n, **kwargs):
    return ck.PyroModel(Group(n).observed, dims={"obs": ("members",)}).bind(**kwargs)


@doubles
def test_predictions_for_new_members():
    """The params of new members follow the population that each draw describes, and so do their data."""
    draws = 4000
    mean, spread = np.full((1, draws), 2.0), np.full((1, draws), 0.5)
    mean[0, ::2], spread[0, ::2] = -3.0, 0.1
    seen = {"mean": mean, "spread": spread, "members.value": np.full((1, draws, 3), 77.0)}
    posterior = az.from_dict(posterior=seen)
    found = ck.predict(group(7), posterior, seed=1, new=("members",), progress=False).posterior_predictive
    assert found["obs"].dims == ("chain", "draw", "members")
    assert found["members.value"].shape == (1, draws, 7)
    for start, loc, scale in ((1, 2.0, 0.5), (0, -3.0, 0.1)):
        values = found["members.value"].values[0, start::2]
        assert values.mean() == pytest.approx(loc, abs=5 * scale / values.size**0.5)
        assert values.std() == pytest.approx(scale, rel=0.05)
        errors = found["obs"].values[0, start::2] - values
        assert errors.std() == pytest.approx(0.3, rel=0.05)


@doubles
def test_old_members_are_predicted_with_their_own_params():
    """Without new=, members keep the params of the posterior."""
    values = np.array([[[10.0, 20.0, 30.0]]]).repeat(50, 1)
    posterior = az.from_dict(posterior={"mean": np.zeros((1, 50)), "spread": np.ones((1, 50)), "members.value": values})
    found = ck.predict(group(3, obs=data(3)), posterior, seed=1, progress=False).posterior_predictive
    assert set(found.data_vars) == {"obs"}
    assert np.abs(found["obs"].values - values).max() < 0.3 * 6


def named_group(names, observed=None):
    module = Population(len(names))
    module.members.value.prior = dist.Normal(0.0, 50.0)
    module.hierarchical_link("members", module.members, members=names)
    return ck.PyroModel(module.observed, dims={"obs": ("members",)}).bind(obs=observed)


@doubles
@pytest.mark.parametrize("names", [("cod", "hake", "sole"), ("sole", "cod", "hake"), ("hake",)])
def test_old_members_are_found_by_their_names(names):
    """Members that have names keep their params in predictions and log likelihoods in any order, and some of them alone."""
    values = {"cod": 10.0, "hake": 20.0, "sole": 30.0}
    posterior = az.from_dict(
        posterior={"members.value": np.array([[list(values.values())]]).repeat(50, 1)},
        coords={"members": list(values)},
        dims={"members.value": ["members"]},
    )
    expected = np.array([values[name] for name in names])
    found = ck.predict(named_group(names), posterior, seed=1, progress=False).posterior_predictive["obs"]
    assert tuple(found["members"].values) == names
    assert np.abs(found.values - expected).max() < 0.3 * 6
    bound = named_group(names, torch.as_tensor(expected))
    likelihood = ck.log_likelihood(bound, posterior, progress=False).log_likelihood["obs"]
    np.testing.assert_allclose(likelihood.values, dist.Normal(0.0, 0.3).log_prob(torch.tensor(0.0)).item())
    with pytest.raises(ck.SamplingError, match=r"no draws of plate members for eel; it has cod, hake, sole"):
        ck.log_likelihood(named_group(("cod", "eel"), torch.zeros(2)), posterior, progress=False)


class Grades(ck.Module):
    """Pyro's OrderedLogistic writes into a tensor in place, which a vmap refuses."""

    def __init__(self):
        super().__init__()
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 1.0))
        self.cuts = ck.Param("cuts", torch.tensor([-1.0, 1.0]))

    @ck.forward
    def grades(self, x, slope, cuts):
        return dist.OrderedLogistic(slope * x, cuts)


@doubles
def test_simulators_that_no_vmap_takes_have_log_likelihoods():
    """A simulator that cannot run side by side runs for one draw after the other, with the same log likelihoods."""
    x, observed = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0, 1, 2])
    bound = ck.PyroModel(Grades().grades, dims={"obs": ("rows",)}).bind(x, obs=observed)
    slopes = np.array([[0.5, 1.5]])
    posterior = az.from_dict(posterior={"slope": slopes})
    found = ck.log_likelihood(bound, posterior, progress=False).log_likelihood["obs"]
    assert found.dims == ("chain", "draw", "rows")
    for slope, row in zip(slopes[0], found.values[0], strict=True):
        below = torch.sigmoid(torch.tensor([[-1.0], [1.0]]) - slope * x)
        shares = torch.stack([below[0], below[1] - below[0], 1 - below[1]], -1)
        np.testing.assert_allclose(row, shares[range(3), observed].log(), rtol=1e-10)
    joint = bound.log_density({"slope": slopes[0]})
    prior = dist.Normal(0.0, 1.0).log_prob(torch.as_tensor(slopes[0]))
    np.testing.assert_allclose(joint, found.values[0].sum(-1) + prior.numpy(), rtol=1e-10)


@doubles
def test_sites_of_the_simulator_keep_their_posterior_values():
    """Predictions use the draws of sites that the simulator samples itself, and do not draw these anew."""
    bound = PAIRS["sites_of_the_simulator"]().bound
    shots = np.array([100.0, 200.0, 300.0, 400.0])
    seen = {"level": 0.0, "jitter": 1.0, "members.value": np.array([1.0, 2.0, 3.0]), "shot": shots}
    posterior = az.from_dict(
        posterior={name: np.broadcast_to(one, (1, 20, *np.shape(one))) for name, one in seen.items()}
    )
    found = ck.predict(bound, posterior, seed=1, progress=False).posterior_predictive["obs"].values
    assert np.abs(found - (np.array([1.0, 2.0, 3.0])[:, None] + shots)).max() < 0.5 * 6


@doubles
def test_missing_data_are_imputed_from_what_is_known_of_them():
    """A missing entry is predicted with the params of its own member."""
    values = np.array([[[10.0, 20.0, 30.0]]]).repeat(400, 1)
    posterior = az.from_dict(
        posterior={"mean": np.zeros((1, 400)), "spread": np.ones((1, 400)), "members.value": values}
    )
    bound = group(3, obs=torch.tensor([10.0, torch.nan, 30.0]))
    found = ck.predict(bound, posterior, seed=1, progress=False)
    assert found.posterior_predictive["obs"][..., 1].mean().item() == pytest.approx(20.0, abs=0.1)
    assert np.isnan(found.observed_data["obs"].values).tolist() == [False, True, False]
    unobserved = poutine.trace(bound).get_trace().nodes["obs"]
    assert torch.isfinite(unobserved["value"]).all()
