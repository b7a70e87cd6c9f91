"""No algorithm shares memory with what a user gave: priors, params, constants, inputs and data stay bit by bit as they were."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, autoguide
from pyro.infer.autoguide import initialization as init
from pyro.optim import SGD, Adam, ClippedAdam

import caskade_pyro as ck
from caskade_pyro.bridge.guard import with_tensors

SHIFTED = [dist.transforms.AffineTransform(torch.tensor([0.5, 1.5]), torch.tensor([1.0, 2.0]))]


class Star(ck.Module):
    """A member with a constant of its own, and priors of several makes."""

    def __init__(self):
        super().__init__()
        self.mass = ck.Param("mass", shape=())
        self.place = ck.Param(
            "place", shape=(2,), prior=dist.MultivariateNormal(torch.tensor([0.5, 1.0]), torch.eye(2))
        )
        self.colour = ck.Param("colour", shape=(), prior=dist.Normal(torch.tensor([0.1, 0.2, 0.3]), 1.0))
        self.error = ck.Param("error", torch.tensor([0.5, 0.6, 0.7]), batch_shape=(3,), shape=())

    @ck.forward
    def light(self, mass, place, colour, error):
        return mass + place.sum() + colour, error


class Cluster(ck.Module):
    """Members whose population has a fixed scale, and two data sets of which one may be missing."""

    def __init__(self):
        super().__init__()
        star = Star()
        self.hierarchical_link("stars", star, size=3)
        self.mean = ck.Param("mean", shape=(), prior=dist.Normal(torch.tensor(0.5), torch.tensor(1.0)))
        self.width = ck.Param("width", torch.tensor(1.5), shape=())
        self.shift = ck.Param(
            "shift", shape=(2,), prior=dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0), SHIFTED)
        )
        self.rate = ck.Param("rate", shape=(), prior=ck.prior(dist.Gamma, torch.tensor(2.0), torch.tensor(3.0)))
        self.level = ck.Param("level", shape=(), prior=ck.prior(dist.Normal, self.width, 1.0))
        star.mass.prior = ck.prior(dist.Normal, self.mean, self.width)

    @ck.forward
    def seen(self, x, shift, rate, level):
        light, error = ck.vmap(self.stars.light)()
        own = pyro.sample("own", dist.Normal(self.width.value, 1.0))
        return {
            "light": dist.Normal(light + own, error),
            "curve": dist.Normal(x + 0.0 * (shift.sum() + level), rate),
        }


def cluster(missing=False):
    """The model with its data; without one of its data sets, that is sampled."""
    data = {"light": torch.tensor([1.0, 2.0, 3.0])} | ({} if missing else {"curve": torch.linspace(0.0, 1.0, 4)})
    return ck.PyroModel(Cluster().seen, dims={"light": ("stars",)}).bind(torch.linspace(0.0, 1.0, 4), obs=data)


def given(bound):
    """All tensors that the user gave."""
    found = [*bound.args, *bound.data.values(), *SHIFTED[0].__dict__.values()]
    for node in bound.model.module.topological_ordering():
        found.append(getattr(node, "stored_value", None))
        prior = getattr(node, "prior", None)
        if prior is not None:
            with_tensors([prior.fixed, *prior.args, *prior.kwargs.values()], lambda one: found.append(one) or one)
    return [one for one in found if isinstance(one, torch.Tensor)]


def places(tensors):
    """Where tensors lie in memory."""
    return {one.untyped_storage().data_ptr() for one in tensors if isinstance(one, torch.Tensor) and one.numel()}


class Watched:
    """Checks, after what it encloses, that nothing that the user gave was written into or is held by others."""

    def __init__(self, bound):
        self.tensors = given(bound)
        self.before = [one.clone() for one in self.tensors]
        self.held = []

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        if raised[0] is None:
            for before, after in zip(self.before, self.tensors, strict=True):
                assert torch.equal(before, after)
            held = [*self.held, *(value for _, value in pyro.get_param_store().named_parameters())]
            assert held
            assert not places(self.tensors) & places(held)


INITS = {
    "mean": init.init_to_mean,
    "median": init.init_to_median,
    "feasible": init.init_to_feasible,
    "sample": init.init_to_sample,
    "uniform": init.init_to_uniform,
    "value": init.init_to_value(values={"mean": torch.tensor(0.3)}, fallback=init.init_to_mean),
    "generated": init.init_to_generated(generate=lambda: init.init_to_mean),
}
GUIDES = [
    autoguide.AutoDelta,
    autoguide.AutoNormal,
    autoguide.AutoDiagonalNormal,
    autoguide.AutoMultivariateNormal,
    autoguide.AutoLowRankMultivariateNormal,
    autoguide.AutoLaplaceApproximation,
    autoguide.AutoGaussian,
    autoguide.AutoStructured,
    autoguide.AutoNormalMessenger,
    autoguide.AutoHierarchicalNormalMessenger,
    autoguide.AutoRegressiveMessenger,
]
OPTIMISERS = [Adam({"lr": 0.3}), ClippedAdam({"lr": 0.3}), SGD({"lr": 0.3})]


HELD_BY = (autoguide.AutoDelta, autoguide.AutoNormal, autoguide.AutoNormalMessenger)
"""For these every start is tried; the others are made of them."""


def check_guide(guide, start, bound):
    """Take a few large steps with a guide."""
    extra = {"hierarchical_sites": ["mean", "stars.mass"]} if "Hierarchical" in guide.__name__ else {}
    with Watched(bound) as watched:
        made = guide(bound, init_loc_fn=INITS[start], **extra)
        steps = SVI(bound, made, OPTIMISERS[GUIDES.index(guide) % 3], Trace_ELBO())
        for _ in range(2):
            steps.step()
        watched.held += made.parameters()


@pytest.mark.parametrize("missing", [False, True], ids=["observed", "missing"])
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.__name__)
def test_guides_move_nothing_of_the_user(guide, missing):
    """After a few large steps of each guide from the means of the priors, all that the user gave is as it was."""
    check_guide(guide, "mean", cluster(missing))


@pytest.mark.parametrize("start", [one for one in INITS if one != "mean"])
@pytest.mark.parametrize("guide", HELD_BY, ids=lambda guide: guide.__name__)
def test_starts_share_nothing_with_the_user(guide, start):
    """So it is from every start that Pyro has."""
    check_guide(guide, start, cluster())


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=["adam", "clipped", "sgd"])
def test_optimisers_move_nothing_of_the_user(optimiser):
    """Each optimiser moves the mean of a prior that a guide started at, but not the prior's."""
    bound = cluster()
    with Watched(bound):
        made = autoguide.AutoDelta(bound, init_loc_fn=init.init_to_mean)
        SVI(bound, made, optimiser, Trace_ELBO()).step()
        assert not torch.equal(made.median()["stars.place"], torch.tensor([[0.5, 1.0]]).expand(3, 2))


def test_samplers_move_nothing_of_the_user():
    """NUTS of Pyro starts at copies, and what its draws are written over with stays in them."""
    bound = cluster()
    with Watched(bound) as watched:
        sampler = MCMC(
            NUTS(bound, init_strategy=init.init_to_mean), num_samples=2, warmup_steps=2, disable_progbar=True
        )
        sampler.run()
        drawn = sampler.get_samples()
        for value in drawn.values():
            value.fill_(7.0)
        watched.held += drawn.values()


@pytest.mark.parametrize("parallel", [False, True])
def test_predictions_are_no_data(parallel):
    """What Predictive returns, observations and pointers included, can be written over."""
    bound = simple()
    sites = ("obs", "effects.z", "mean", "twice")
    with Watched(bound) as watched:
        found = Predictive(bound, num_samples=3, return_sites=sites, parallel=parallel)()
        for value in found.values():
            if not any(stride == 0 for stride in value.stride()):
                value.fill_(7.0)
        watched.held += found.values()


class Effect(ck.Module):
    def __init__(self):
        super().__init__()
        self.z = ck.Param("z", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def own(self, z):
        return z


class Effects(ck.Module):
    """A plate with a pointer beside it."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("effects", Effect(), size=3)
        self.mean = ck.Param("mean", shape=(), prior=dist.Normal(torch.tensor(1.0), 1.0))
        self.twice = ck.Param("twice", lambda p: 2 * p.mean.value, link=self.mean)

    @ck.forward
    def data(self, mean):
        return dist.Normal(mean + ck.vmap(self.effects.own)(), 1.0)


def simple():
    return ck.PyroModel(Effects().data, dims={"obs": ("effects",)}).bind(obs=torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
def test_our_own_results_can_be_written_over():
    """Writing into ArviZ data, points, starting points and draws changes neither the graph nor the data."""
    bound = simple()
    with Watched(bound) as watched:
        posterior = ck.sample(bound, draws=20, tune=50, chains=1, seed=1, progress=False)
        fitted = ck.fit(bound, steps=20, seed=1, progress=False)
        results = [posterior, fitted.sample(5), ck.prior_predictive(bound, draws=3, seed=1, progress=False)]
        results += [ck.predict(bound, posterior, draws=3, seed=1, progress=False)]
        bound.model.module.set_values(ck.point(posterior, bound.model.module))
        kept = bound.model.module.mean.value.clone()
        for data in results:
            for group in data.groups():
                for value in data[group].data_vars.values():
                    value.values[...] = 7.0
                    watched.held.append(torch.as_tensor(np.asarray(value.values)))
        point = ck.point(results[1], bound.model.module)
        bound.model.module.set_values(point)
        bound.model.module.set_values({"mean": kept})
        for value in point.values():
            value.fill_(9.0)
        assert torch.equal(bound.model.module.mean.value, kept)
        density = ck.LogDensity(bound)
        start = density.initial()
        value = density.value(start.clone())
        start.fill_(7.0)
        for part in density.constrain(density.initial()).values():
            part.fill_(7.0)
        assert torch.equal(density.value(density.initial()), value)
        watched.held += [start]
