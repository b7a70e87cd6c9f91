"""Priors that cannot be drawn from, and mixtures: reports, densities and posteriors."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from registry import PAIRS
from torch.distributions import constraints

import caskade_pyro as ck

DATA = torch.tensor([1.3, 0.4, 2.2, 1.1])


class Level(ck.Module):
    """A level seen with a noise of one."""

    def __init__(self, prior):
        super().__init__()
        self.level = ck.Param("level", prior=prior)

    @ck.forward
    def data(self, level):
        return dist.Normal(level, 1.0)


def posterior(prior, data=DATA):
    bound = ck.PyroModel(Level(prior).data).bind(obs=data)
    return ck.sample(bound, draws=2000, tune=500, chains=2, seed=1, progress=False).posterior["level"].values


@pytest.mark.parametrize("name", PAIRS)
def test_every_model_has_a_report(name):
    """The report of every model of the registry can be printed, improper priors and mixtures included."""
    assert "latent sites" in str(PAIRS[name]().bound.report())


def test_a_flat_prior_leaves_the_likelihood():
    """Under an improper flat prior the posterior of a level is that of the data alone."""
    draws = posterior(dist.ImproperUniform(constraints.real, (), ()))
    assert abs(draws.mean() - DATA.mean().item()) < 0.05
    assert abs(draws.std() - 0.5) < 0.03


def test_a_flat_prior_on_positive_values_stays_there():
    """An improper prior on the positive numbers gives the likelihood cut off at zero."""
    data = torch.tensor([-0.5])
    draws = posterior(dist.ImproperUniform(constraints.positive, (), ()), data)
    grid = np.linspace(0.0, 8.0, 4001)
    weights = np.exp(-0.5 * (grid + 0.5) ** 2)
    assert draws.min() > 0
    assert abs(draws.mean() - (grid * weights).sum() / weights.sum()) < 0.04


def test_a_fit_begins_somewhere_under_a_flat_prior():
    """Variational fits take improper priors too."""
    bound = ck.PyroModel(Level(dist.ImproperUniform(constraints.real, (), ())).data).bind(obs=DATA)
    draws = ck.fit(bound, steps=800, seed=1, progress=False).sample(draws=2000).posterior["level"].values
    assert abs(draws.mean() - DATA.mean().item()) < 0.1


def test_a_mixture_as_prior_has_its_posterior():
    """The posterior under a mixture of two normals is that by quadrature."""
    kinds = dist.Categorical(torch.tensor([0.7, 0.3]))
    prior = dist.MixtureSameFamily(kinds, dist.Normal(torch.tensor([0.0, 1.5]), torch.tensor([0.3, 0.5])))
    draws = posterior(prior)
    grid = torch.linspace(-3.0, 4.0, 4001)
    log_density = prior.log_prob(grid) + dist.Normal(grid[:, None], 1.0).log_prob(DATA).sum(1)
    weights = torch.softmax(log_density, 0)
    mean = (weights * grid).sum()
    sd = (weights * (grid - mean) ** 2).sum().sqrt()
    assert abs(draws.mean() - mean.item()) < 0.06
    assert abs(draws.std() - sd.item()) < 0.05


def test_a_mixture_of_intervals_is_an_error():
    """Components with bounds of their own lie on no single interval, and the message says so."""
    kinds = dist.Categorical(torch.tensor([0.5, 0.5]))
    prior = dist.MixtureSameFamily(kinds, dist.Uniform(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0])))
    with pytest.raises(ck.SamplingError, match=r"Site level cannot be sampled.*bounds of their own.*on an interval"):
        posterior(prior)


class Shares(ck.Module):
    def __init__(self, prior):
        super().__init__()
        self.share = ck.Param("share", shape=(2, 3), prior=prior)

    @ck.forward
    def data(self, share):
        return dist.Normal(share.sum(), 1.0)


KINDS = dist.Categorical(torch.tensor([0.7, 0.3]))


@pytest.mark.parametrize(
    "prior",
    [
        dist.Beta(2.0, 3.0),
        dist.Beta(2.0, 3.0).expand((2, 3)).to_event(2),
        dist.MixtureSameFamily(KINDS, dist.Normal(torch.tensor([0.0, 1.5]), 1.0)),
        dist.MixtureSameFamily(KINDS, dist.Beta(torch.tensor([1.0, 3.0]), 2.0)),
    ],
    ids=["beta", "matrix of betas", "mixture", "mixture of betas"],
)
def test_priors_made_of_others_are_traced(prior):
    """The parts of a prior, such as the Dirichlet of a beta, do not go on checking values where that is switched off."""
    density = ck.LogDensity(ck.PyroModel(Shares(prior).data).bind(obs=DATA))
    assert (density.form, density.eager_because) == ("traced", None)
