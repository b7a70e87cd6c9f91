"""58 galaxies of the Hubble eXtreme Deep Field, 25 x 25 pixels each, and their population: 354 latent scalars."""

import math
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

FILE = Path(__file__).parents[2] / "examples" / "data" / "galaxy_stamps.npz"
POPULATION = ("mean_log_sigma", "scatter_log_sigma", "mean_log_I0", "scatter_log_I0", "background", "noise")
SITES = {name: name for name in POPULATION} | {f"galaxies.{name}": name for name in ("x0", "e", "log_sigma", "log_I0")}


def data(copies=1):
    """The stamps, each ``copies`` times, and the offsets of their pixels from the centre."""
    with np.load(FILE) as file:
        stamps = np.tile((file["stamps"] * file["scale"]).astype(np.float32), (copies, 1, 1))
    axis = np.linspace(-12, 12, 25, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return {"x": x, "y": y, "stamps": stamps}


class Galaxy(ck.Module):
    """One galaxy: an elliptical Gaussian, sampled as it is, as in the models of the others."""

    def __init__(self):
        super().__init__()
        self.x0 = ck.Param("x0", shape=(2,), prior=dist.Normal(0.0, 1.0))
        self.e = ck.Param("e", shape=(2,), prior=dist.Normal(0.0, 0.3))
        self.log_sigma = ck.Param("log_sigma", shape=(), centered=True)
        self.log_I0 = ck.Param("log_I0", shape=(), centered=True)

    @ck.forward
    def light(self, x, y, x0, e, log_sigma, log_I0):
        """Its image."""
        dx, dy = x - x0[0], y - x0[1]
        u = (1 - e[0]) * dx - e[1] * dy
        v = (1 + e[0]) * dy - e[1] * dx
        return torch.exp(log_I0 - (u**2 + v**2) / (2 * torch.exp(2 * log_sigma)))


class Survey(ck.Module):
    """All of them."""

    def __init__(self, galaxy, n, chunk_size=None):
        super().__init__()
        self.chunk_size = chunk_size
        self.mean_log_sigma = ck.Param("mean_log_sigma", prior=dist.Normal(0.7, 0.5))
        self.scatter_log_sigma = ck.Param("scatter_log_sigma", prior=dist.HalfNormal(0.5))
        self.mean_log_I0 = ck.Param("mean_log_I0", prior=dist.Normal(4.5, 1.0))
        self.scatter_log_I0 = ck.Param("scatter_log_I0", prior=dist.HalfNormal(1.0))
        self.background = ck.Param("background", prior=dist.Normal(12.0, 5.0))
        self.noise = ck.Param("noise", prior=dist.HalfNormal(10.0))
        self.hierarchical_link("galaxies", galaxy, size=n)
        galaxy.log_sigma.prior = ck.prior(dist.Normal, self.mean_log_sigma, self.scatter_log_sigma)
        galaxy.log_I0.prior = ck.prior(dist.Normal, self.mean_log_I0, self.scatter_log_I0)

    @ck.forward
    def stamps(self, x, y, background, noise):
        """The images of all."""
        return dist.Normal(background + ck.vmap(self.galaxies.light, chunk_size=self.chunk_size)(x, y), noise).to_event(
            2
        )


def bridged(data, chunk_size=None):
    """The model of this package, with at most ``chunk_size`` members at once."""
    survey = Survey(Galaxy(), len(data["stamps"]), chunk_size)
    model = ck.PyroModel(survey.stamps, dims={"obs": ("galaxies",)})
    return model.bind(torch.tensor(data["x"]), torch.tensor(data["y"]), obs=torch.tensor(data["stamps"]))


def images(x, y, background, x0, e, log_sigma, log_I0, exp):
    """The images of all galaxies, for arrays of any framework."""
    dx, dy = x - x0[:, 0, None, None], y - x0[:, 1, None, None]
    e1, e2 = e[:, 0, None, None], e[:, 1, None, None]
    u = (1 - e1) * dx - e2 * dy
    v = (1 + e1) * dy - e2 * dx
    return background + exp(log_I0[:, None, None] - (u**2 + v**2) / (2 * exp(2 * log_sigma[:, None, None])))


def _in(sample, plate, distributions, exp, data):
    """The model in the words that Pyro and NumPyro share."""

    def model():
        d = distributions
        mean_size = sample("mean_log_sigma", d.Normal(0.7, 0.5))
        scatter_size = sample("scatter_log_sigma", d.HalfNormal(0.5))
        mean_light = sample("mean_log_I0", d.Normal(4.5, 1.0))
        scatter_light = sample("scatter_log_I0", d.HalfNormal(1.0))
        background = sample("background", d.Normal(12.0, 5.0))
        noise = sample("noise", d.HalfNormal(10.0))
        with plate("galaxies", len(data["stamps"])):
            x0 = sample("x0", d.Normal(0.0, 1.0).expand([2]).to_event(1))
            e = sample("e", d.Normal(0.0, 0.3).expand([2]).to_event(1))
            log_sigma = sample("log_sigma", d.Normal(mean_size, scatter_size))
            log_I0 = sample("log_I0", d.Normal(mean_light, scatter_light))
            image = images(data["x"], data["y"], background, x0, e, log_sigma, log_I0, exp)
            sample("obs", d.Normal(image, noise).to_event(2), obs=data["stamps"])

    return model


def by_hand(data):
    """The model in Pyro."""
    return _in(pyro.sample, pyro.plate, dist, torch.exp, {name: torch.tensor(one) for name, one in data.items()})


def numpyro_model(data):
    """The model in NumPyro."""
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as npd

    return _in(numpyro.sample, numpyro.plate, npd, jnp.exp, data)


def pymc_model(data):
    """The model in PyMC."""
    import pymc as pm

    n = len(data["stamps"])
    with pm.Model() as model:
        mean_size, scatter_size = pm.Normal("mean_log_sigma", 0.7, 0.5), pm.HalfNormal("scatter_log_sigma", 0.5)
        mean_light, scatter_light = pm.Normal("mean_log_I0", 4.5, 1.0), pm.HalfNormal("scatter_log_I0", 1.0)
        background, noise = pm.Normal("background", 12.0, 5.0), pm.HalfNormal("noise", 10.0)
        x0, e = pm.Normal("x0", 0.0, 1.0, shape=(n, 2)), pm.Normal("e", 0.0, 0.3, shape=(n, 2))
        log_sigma = pm.Normal("log_sigma", mean_size, scatter_size, shape=n)
        log_I0 = pm.Normal("log_I0", mean_light, scatter_light, shape=n)
        image = images(data["x"], data["y"], background, x0, e, log_sigma, log_I0, pm.math.exp)
        pm.Normal("obs", image, noise, observed=data["stamps"])
    return model


def bare(data):
    """The log density of the population, the background, the log of the noise, and the members' params in turn."""
    x, y, stamps = (torch.tensor(data[name]) for name in ("x", "y", "stamps"))
    n, pixels = len(stamps), stamps.numel()
    half = 0.5 * math.log(2 * math.pi)

    def log_density(z):
        mean_size, scatter_size, mean_light, scatter_light = z[0], z[1].exp(), z[2], z[3].exp()
        background, noise = z[4], z[5].exp()
        x0, e = z[6 : 6 + 2 * n].reshape(n, 2), z[6 + 2 * n : 6 + 4 * n].reshape(n, 2)
        log_sigma, log_I0 = z[6 + 4 * n : 6 + 5 * n], z[6 + 5 * n :]
        image = images(x, y, background, x0, e, log_sigma, log_I0, torch.exp)
        prior = -0.5 * (((mean_size - 0.7) / 0.5) ** 2 + (mean_light - 4.5) ** 2 + ((background - 12) / 5) ** 2)
        prior = prior - math.log(0.5) - math.log(5) - 3 * half
        scales = -0.5 * ((scatter_size / 0.5) ** 2 + scatter_light**2 + (noise / 10) ** 2) + z[1] + z[3] + z[5]
        scales = scales + 3 * (math.log(2) - half) - math.log(0.5) - math.log(10)
        members = -0.5 * (x0**2).sum() - 0.5 * ((e / 0.3) ** 2).sum() - 2 * n * math.log(0.3) - 6 * n * half
        members = members - 0.5 * (((log_sigma - mean_size) / scatter_size) ** 2).sum() - n * z[1]
        members = members - 0.5 * (((log_I0 - mean_light) / scatter_light) ** 2).sum() - n * z[3]
        return prior + scales + members - 0.5 * (((stamps - image) / noise) ** 2).sum() - pixels * (z[5] + half)

    return log_density
