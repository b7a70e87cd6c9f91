"""Five blobs of light on an image of 100 x 100 pixels: 21 latent scalars, an expensive likelihood."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

SITES = {"noise": "noise", "blobs.x0": "x0", "blobs.sigma": "sigma", "blobs.I0": "I0"}


def data():
    """An image, its pixels, and where a catalogue says that the blobs are."""
    random = np.random.default_rng(1)
    catalogue = np.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 4.0], [-3.0, -3.0], [1.0, -4.0]])
    x0 = catalogue + 0.3 * random.normal(size=(5, 2))
    sigma, I0 = np.array([1.0, 0.7, 1.5, 1.2, 0.8]), np.array([1.0, 2.0, 1.5, 0.8, 1.2])
    axis = np.linspace(-5, 5, 100)
    x, y = np.meshgrid(axis, axis)
    r2 = (x - x0[:, 0, None, None]) ** 2 + (y - x0[:, 1, None, None]) ** 2
    image = (I0[:, None, None] * np.exp(-r2 / sigma[:, None, None] ** 2)).sum(0) + 0.3 * random.normal(size=(100, 100))
    return {name: one.astype(np.float32) for name, one in zip("cxyi", (catalogue, x, y, image), strict=True)}


class Blob(ck.Module):
    """One blob."""

    def __init__(self, catalogue):
        super().__init__()
        self.x0 = ck.Param("x0", shape=(2,), prior=dist.Normal(catalogue, 0.5))
        self.sigma = ck.Param("sigma", shape=(), prior=dist.LogNormal(0.0, 0.5))
        self.I0 = ck.Param("I0", shape=(), prior=dist.LogNormal(0.0, 1.0))

    @ck.forward
    def light(self, x, y, x0, sigma, I0):
        """Its image."""
        return I0 * torch.exp(-((x - x0[0]) ** 2 + (y - x0[1]) ** 2) / sigma**2)


class Image(ck.Module):
    """All of them."""

    def __init__(self, blob, n):
        super().__init__()
        self.noise = ck.Param("noise", prior=dist.HalfNormal(1.0))
        self.hierarchical_link("blobs", blob, size=n)

    @ck.forward
    def image(self, x, y, noise):
        """The image with all blobs."""
        return dist.Normal(ck.vmap(self.blobs.light)(x, y).sum(0), noise).to_event(2)


def bridged(data):
    """The model of this package."""
    catalogue, x, y, image = (torch.tensor(data[name]) for name in "cxyi")
    return ck.PyroModel(Image(Blob(catalogue), 5).image).bind(x, y, obs=image)


def by_hand(data):
    """The model in Pyro."""
    catalogue, x, y, image = (torch.tensor(data[name]) for name in "cxyi")

    def model():
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("blobs", 5):
            x0 = pyro.sample("x0", dist.Normal(catalogue, 0.5).to_event(1))
            sigma = pyro.sample("sigma", dist.LogNormal(0.0, 0.5))
            I0 = pyro.sample("I0", dist.LogNormal(0.0, 1.0))
        r2 = (x - x0[:, 0, None, None]) ** 2 + (y - x0[:, 1, None, None]) ** 2
        light = I0[:, None, None] * torch.exp(-r2 / sigma[:, None, None] ** 2)
        pyro.sample("obs", dist.Normal(light.sum(0), noise).to_event(2), obs=image)

    return model


def numpyro_model(data):
    """The model in NumPyro."""
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as npd

    def model():
        noise = numpyro.sample("noise", npd.HalfNormal(1.0))
        with numpyro.plate("blobs", 5):
            x0 = numpyro.sample("x0", npd.Normal(data["c"], 0.5).to_event(1))
            sigma = numpyro.sample("sigma", npd.LogNormal(0.0, 0.5))
            I0 = numpyro.sample("I0", npd.LogNormal(0.0, 1.0))
        r2 = (data["x"] - x0[:, 0, None, None]) ** 2 + (data["y"] - x0[:, 1, None, None]) ** 2
        light = I0[:, None, None] * jnp.exp(-r2 / sigma[:, None, None] ** 2)
        numpyro.sample("obs", npd.Normal(light.sum(0), noise).to_event(2), obs=data["i"])

    return model


def pymc_model(data):
    """The model in PyMC."""
    import pymc as pm

    with pm.Model() as model:
        noise = pm.HalfNormal("noise", 1.0)
        x0 = pm.Normal("x0", data["c"], 0.5, shape=(5, 2))
        sigma = pm.LogNormal("sigma", 0.0, 0.5, shape=5)
        I0 = pm.LogNormal("I0", 0.0, 1.0, shape=5)
        r2 = (data["x"] - x0[:, 0, None, None]) ** 2 + (data["y"] - x0[:, 1, None, None]) ** 2
        light = I0[:, None, None] * pm.math.exp(-r2 / sigma[:, None, None] ** 2)
        pm.Normal("obs", light.sum(0), noise, observed=data["i"])
    return model


def bare(data):
    """The log density of (log noise, x0, log sigma, log I0)."""
    catalogue, x, y, image = (torch.tensor(data[name]) for name in "cxyi")
    half = 0.5 * math.log(2 * math.pi)

    def log_density(z):
        noise, x0, sigma, I0 = z[0].exp(), z[1:11].reshape(5, 2), z[11:16].exp(), z[16:].exp()
        r2 = (x - x0[:, 0, None, None]) ** 2 + (y - x0[:, 1, None, None]) ** 2
        light = (I0[:, None, None] * torch.exp(-r2 / sigma[:, None, None] ** 2)).sum(0)
        prior = -0.5 * noise**2 + math.log(2) - half + z[0]
        prior = prior - 2 * ((x0 - catalogue) ** 2).sum() + 10 * (math.log(2) - half)
        prior = prior - 2 * (z[11:16] ** 2).sum() + 5 * (math.log(2) - half) - 0.5 * (z[16:] ** 2).sum() - 5 * half
        return prior - 0.5 * (((image - light) / noise) ** 2).sum() - 10000 * (z[0] + half)

    return log_density
