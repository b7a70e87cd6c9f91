"""The modules of the seed document (``import caskade_pyro as ck`` in place of ``import caskade as ck``), word for word."""

import numpy as np
import torch

import caskade_pyro as ck

X, Y = torch.meshgrid(torch.linspace(-5, 5, 100), torch.linspace(-5, 5, 100), indexing="xy")


class Gaussian(ck.Module):
    def __init__(self, name, x0=None, q=None, phi=None, sigma=None, I0=None):
        super().__init__(name)
        self.x0 = ck.Param("x0", x0, shape=(2,))  # position
        self.q = ck.Param("q", q, shape=())  # axis ratio
        self.phi = ck.Param("phi", phi, shape=())  # orientation
        self.sigma = ck.Param("sigma", sigma, shape=())  # width
        self.I0 = ck.Param("I0", I0, shape=())  # intensity

    @ck.forward
    def _r(self, x, y, x0=None, q=None, phi=None):
        x, y = x - x0[..., 0], y - x0[..., 1]
        s, c = torch.sin(phi), torch.cos(phi)
        x, y = c * x - s * y, s * x + c * y
        return (x**2 + (y * q) ** 2).sqrt()

    @ck.forward
    def brightness(self, x, y, sigma=None, I0=None):
        return I0 * (-(self._r(x, y) ** 2) / sigma**2).exp()


class SetLiveParam(ck.Module):
    def __init__(self, gaussian: Gaussian, a: float = 1.0, b: float = 2.0):
        super().__init__()
        self.gaussian = gaussian
        self.gaussian.sigma.to_static(None)  # Live param
        self.a = ck.Param("a", a, dynamic=True)
        self.b = ck.Param("b", b, dynamic=False)
        self.c = ck.Param("c", None, dynamic=False)  # Live param

    @ck.forward
    def determine_c(self, a, b):  # cannot request c here
        self.c = a + b

    @ck.forward
    def determine_sigma(self, a, b, c):
        self.gaussian.sigma = (a + b + c) / 2

    @ck.forward
    def main_sim(self, x, y, a, b):  # cannot request c here
        self.determine_c()
        self.determine_sigma()
        print("within sim c =", self.c.value.item())  # can manually get c after setting value
        return self.gaussian.brightness(x, y) * (a + b)


class MultiBlob(ck.Module):
    def __init__(self, gaussian):
        super().__init__()
        self.hierarchical_link("gauss", gaussian)  # note, the name string is how we will reference the module

    @ck.forward
    def brightness(self, x, y, gauss_params, gauss_dims):
        batch_gauss = torch.vmap(self.gauss.brightness, in_dims=(None, None, gauss_dims))
        return batch_gauss(x, y, gauss_params).sum(dim=0)


class BlobPopulation(ck.Module):
    def __init__(self, gaussian, pop_x0_mean=None, pop_x0_std=None, pop_sigma_low=None, pop_sigma_high=None):
        super().__init__()
        self.hierarchical_link("gauss", gaussian)
        self.pop_x0_mean = ck.Param("pop_x0_mean", pop_x0_mean, shape=(2,))
        self.pop_x0_std = ck.Param("pop_x0_std", pop_x0_std, shape=(2,))
        self.pop_sigma_low = ck.Param("pop_sigma_low", pop_sigma_low, shape=())
        self.pop_sigma_high = ck.Param("pop_sigma_high", pop_sigma_high, shape=())

    @ck.forward
    def brightness(self, x, y, N, pop_x0_mean, pop_x0_std, pop_sigma_low, pop_sigma_high):
        # Randomly draw a number of members in the population
        n = np.random.poisson(N)
        # Sample values for the params
        params = {}
        expand = torch.ones(size=(n, 2))
        params["x0"] = torch.normal(mean=pop_x0_mean.unsqueeze(0) * expand, std=pop_x0_std.unsqueeze(0) * expand)
        params["sigma"] = torch.rand(n) * (pop_sigma_high - pop_sigma_low) + pop_sigma_low
        # Create params list
        params = list(params[p.name] for p in self.gauss.dynamic_params)
        dims = [0, 0]
        batch_gauss = torch.vmap(self.gauss.brightness, in_dims=(None, None, dims))
        return batch_gauss(x, y, params).sum(dim=0)


class BlobPopulation_v2(ck.Module):
    def __init__(self, gaussian, pop_x0_mean=None, pop_x0_std=None, pop_sigma_low=None, pop_sigma_high=None):
        super().__init__()
        self.gauss = gaussian
        self.pop_x0_mean = ck.Param("pop_x0_mean", pop_x0_mean, shape=(2,))
        self.pop_x0_std = ck.Param("pop_x0_std", pop_x0_std, shape=(2,))
        self.pop_sigma_low = ck.Param("pop_sigma_low", pop_sigma_low, shape=())
        self.pop_sigma_high = ck.Param("pop_sigma_high", pop_sigma_high, shape=())

    @ck.forward
    def sub_brightness(self, x, y, x0, sigma):
        self.gauss.x0 = x0
        self.gauss.sigma = sigma
        return self.gauss.brightness(x, y)

    @ck.forward
    def brightness(self, x, y, N, pop_x0_mean, pop_x0_std, pop_sigma_low, pop_sigma_high):
        # Randomly draw a number of members in the population
        n = np.random.poisson(N)
        # Sample values for the params
        expand = torch.ones(size=(n, 2))
        x0 = torch.normal(mean=pop_x0_mean.unsqueeze(0) * expand, std=pop_x0_std.unsqueeze(0) * expand)
        sigma = torch.rand(n) * (pop_sigma_high - pop_sigma_low) + pop_sigma_low
        batch_gauss = torch.vmap(self.sub_brightness, in_dims=(None, None, 0, 0))
        return batch_gauss(x, y, x0, sigma).sum(dim=0)


class BlobPopulation_v3(ck.Module):
    def __init__(self, gaussian, pop_x0_mean=None, pop_x0_std=None, pop_sigma_low=None, pop_sigma_high=None):
        super().__init__()
        self.meta.gauss = gaussian
        self.pop_x0_mean = ck.Param("pop_x0_mean", pop_x0_mean, shape=(2,))
        self.pop_x0_std = ck.Param("pop_x0_std", pop_x0_std, shape=(2,))
        self.pop_sigma_low = ck.Param("pop_sigma_low", pop_sigma_low, shape=())
        self.pop_sigma_high = ck.Param("pop_sigma_high", pop_sigma_high, shape=())

    @ck.forward
    def brightness(self, x, y, N, pop_x0_mean, pop_x0_std, pop_sigma_low, pop_sigma_high):
        # Randomly draw a number of members in the population
        n = np.random.poisson(N)
        # Sample values for the params
        params = {}
        expand = torch.ones(size=(n, 2))
        params["x0"] = torch.normal(mean=pop_x0_mean.unsqueeze(0) * expand, std=pop_x0_std.unsqueeze(0) * expand)
        params["sigma"] = torch.rand(n) * (pop_sigma_high - pop_sigma_low) + pop_sigma_low
        # Create params list
        params = list(params[p.name] for p in self.meta.gauss.dynamic_params)
        dims = [0, 0]
        batch_gauss = torch.vmap(self.meta.gauss.brightness, in_dims=(None, None, dims))
        return batch_gauss(x, y, params).sum(dim=0)
