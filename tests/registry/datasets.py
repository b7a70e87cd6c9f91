"""Several data sets, and data with holes."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

import caskade_pyro as ck

from .hierarchies import Galaxy, Survey, axes
from .likelihoods import Processes, joint_by_hand
from .pair import Pair, data
from .shared import Line


class TwoInstruments(ck.Module):
    def __init__(self, n):
        super().__init__()
        line = Line()
        self.hierarchical_link("stars", line, size=n)
        line.slope.prior = dist.Normal(0.0, 2.0)
        self.zero = ck.Param("zero", prior=dist.Normal(0.0, 1.0))
        line.offset.prior = ck.prior(dist.Normal, self.zero, 1.0)
        self.noise = ck.Param("noise", prior=dist.HalfNormal(1.0))

    @ck.forward
    def both(self, x, noise):
        curves = ck.vmap(self.stars.at)(x)
        return {
            "photometry": dist.Normal(curves, noise),
            "counts": dist.Poisson(torch.exp(curves.mean(-1) / 4)),
        }


def two_data_sets():
    """Two data sets with one noise, the one with a data plate beside that of the graph, the other without."""
    x = torch.linspace(0, 1, 7)
    photometry, counts = data(5, 7), torch.tensor([0.0, 3.0, 1.0, 2.0, 5.0])
    dims = {"photometry": ("stars", "epochs"), "counts": ("stars",)}
    bound = ck.PyroModel(TwoInstruments(5).both, dims=dims).bind(x, obs={"photometry": photometry, "counts": counts})

    def by_hand():
        zero = pyro.sample("zero", dist.Normal(0.0, 1.0))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        epochs = pyro.plate("epochs", 7, dim=-1)
        with pyro.plate("stars", 5, dim=-2):
            slope = pyro.sample("stars.slope", dist.Normal(0.0, 2.0))
            offset = pyro.sample("stars.offset", dist.Normal(zero, 1.0))
            curves = offset + slope * x
            with epochs:
                pyro.sample("photometry", dist.Normal(curves, noise), obs=photometry)
            pyro.sample("counts", dist.Poisson(torch.exp(curves.mean(-1, keepdim=True) / 4)), obs=counts[:, None])

    return Pair(bound, by_hand, subsampled=("stars", "epochs"))


def with_holes(observed, *holes):
    """Data without the entries at some indices."""
    observed = observed.clone()
    for hole in holes:
        observed[hole] = torch.nan
    return observed


def holes_in_counts():
    """Two data sets with missing entries, one of them a masked array of integers."""
    x = torch.linspace(0, 1, 7)
    photometry = with_holes(data(5, 7), (0, 0), (3, slice(2, 6)), 4)
    hidden = np.array([False, True, False, False, True])
    counts = np.ma.masked_array([0, -99, 1, 2, -99], mask=hidden)
    dims = {"photometry": ("stars", "epochs"), "counts": ("stars",)}
    bound = ck.PyroModel(TwoInstruments(5).both, dims=dims).bind(x, obs={"photometry": photometry, "counts": counts})
    seen = ~torch.isnan(photometry)

    def by_hand():
        zero = pyro.sample("zero", dist.Normal(0.0, 1.0))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        epochs = pyro.plate("epochs", 7, dim=-1)
        with pyro.plate("stars", 5, dim=-2):
            slope = pyro.sample("stars.slope", dist.Normal(0.0, 2.0))
            offset = pyro.sample("stars.offset", dist.Normal(zero, 1.0))
            curves = offset + slope * x
            with epochs, poutine.mask(mask=seen):
                pyro.sample("photometry", dist.Normal(curves, noise), obs=torch.where(seen, photometry, 0.0))
            with poutine.mask(mask=torch.as_tensor(~hidden)[:, None]):
                rate = torch.exp(curves.mean(-1, keepdim=True) / 4)
                full = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0])[:, None]
                pyro.sample("counts", dist.Poisson(rate), obs=full)

    return Pair(bound, by_hand, subsampled=("stars", "epochs"))


def holes_in_images():
    """Images of which some pixels are missing, and one image altogether."""
    X, Y = axes()
    stamps = with_holes(data(4, 7, 7), (0, 3, 3), (1, slice(0, 2)), 2)
    bound = ck.PyroModel(Survey(Galaxy(), 4).stamps, dims={"obs": ("galaxies",)}).bind(X, Y, obs=stamps)
    seen = ~torch.isnan(stamps)

    def by_hand():
        mean = pyro.sample("mean", dist.Normal(0.7, 0.5))
        scatter = pyro.sample("scatter", dist.HalfNormal(0.5))
        noise = pyro.sample("noise", dist.HalfNormal(10.0))
        with pyro.plate("galaxies", 4):
            x0 = pyro.sample("galaxies.x0", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            log_sigma = pyro.sample("galaxies.log_sigma", dist.Normal(mean, scatter))
            log_I0 = pyro.sample("galaxies.log_I0", dist.Normal(4.5, 1.0))
            r2 = (X - x0[:, 0, None, None]) ** 2 + (Y - x0[:, 1, None, None]) ** 2
            image = torch.exp(log_I0[:, None, None] - r2 / (2 * torch.exp(2 * log_sigma[:, None, None])))
            pixels = dist.Normal(image, noise).mask(seen).to_event(2)
            pyro.sample("obs", pixels, obs=torch.where(seen, stamps, 0.0))

    return Pair(bound, by_hand, subsampled=("galaxies",))


class Marginals(dist.TorchDistribution):
    """Multivariate normals of which single components were observed: the marginal density of these."""

    arg_constraints = {}  # noqa: RUF012 - torch.distributions has it so

    def __init__(self, joint, seen):
        self.joint, self.seen = joint, seen
        super().__init__(joint.batch_shape, joint.event_shape, validate_args=False)

    def log_prob(self, value):
        rows = zip(self.joint.loc, self.joint.covariance_matrix, value, self.seen, strict=True)
        found = [
            dist.MultivariateNormal(loc[at], covariance[at][:, at]).log_prob(one[at]) if at.any() else torch.zeros(())
            for loc, covariance, one, at in rows
        ]
        return torch.stack(found)


def holes_in_joint_noise():
    """Missing components of observations with correlated noise, and one observation without any."""
    x = torch.linspace(0, 1, 4)
    observed = with_holes(data(3, 4), (0, 1), (0, 3), 2)
    bound = ck.PyroModel(Processes().along, dims={"obs": ("members",)}).bind(x, obs=observed)
    seen = ~torch.isnan(observed)

    def by_hand():
        with pyro.plate("members", 3):
            slope = pyro.sample("members.slope", dist.Normal(0.0, 1.0))
            length = pyro.sample("members.length", dist.LogNormal(0.0, 0.3))
            pyro.sample("obs", Marginals(joint_by_hand(x, slope, length), seen), obs=observed)

    return Pair(bound, by_hand, subsampled=("members",))


class Night(ck.Module):
    """Repeated measurements of one thing by a few instruments, in long tables with rows of their own."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("instruments", Offset(), size=3)
        self.level = ck.Param("level", prior=dist.Normal(0.0, 2.0))
        self.noise = ck.Param("noise", prior=dist.HalfNormal(1.0))

    @ck.forward
    def tables(self, instrument, level, noise):
        offsets = ck.vmap(self.instruments.own)()
        return {
            "magnitudes": dist.Normal(level + offsets[instrument], noise),
            "vectors": dist.Normal(level + offsets, noise).to_event(1),
            "flags": dist.Bernoulli(logits=level),
        }


class Offset(ck.Module):
    def __init__(self):
        super().__init__()
        self.offset = ck.Param("offset", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def own(self, offset):
        return offset


def three_data_sets():
    """A long table, a vector over all members, and independent flags of which the data alone tell how many they are."""
    instrument = torch.tensor([0, 1, 1, 2, 0])
    observed = {"magnitudes": data(5), "vectors": data(3), "flags": torch.tensor([0, 1, 1, 1])}
    bound = ck.PyroModel(Night().tables, dims={"flags": ("nights",)}).bind(instrument, obs=observed)

    def by_hand():
        level = pyro.sample("level", dist.Normal(0.0, 2.0))
        noise = pyro.sample("noise", dist.HalfNormal(1.0))
        with pyro.plate("instruments", 3):
            offset = pyro.sample("instruments.offset", dist.Normal(0.0, 1.0))
        with pyro.plate("magnitudes_dim_0", 5):
            pyro.sample("magnitudes", dist.Normal(level + offset[instrument], noise), obs=observed["magnitudes"])
        pyro.sample("vectors", dist.Normal(level + offset, noise).to_event(1), obs=observed["vectors"])
        with pyro.plate("nights", 4):
            pyro.sample("flags", dist.Bernoulli(logits=level), obs=observed["flags"].to(level.dtype))

    return Pair(bound, by_hand, subsampled=("magnitudes_dim_0", "nights"))


PAIRS = {
    pair.__name__: pair
    for pair in (two_data_sets, holes_in_counts, holes_in_images, holes_in_joint_noise, three_data_sets)
}
