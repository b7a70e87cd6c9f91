"""Radon in 919 houses of 85 counties of Minnesota (Gelman and Hill 2007): 90 latent scalars, one index per house."""

import json
import math
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

FILE = Path(__file__).parents[2] / "tests" / "references" / "radon_mn_hierarchical_intercept" / "data.json"
SITES = {name: name for name in ("mu_alpha", "sigma_alpha", "sigma_y", "beta")} | {"counties.alpha": "alpha"}


def data():
    """Houses: county, whether measured on the first floor, uranium in the county, log radon."""
    given = json.loads(FILE.read_text())
    return {
        "county": np.array(given["county_idx"]) - 1,
        "floor": np.array(given["floor_measure"], np.float32),
        "uranium": np.array(given["log_uppm"], np.float32),
        "y": np.array(given["log_radon"], np.float32),
    }


class County(ck.Module):
    """One county."""

    def __init__(self):
        super().__init__()
        self.alpha = ck.Param("alpha", shape=())

    @ck.forward
    def level(self, alpha):
        """The level of its houses."""
        return alpha


class State(ck.Module):
    """All counties."""

    def __init__(self, county, n):
        super().__init__()
        self.hierarchical_link("counties", county, size=n)
        self.mu_alpha = ck.Param("mu_alpha", prior=dist.Normal(0.0, 10.0))
        self.sigma_alpha = ck.Param("sigma_alpha", prior=dist.HalfNormal(1.0))
        self.sigma_y = ck.Param("sigma_y", prior=dist.HalfNormal(1.0))
        self.beta = ck.Param("beta", shape=(2,), prior=dist.Normal(0.0, 10.0))
        county.alpha.prior = ck.prior(dist.Normal, self.mu_alpha, self.sigma_alpha)

    @ck.forward
    def houses(self, county, uranium, floor, beta, sigma_y):
        """Log radon in each house."""
        level = ck.vmap(self.counties.level)()
        return dist.Normal(level[county] + beta[0] * uranium + beta[1] * floor, sigma_y)


def bridged(data):
    """The model of this package."""
    model = ck.PyroModel(State(County(), 85).houses, dims={"obs": ("houses",)})
    inputs = [torch.tensor(data[name]) for name in ("county", "uranium", "floor")]
    return model.bind(*inputs, obs=torch.tensor(data["y"]))


def by_hand(data):
    """The model in Pyro."""
    county, uranium, floor, y = (torch.tensor(data[name]) for name in ("county", "uranium", "floor", "y"))

    def model():
        mu = pyro.sample("mu_alpha", dist.Normal(0.0, 10.0))
        sigma = pyro.sample("sigma_alpha", dist.HalfNormal(1.0))
        sigma_y = pyro.sample("sigma_y", dist.HalfNormal(1.0))
        beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
        with pyro.plate("counties", 85):
            alpha = pyro.sample("alpha", dist.Normal(mu, sigma))
        with pyro.plate("houses", len(y)):
            mean = alpha[county] + beta[0] * uranium + beta[1] * floor
            pyro.sample("obs", dist.Normal(mean, sigma_y), obs=y)

    return model


def numpyro_model(data):
    """The model in NumPyro."""
    import numpyro
    from numpyro import distributions as npd

    def model():
        mu = numpyro.sample("mu_alpha", npd.Normal(0.0, 10.0))
        sigma = numpyro.sample("sigma_alpha", npd.HalfNormal(1.0))
        sigma_y = numpyro.sample("sigma_y", npd.HalfNormal(1.0))
        beta = numpyro.sample("beta", npd.Normal(0.0, 10.0).expand([2]).to_event(1))
        with numpyro.plate("counties", 85):
            alpha = numpyro.sample("alpha", npd.Normal(mu, sigma))
        with numpyro.plate("houses", len(data["y"])):
            mean = alpha[data["county"]] + beta[0] * data["uranium"] + beta[1] * data["floor"]
            numpyro.sample("obs", npd.Normal(mean, sigma_y), obs=data["y"])

    return model


def pymc_model(data):
    """The model in PyMC."""
    import pymc as pm

    with pm.Model() as model:
        mu = pm.Normal("mu_alpha", 0.0, 10.0)
        sigma = pm.HalfNormal("sigma_alpha", 1.0)
        sigma_y = pm.HalfNormal("sigma_y", 1.0)
        beta = pm.Normal("beta", 0.0, 10.0, shape=2)
        alpha = pm.Normal("alpha", mu, sigma, shape=85)
        mean = alpha[data["county"]] + beta[0] * data["uranium"] + beta[1] * data["floor"]
        pm.Normal("obs", mean, sigma_y, observed=data["y"])
    return model


def bare(data):
    """The log density of (mu, log sigma_alpha, log sigma_y, beta, alpha)."""
    county, uranium, floor, y = (torch.tensor(data[name]) for name in ("county", "uranium", "floor", "y"))
    half = 0.5 * math.log(2 * math.pi)

    def log_density(z):
        mu, sigma, sigma_y, beta, alpha = z[0], z[1].exp(), z[2].exp(), z[3:5], z[5:]
        residual = (y - alpha[county] - beta[0] * uranium - beta[1] * floor) / sigma_y
        prior = -0.5 * (mu / 10) ** 2 - 0.5 * ((beta / 10) ** 2).sum() - 3 * (math.log(10) + half)
        scales = -0.5 * (sigma**2 + sigma_y**2) + z[1] + z[2] + 2 * (math.log(2) - half)
        counties = -0.5 * (((alpha - mu) / sigma) ** 2).sum() - 85 * (z[1] + half)
        return prior + scales + counties - 0.5 * (residual**2).sum() - len(y) * (z[2] + half)

    return log_density
