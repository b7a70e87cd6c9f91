"""Every guide of Pyro, made or not, and guides by hand are fitted, drawn from and weighed; others are refused."""

import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide

import caskade_pyro as ck

fit_module = sys.modules["caskade_pyro.results.fit"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::caskade_pyro.PerformanceWarning"),
]


@pytest.fixture(autouse=True)
def few_weights(monkeypatch):
    """A k-hat of a hundred draws is a number as good as one of a thousand, and sooner there."""
    monkeypatch.setattr(fit_module, "DRAWS_FOR_KHAT", 100)


SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0])
DATA = torch.tensor([28.0, 8.0, -3.0, 7.0])


class School(ck.Module):
    def __init__(self):
        super().__init__()
        self.effect = ck.Param("effect", shape=())
        self.sigma = ck.Param("sigma", SIGMA, batch_shape=(4,), shape=())

    @ck.forward
    def estimate(self, bias, effect, sigma):
        return dist.Normal(effect + bias, sigma)


class Study(ck.Module):
    """Schools with a scale whose prior has no mean."""

    def __init__(self):
        super().__init__()
        school = School()
        self.hierarchical_link("schools", school, size=4)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 5.0))
        self.scatter = ck.Param("scatter", prior=dist.HalfCauchy(5.0))
        school.effect.prior = ck.prior(dist.Normal, self.mean, self.scatter)

    @ck.forward
    def estimates(self, bias):
        return ck.vmap(self.schools.estimate)(bias)


def study(**kwargs):
    return ck.PyroModel(Study().estimates, dims={"obs": ("schools",)}).bind(torch.tensor(0.0), obs=DATA, **kwargs)


def values():
    """A guide of Pyro's own kind, in the params of the user."""
    pyro.sample("mean", dist.Normal(pyro.param("at", torch.tensor(0.0)), 3.0))
    pyro.sample("scatter", dist.LogNormal(1.0, 0.5))
    with pyro.plate("schools", 4):
        pyro.sample("schools.effect", dist.Normal(pyro.param("effects", torch.zeros(4)), 5.0))


def amortised(bias, obs):
    """A guide of the inputs and the data, of offsets."""
    weight = pyro.param("weight", torch.tensor(0.1))
    pyro.sample("mean", dist.Normal(pyro.param("at", torch.tensor(0.0)) + bias, 3.0))
    pyro.sample("scatter", dist.LogNormal(1.0, 0.5))
    with pyro.plate("schools", 4):
        pyro.sample("schools.effect_decentered", dist.Normal(weight * obs, 1.0))


def in_parts(model):
    """A list of guides, each of some sites."""
    parts = autoguide.AutoGuideList(model)
    parts.append(autoguide.AutoDelta(pyro.poutine.block(model, expose=["mean"])))
    parts.append(autoguide.AutoNormal(pyro.poutine.block(model, hide=["mean"])))
    return parts


GUIDES = {
    **{
        kind.__name__: lambda bound, kind=kind: kind
        for kind in (
            autoguide.AutoNormal,
            autoguide.AutoDiagonalNormal,
            autoguide.AutoMultivariateNormal,
            autoguide.AutoLowRankMultivariateNormal,
            autoguide.AutoIAFNormal,
            autoguide.AutoLaplaceApproximation,
            autoguide.AutoGaussian,
            autoguide.AutoStructured,
            autoguide.AutoNormalMessenger,
            autoguide.AutoHierarchicalNormalMessenger,
            autoguide.AutoRegressiveMessenger,
        )
    },
    "made": autoguide.AutoNormal,
    "made of offsets": lambda bound: autoguide.AutoMultivariateNormal(bound.noncentered()),
    "made messenger": lambda bound: autoguide.AutoNormalMessenger(bound, init_loc_fn=autoguide.init_to_median),
    "by hand": lambda bound: values,
    "amortised": lambda bound: amortised,
    "returned": lambda bound: lambda model: values,
    "in parts": lambda bound: in_parts,
}


@pytest.mark.parametrize("guide", GUIDES)
def test_guides_are_fitted_drawn_from_and_weighed(guide):
    """A fit of each guide gives draws in the user's params, and its k-hat is a number."""
    bound = study()
    fitted = ck.fit(bound, GUIDES[guide](bound), steps=20, seed=1, progress=False)
    posterior = fitted.sample(20, seed=1).posterior
    assert set(posterior.data_vars) == {"mean", "scatter", "schools.effect"}
    assert posterior["schools.effect"].shape == (1, 20, 4)
    assert all(np.isfinite(value).all() for value in posterior.data_vars.values())
    assert not np.isnan(fitted.khat)


def test_weights_are_the_same_both_ways():
    """A guide that runs one draw at a time is weighed as the same guide is side by side."""
    bound = study()
    mean, scale = torch.tensor(1.0), torch.tensor(2.0)

    def guide():
        pyro.sample("mean", dist.Normal(mean, scale))
        pyro.sample("scatter", dist.LogNormal(1.0, 0.5))
        with pyro.plate("schools", 4):
            pyro.sample("schools.effect", dist.Normal(torch.ones(4), 3.0))

    weighed = ck.fit(bound, guide, steps=1, seed=1, progress=False).fitted.weighed(50, 1)
    z = torch.as_tensor(weighed.z)
    scatter = z[:, 1].exp()
    log_q = dist.Normal(mean, scale).log_prob(z[:, 0]) + dist.LogNormal(1.0, 0.5).log_prob(scatter)
    log_q = log_q + dist.Normal(1.0, 3.0).log_prob(z[:, 2:]).sum(1)
    log_p = dist.Normal(0.0, 5.0).log_prob(z[:, 0]) + dist.HalfCauchy(5.0).log_prob(scatter)
    log_p = log_p + dist.Normal(z[:, :1], scatter[:, None]).log_prob(z[:, 2:]).sum(1)
    log_p = log_p + dist.Normal(z[:, 2:], SIGMA).log_prob(DATA).sum(1)
    np.testing.assert_allclose(weighed.log_ratios, (log_p - log_q).numpy(), atol=1e-3)


def misspelt():
    pyro.sample("mean", dist.Normal(0.0, 1.0))
    pyro.sample("scater", dist.LogNormal(0.0, 1.0))


REFUSED = {
    "misspelt": (misspelt, "lacks scatter, schools.effect and samples scater, which the model does not have"),
    "nothing": (lambda model: None, "is called with the model to return a guide, but it returns None"),
    "number": (3, "guide= takes 'normal'"),
    "name": ("norml", "There is no guide 'norml'; choose 'normal'"),
    "arguments": (lambda x, y: None, "takes x, y, but the model has bias, obs"),
}


@pytest.mark.parametrize("guide", REFUSED)
def test_what_is_no_guide_is_refused(guide):
    """What cannot be a guide of the model is an error that says why."""
    given, message = REFUSED[guide]
    with pytest.raises(ck.SamplingError, match=message):
        ck.fit(study(), given, steps=3, seed=1, progress=False)


@pytest.mark.parametrize("guide", [autoguide.AutoGaussian, autoguide.AutoStructured, autoguide.AutoMultivariateNormal])
def test_joint_guides_of_subsampled_plates_are_refused(guide):
    """Guides whose params stand for members by their places are refused where places change, made or not."""
    few = study(subsample_size={"schools": 2})
    for given in (guide, guide(few)):
        with pytest.raises(ck.SamplingError, match=r"one joint distribution and cannot describe schools\.effect"):
            ck.fit(few, given, steps=3, seed=1, progress=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"lr": "0.1"}, {"lr": True}, {"steps": 0}, {"steps": "10"},
        {"steps": 10.5}, {"particles": 0}, {"particles": 1.5}, {"seed": "a"}, {"seed": -1}, {"seed": 1.5}, {"engine": "fast"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_are_checked_at_the_door(wrong):
    """A setting that cannot be is an error that names it and what was given."""
    ((name, value),) = wrong.items()
    with pytest.raises(ck.SamplingError, match=name) as caught:
        ck.fit(study(), **{"steps": 3, "seed": 1, "progress": False, **wrong})
    assert repr(value) in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    """Whole numbers of numpy are settings too."""
    fitted = ck.fit(study(), steps=np.int64(3), seed=np.int64(1), lr=np.float64(0.1), progress=False)
    assert len(fitted.losses) == 3
    assert fitted.sample(np.int64(2)).posterior.sizes["draw"] == 2


def test_a_laplace_approximation_needs_a_maximum():
    """Where the density does not curve downwards, there is none, and the error says what to do instead."""

    class Flat(ck.Module):
        def __init__(self):
            super().__init__()
            self.a = ck.Param("a", shape=(), prior=dist.Normal(0.0, 1.0))

        @ck.forward
        def data(self, a):
            return dist.Normal(a**2, 0.1)

    bound = ck.PyroModel(Flat().data).bind(obs=torch.tensor(4.0))
    with pytest.raises(ck.SamplingError, match=r"no Laplace approximation there\. Take more steps="):
        ck.fit(bound, "laplace", steps=1, lr=1e-6, seed=1, progress=False)


def test_guides_share_no_memory_with_what_they_start_at():
    """A guide that starts at the value of a param of the user's does not move that."""
    bound = study()
    bound.model.module.mean.value = 1.0
    value = bound.model.module.mean.value
    start = autoguide.init_to_value(values={"mean": value})
    ck.fit(bound, lambda model: autoguide.AutoDelta(model, init_loc_fn=start), steps=3, lr=0.5, seed=1, progress=False)
    assert value.item() == 1.0
