"""Fits that see some members at a time find what a fit of all members finds."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide
from registry import PAIRS

import caskade_pyro as ck
from caskade_pyro.inference.minibatch import _rounds
from caskade_pyro.inference.minibatch_objective import make_objective
from caskade_pyro.results.arrival import loss_that_still_falls


class Member(ck.Module):
    def __init__(self):
        super().__init__()
        self.z = ck.Param("z", shape=())

    @ck.forward
    def own(self, z):
        return dist.Normal(z, 1.0)


class Population(ck.Module):
    """Members around a mean, of whom the data say about as much as the population."""

    def __init__(self, n):
        super().__init__()
        member = Member()
        self.hierarchical_link("members", member, size=n)
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 5.0))
        self.tau = ck.Param("tau", prior=dist.HalfNormal(2.0))
        member.z.prior = ck.prior(dist.Normal, self.mu, self.tau)

    @ck.forward
    def data(self):
        return ck.vmap(self.members.own)()


def population(n, size=None, dtype=torch.float32):
    """The model, its data, and the scale that they suggest."""
    draw = torch.Generator().manual_seed(0)
    y = 2 + 0.7 * torch.randn(n, generator=draw) + torch.randn(n, generator=draw)
    sizes = {} if size is None else {"members": size}
    bound = ck.PyroModel(Population(n).data, dims={"obs": ("members",)}).bind(obs=y.to(dtype), subsample_size=sizes)
    return bound, y, float((y.var() - 1).sqrt())


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 200])
def test_the_scale_of_a_population_is_found(size):
    """With few visits to each member, the population's mean and scale and the members come out right."""
    bound, y, scale = population(2000, size)
    fitted = ck.fit(bound, steps=800, seed=1, progress=False)
    drawn = fitted.fitted.draw(200, seed=1)
    assert fitted.engine == "traced"
    assert drawn["tau"].mean() == pytest.approx(scale, abs=0.1)
    assert drawn["mu"].mean() == pytest.approx(y.mean().item(), abs=0.1)
    weight = scale**2 / (scale**2 + 1)
    expected = (y.mean() + weight * (y - y.mean())).numpy()
    assert np.abs(drawn["members.z"].mean(0) - expected).mean() < 0.1
    assert drawn["members.z"].std(0).mean() == pytest.approx(weight**0.5, rel=0.15)


def test_members_arrive_in_few_visits(float64):
    """With the population known, the fit of each member is exact after few visits: the density is normal."""
    n = 60
    bound, y, _ = population(n, 20, torch.float64)
    bound.model.module.mu.to_static(2.0)
    bound.model.module.tau.to_static(0.7)
    bound = bound.model.bind(obs=y.double(), subsample_size={"members": 20})
    fitted = ck.fit(bound, steps=9, seed=1, noncentered=False, progress=False)
    precision = 1 + 1 / 0.7**2
    expected = (y.double() + 2.0 / 0.7**2) / precision
    loc, scale = fitted.guide._get_loc_and_scale("members.z")
    torch.testing.assert_close(loc.detach(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scale.detach(), torch.full((n,), precision**-0.5), rtol=1e-2, atol=0.0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["two_nested", "three_nested", "crossed", "constants_and_inputs_of_members"])
def test_the_objective_is_the_density_of_the_members(name):
    """What is written down of a few members is the log density of the subsampled model, with its curvature by member."""
    pair = PAIRS[name]()
    bound = pair.bound
    sizes = {plate: max(1, bound.plan.sizes[plate] // 2) for plate in pair.subsampled[-1:]}
    few = bound.model.bind(*bound.args, obs=bound.data, subsample_size=sizes, **bound.kwargs)
    objective = make_objective(few, few.noncentered("auto"), "auto", jacobian=False)
    picked = {plate: torch.randperm(bound.plan.sizes[plate])[:size] for plate, size in sizes.items()}
    z = 0.3 * torch.randn(objective.flat.dim)
    values = objective.flat.sampled(z[None])
    conditioned = pyro.poutine.condition(
        few.noncentered("auto"), {name: value[0] for name, value in values.items()} | picked
    )
    expected = pyro.poutine.trace(conditioned).get_trace().log_prob_sum()
    value, slope = objective.slope(z, picked)
    torch.testing.assert_close(value, expected)
    gradient, curvature = objective.curvature(z, picked)
    torch.testing.assert_close(gradient, slope)
    if objective.directions is not None:
        for at in range(objective.flat.dim):
            if any(one.slot.slice.start <= at < one.slot.slice.stop for one in objective.locals.values()):
                step = torch.zeros_like(z)
                step[at] = 1e-5
                up, down = (objective.slope(z + sign * step, picked)[1][at] for sign in (1, -1))
                torch.testing.assert_close(curvature[at], (up - down) / 2e-5, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("guide", ["normal", "delta"])
def test_two_plates_at_once_are_fitted(guide):
    """Nested plates that are both subsampled are fitted, and the fit draws all members."""
    pair = PAIRS["two_nested"]()
    few = pair.bound.model.bind(obs=pair.bound.data, subsample_size={"schools": 2, "schools.pupils": 3})
    fitted = ck.fit(few, guide, steps=20, seed=1, progress=False)
    assert fitted.engine == "traced"
    drawn = fitted.fitted.draw(3, seed=1)
    assert drawn["schools.pupils.ability"].shape == (3, 3, 5)
    assert all(np.isfinite(value).all() for value in drawn.values())
    predicted = ck.predict(few, fitted.sample(4), seed=1, progress=False)
    assert predicted.posterior_predictive["obs"].shape == (1, 4, 3, 5)


def test_predictions_are_of_all_members():
    """Predictions from the priors and from a fit of a subsampled model have all members."""
    bound, _, _ = population(6, 2)
    assert ck.prior_predictive(bound, 5, seed=1, progress=False).prior_predictive["obs"].shape == (1, 5, 6)


@pytest.mark.parametrize(("members", "size"), [(7, 3), (6, 6), (5, 1), (4, 3)])
def test_each_round_has_every_member_once(members, size):
    """Members come in rounds, none twice at a step."""
    rounds = _rounds(members, size)
    steps = [next(rounds) for _ in range(10 * members)]
    assert all(len(set(one.tolist())) == size for one in steps)
    seen = torch.cat(steps)
    counts = torch.bincount(seen, minlength=members)
    assert int(counts.max() - counts.min()) <= 2


# What a fit says when it ends


def test_pyros_steps_say_that_members_lag_behind():
    """Where Pyro's own steps move params of members that they seldom see, the fit says so when it ends."""
    bound, _, _ = population(50, 5)
    with pytest.warns(
        ck.ConvergenceWarning, match=r"saw each member only 3 times of plate members.*lag behind"
    ) as caught:
        ck.fit(bound, steps=30, seed=1, engine="pyro", progress=False)
    assert caught[0].filename == __file__


def test_an_amortised_guide_says_nothing():
    """A guide that makes the params of members from their data has none that lag behind."""
    bound, _, _ = population(50, 5)

    def guide(obs):
        weight, width = pyro.param("weight", torch.tensor(0.5)), pyro.param("width", torch.tensor(1.0))
        pyro.sample("mu", dist.Normal(pyro.param("mean", torch.tensor(2.0)), 0.1))
        pyro.sample("tau", dist.LogNormal(pyro.param("scale", torch.tensor(0.0)), 0.1))
        with pyro.plate("members", 50, subsample_size=5) as picked:
            pyro.sample("members.z", dist.Normal(1 + weight * obs[picked], width.exp()))

    fitted = ck.fit(bound, guide, steps=20, seed=1, progress=False)
    assert fitted.fitted.draw(3, seed=1)["members.z"].shape == (3, 50)
    assert np.isnan(fitted.khat)


def test_a_fit_that_is_cut_short_says_so():
    """A fit whose loss still falls warns when it ends, where the user called it."""

    class Far(ck.Module):
        def __init__(self):
            super().__init__()
            self.mu = ck.Param("mu", prior=dist.Normal(0.0, 100.0))

        @ck.forward
        def data(self, mu):
            return dist.Normal(mu, 10.0)

    bound = ck.PyroModel(Far().data).bind(obs=torch.full((30,), 60.0))
    with pytest.warns(ck.ConvergenceWarning, match="has not arrived: over the last 15 of its 60 steps") as caught:
        ck.fit(bound, "delta", steps=60, seed=1, progress=False)
    assert caught[0].filename == __file__


def test_a_fall_is_told_from_noise():
    """A loss that falls is seen through noise, one that has settled is not, nor one of few steps."""
    noise = np.random.default_rng(1).normal(size=1000)
    assert loss_that_still_falls(noise, 5) is None
    assert loss_that_still_falls(noise + np.linspace(40, 0, 1000), 5) == pytest.approx(10, abs=0.5)
    assert loss_that_still_falls(noise + np.linspace(40, 0, 1000), 5000) is None
    assert loss_that_still_falls(np.linspace(40, 0, 20), 5) is None


def test_an_amortised_messenger_is_fitted():
    """Guides that run the model draw all members, though they saw a few at a time."""
    bound, _, _ = population(12, 4)
    with pytest.warns(ck.ConvergenceWarning, match="lag behind"):
        fitted = ck.fit(bound, autoguide.AutoNormalMessenger, steps=10, seed=1, progress=False)
    assert fitted.fitted.draw(2, seed=1)["members.z"].shape == (2, 12)
