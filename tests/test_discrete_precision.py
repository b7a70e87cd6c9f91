"""Discrete params are summed out whatever the precisions of their prior, of other priors and of the data."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

N = 3
DATA = np.array([0.3, 2.2, -0.4])


class Point(ck.Module):
    """A datum that may be an outlier."""

    def __init__(self):
        super().__init__()
        self.kind = ck.Param("kind", shape=())

    @ck.forward
    def seen(self, level, kind):
        return dist.Normal(level + 2.0 * kind, 0.5)


class Points(ck.Module):
    """Data about a level, of several kinds."""

    def __init__(self, prior, level=None):
        super().__init__()
        self.hierarchical_link("points", Point(), size=N)
        self.level = ck.Param("level", prior=level or dist.Normal(0.0, 1.0))
        self.share = ck.Param("share", prior=dist.Beta(2.0, 2.0))
        self.points.kind.prior = prior(self.share)

    @ck.forward
    def seen(self, level):
        return ck.vmap(self.points.seen)(level)


PRIORS = {
    "fixed, single": (lambda _: dist.Bernoulli(0.3), lambda share: [0.7, 0.3]),
    "fixed, double": (lambda _: dist.Bernoulli(torch.tensor(0.3, dtype=torch.float64)), lambda share: [0.7, 0.3]),
    "of numbers": (lambda _: ck.prior(dist.Bernoulli, 0.3), lambda share: [0.7, 0.3]),
    "of a param": (lambda share: ck.prior(dist.Bernoulli, share), lambda share: [1 - share, share]),
    "categories": (lambda _: dist.Categorical(torch.tensor([0.5, 0.3, 0.2])), lambda share: [0.5, 0.3, 0.2]),
    "categories of a list": (lambda _: ck.prior(dist.Categorical, [0.5, 0.3, 0.2]), lambda share: [0.5, 0.3, 0.2]),
}
LEVELS = {
    "single": None,
    "double": dist.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0),
    "of a user's transform": dist.TransformedDistribution(
        dist.Normal(0.0, 1.0), [dist.transforms.AffineTransform(0.0, 1.0)]
    ),
}


COMBINATIONS = [
    *((prior, "single", "float64") for prior in PRIORS),
    *(("fixed, single", level, "float64") for level in LEVELS if level != "single"),
    ("fixed, double", "single", "float32"),
    ("of a param", "double", "float32"),
    ("categories", "single", "float32"),
]


@pytest.mark.parametrize(("prior", "level", "data"), COMBINATIONS)
def test_the_density_sums_over_all_kinds(prior, level, data):
    """The density is the sum over the values of each, in whatever precisions the parts are; their draws are there too."""
    make, weights = PRIORS[prior]
    model = ck.PyroModel(Points(make, LEVELS[level]).seen, dims={"obs": ("points",)}).bind(obs=DATA.astype(data))
    density = ck.LogDensity(model)
    at = {"level": torch.tensor(0.4).double(), "share": torch.tensor(0.25).double()}
    z = density.unconstrain(at)
    expected = dist.Normal(0.0, 1.0).log_prob(at["level"]) + dist.Beta(2.0, 2.0).log_prob(at["share"])
    expected = expected + torch.log(at["share"] * (1 - at["share"]))  # of the unconstrained coordinate
    for datum in DATA:
        terms = [
            np.log(weight) + float(dist.Normal(0.4 + 2.0 * kind, 0.5).log_prob(torch.tensor(datum)))
            for kind, weight in enumerate(weights(0.25))
        ]
        expected = expected + np.logaddexp.reduce(terms)
    assert abs(float(density.value(z)) - float(expected)) < 2e-5
    assert density.dtype == (torch.float64 if "64" in data or "double" in prior + level else torch.float32)


@pytest.mark.filterwarnings("ignore::caskade_pyro.errors.ConvergenceWarning")
def test_kinds_are_drawn_afterwards():
    """Draws of the discrete params, fits and predictions come in models of mixed precision."""
    make, _ = PRIORS["fixed, single"]
    model = ck.PyroModel(Points(make).seen, dims={"obs": ("points",)}).bind(obs=DATA)
    posterior = ck.sample(model, 100, 100, 1, seed=1, progress=False)
    assert posterior.posterior["points.kind"].shape == (1, 100, N)
    assert float(posterior.posterior["points.kind"].mean(("chain", "draw"))[1]) > 0.4
    assert ck.predict(model, posterior, seed=1, progress=False).posterior_predictive["obs"].shape == (1, 100, N)
    assert ck.log_likelihood(model, posterior, progress=False).log_likelihood["obs"].shape == (1, 100, N)
    assert np.isfinite(ck.fit(model, steps=50, seed=1, progress=False).losses).all()
