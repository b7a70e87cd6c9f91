"""Eight schools (Rubin 1981): 10 latent scalars, non-centred everywhere."""

import json
import math
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

FILE = Path(__file__).parents[2] / "tests" / "references" / "eight_schools" / "data.json"
SITES = {"mu": "mu", "tau": "tau", "schools.theta": "theta"}


def data():
    """Estimated effects and their standard errors."""
    given = json.loads(FILE.read_text())
    return {"y": np.array(given["y"], np.float32), "sigma": np.array(given["sigma"], np.float32)}


class School(ck.Module):
    """One school."""

    def __init__(self, sigma):
        super().__init__()
        self.theta = ck.Param("theta", shape=())
        self.sigma = ck.Param("sigma", sigma, shape=())

    @ck.forward
    def estimate(self, theta, sigma):
        """The estimate of its effect."""
        return dist.Normal(theta, sigma)


class Study(ck.Module):
    """All of them."""

    def __init__(self, school, n):
        super().__init__()
        self.hierarchical_link("schools", school, size=n)
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 5.0))
        self.tau = ck.Param("tau", prior=dist.HalfCauchy(5.0))
        school.theta.prior = ck.prior(dist.Normal, self.mu, self.tau)

    @ck.forward
    def estimates(self):
        """The estimates of all effects."""
        return ck.vmap(self.schools.estimate)()


def bridged(data):
    """The model of this package."""
    study = Study(School(data["sigma"]), len(data["y"]))
    return ck.PyroModel(study.estimates, dims={"obs": ("schools",)}).bind(obs=torch.tensor(data["y"]))


def by_hand(data):
    """The model in Pyro."""
    y, sigma = torch.tensor(data["y"]), torch.tensor(data["sigma"])

    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("schools", len(y)):
            offset = pyro.sample("offset", dist.Normal(0.0, 1.0))
            theta = pyro.deterministic("theta", mu + tau * offset)
            pyro.sample("obs", dist.Normal(theta, sigma), obs=y)

    return model


def numpyro_model(data):
    """The model in NumPyro."""
    import numpyro
    from numpyro import distributions as npd

    def model():
        mu = numpyro.sample("mu", npd.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", npd.HalfCauchy(5.0))
        with numpyro.plate("schools", len(data["y"])):
            offset = numpyro.sample("offset", npd.Normal(0.0, 1.0))
            theta = numpyro.deterministic("theta", mu + tau * offset)
            numpyro.sample("obs", npd.Normal(theta, data["sigma"]), obs=data["y"])

    return model


def pymc_model(data):
    """The model in PyMC."""
    import pymc as pm

    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 5.0)
        tau = pm.HalfCauchy("tau", 5.0)
        offset = pm.Normal("offset", 0.0, 1.0, shape=len(data["y"]))
        theta = pm.Deterministic("theta", mu + tau * offset)
        pm.Normal("obs", theta, data["sigma"], observed=data["y"])
    return model


def bare(data):
    """The log density, non-centred, of (mu, log tau, offsets)."""
    y, sigma = torch.tensor(data["y"]), torch.tensor(data["sigma"])

    def log_density(z):
        mu, tau, offset = z[0], z[1].exp(), z[2:]
        residual = (y - mu - tau * offset) / sigma
        prior = -0.5 * (mu / 5) ** 2 - torch.log1p((tau / 5) ** 2) + z[1] - 0.5 * (offset**2).sum()
        constant = -9 * 0.5 * math.log(2 * math.pi) - math.log(5) + math.log(2 / math.pi) - math.log(5)
        return prior - 0.5 * (residual**2).sum() - sigma.log().sum() - 4 * math.log(2 * math.pi) + constant

    return log_density
