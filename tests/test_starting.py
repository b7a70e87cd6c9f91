"""Where chains start: at values, at draws of a fit, or where earlier chains ended."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.results.starting import starting_points


class Star(ck.Module):
    def __init__(self):
        super().__init__()
        self.x = ck.Param("x", shape=())

    @ck.forward
    def own(self, x):
        return x


class Cluster(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("stars", Star(), size=3)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.scatter = ck.Param("scatter", prior=dist.HalfNormal(1.0))
        self.stars.x.prior = ck.prior(dist.Normal, self.mean, self.scatter)
        self.share = ck.Param("share", prior=dist.Uniform(0.0, 1.0))

    @ck.forward
    def data(self, share):
        return dist.Normal(ck.vmap(self.stars.own)() + share, 0.5)


class Gated(ck.Module):
    """A density of zero below one."""

    def __init__(self):
        super().__init__()
        self.x = ck.Param("x", prior=dist.Normal(3.0, 1.0))
        self.y = ck.Param("y", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, x, y):
        return dist.Normal(y + torch.log(torch.relu(x - 1.0)), 1.0)


@pytest.fixture(scope="module")
def bound():
    return ck.PyroModel(Cluster().data, dims={"obs": ("stars",)}).bind(obs=torch.tensor([0.1, 0.5, 0.9]))


@pytest.fixture(scope="module")
def earlier(bound):
    return ck.sample(bound, draws=100, tune=200, chains=2, seed=1, progress=False, target_accept=0.95)


def params_at(density, points):
    return density.constrain(torch.as_tensor(np.stack(points)))


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
def test_the_last_draws(bound, earlier):
    """Chains go on from the last draw of each chain, then from those before the last."""
    density = ck.LogDensity(bound)
    found = params_at(density, starting_points(density, earlier, 5, 1))
    for name in ("mean", "scatter", "share", "stars.x"):
        draws = earlier.posterior[name].values
        expected = [draws[0, -1], draws[1, -1], draws[0, -2], draws[1, -2], draws[0, -3]]
        np.testing.assert_allclose(found[name].numpy(), np.stack(expected), rtol=1e-4, atol=1e-5)
    again = ck.sample(bound, draws=5, tune=50, chains=3, seed=2, start=earlier, progress=False)
    assert again.posterior.sizes["chain"] == 3


def test_an_earlier_posterior_of_another_model(bound, earlier):
    """One that lacks a site or has too few draws is refused."""
    other = ck.PyroModel(Gated().data).bind(obs=0.0)
    with pytest.raises(
        ck.SamplingError, match="start= cannot be taken up: The posterior has no draws of x; it has mean"
    ):
        ck.sample(other, start=earlier, progress=False)
    with pytest.raises(ck.SamplingError, match="start= has 1 draws, too few for 2 chains"):
        ck.sample(bound, chains=2, start=earlier.sel(draw=[0], chain=[0]), progress=False)


def test_values(bound):
    """Values are kept, those of offsets and of some sites only, too; so is a point of a posterior."""
    density = ck.LogDensity(bound)
    values = {"scatter": 2.0, "stars.x": [1.0, -1.0, 4.0], "mean": np.float64(0.3)}
    found = params_at(density, starting_points(density, values, 2, 1))
    for name, value in values.items():
        np.testing.assert_allclose(found[name].numpy(), np.stack([value, value]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"share": 1.5}, r"start= of share lies outside of the support of its prior Uniform\(0, 1\), .*got 1.5"),
        ({"scatter": -0.5}, r"start= of scatter lies outside of the support.*>= 0: got -0.5"),
        ({"mean": float("nan")}, "start= of mean must be finite; got nan"),
        (
            {"mean": 0.0, "scatter": 1.0, "stars.x": [0.0, float("inf"), 0.0]},
            r"stars\.x must be finite; got inf at index",
        ),
    ],
)
def test_values_outside_of_supports(bound, values, expected):
    """What no transform could reach is refused, not moved inside; also where values are unconstrained."""
    with pytest.raises(ck.SamplingError, match=expected):
        ck.sample(bound, start=values, progress=False)
    whole = {"mean": 0.0, "scatter": 1.0, "stars.x": [0.0, 0.0, 0.0], "share": 0.5} | values
    with pytest.raises(ck.SamplingError, match=expected.replace("start=", "The value")):
        ck.LogDensity(bound).unconstrain(whole)


@pytest.mark.parametrize("values", [{"x": 0.5}, {"x": 0.5, "y": 0.0}])
def test_values_without_a_density(values):
    """Where the density is zero no other point is taken in its place."""
    gated = ck.PyroModel(Gated().data).bind(obs=0.0)
    with pytest.raises(ck.SamplingError, match="No starting point with the values that were given for x"):
        ck.sample(gated, start=values, progress=False)
