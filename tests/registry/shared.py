"""What lies outside of a plate or around it: shared params, replicates of the whole model, inner plates alone."""

import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

from .pair import Pair, data


class Line(ck.Module):
    def __init__(self):
        super().__init__()
        self.slope = ck.Param("slope", shape=())
        self.offset = ck.Param("offset", shape=())

    @ck.forward
    def at(self, x, slope, offset):
        return offset + slope * x


class Lines(ck.Module):
    """Lines with their own offsets and one slope, which is owned outside and pointed to from inside."""

    def __init__(self, n):
        super().__init__()
        line = Line()
        self.hierarchical_link("lines", line, size=n)
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 1.0))
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        line.slope = self.slope
        line.offset.prior = ck.prior(dist.Normal, self.mean, 0.7)

    @ck.forward
    def points(self, x):
        return dist.StudentT(4.0, ck.vmap(self.lines.at, in_dims=0)(x), 0.5)


def shared_param():
    """A param that all members share, and inputs that differ between members."""
    x, y = data(6, 9).abs(), data(6, 9)
    bound = ck.PyroModel(Lines(6).points, dims={"obs": ("lines",)}).bind(x, obs=y)

    def by_hand():
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        points = pyro.plate("obs_dim_1", 9, dim=-1)
        with pyro.plate("lines", 6, dim=-2):
            offset = pyro.sample("lines.offset", dist.Normal(mean, 0.7))
            with points:
                pyro.sample("obs", dist.StudentT(4.0, offset + slope * x, 0.5), obs=y)

    return Pair(bound, by_hand, subsampled=("lines", "obs_dim_1"))


class Blob(ck.Module):
    def __init__(self):
        super().__init__()
        self.height = ck.Param("height", shape=(), prior=dist.Normal(1.0, 1.0))
        self.width = ck.Param("width", shape=(), prior=dist.LogNormal(0.0, 0.3))

    @ck.forward
    def at(self, x, height, width):
        return height * torch.exp(-((x / width) ** 2))


class Blobs(ck.Module):
    def __init__(self):
        super().__init__("experiment")
        blob = Blob()
        self.hierarchical_link("blobs", blob)
        self.noise = ck.Param("noise", shape=(), prior=dist.HalfNormal(1.0), batch_shape=(3,))
        blob.height.batch_shape = (3, 4)
        blob.width.batch_shape = (4,)

    @ck.forward
    def profile(self, x, noise):
        return dist.Normal(ck.vmap(self.blobs.at)(x).sum(0), noise)


def outer_batch():
    """Three replicates of a model with a plate of four: one param in both, one in the plate, one in the replicates."""
    x, y = torch.linspace(-1, 1, 8), data(3, 8)
    bound = ck.PyroModel(Blobs().profile).bind(x, obs=y)

    def by_hand():
        blobs = pyro.plate("blobs", 4, dim=-1)
        with pyro.plate("experiment", 3, dim=-2):
            noise = pyro.sample("noise", dist.HalfNormal(1.0))
            with blobs:
                height = pyro.sample("blobs.height", dist.Normal(1.0, 1.0))
        with blobs:
            width = pyro.sample("blobs.width", dist.LogNormal(0.0, 0.3))
        profile = (height[..., None] * torch.exp(-((x / width[..., None]) ** 2))).sum(1)
        with pyro.plate("experiment_again", 3, dim=-2), pyro.plate("obs_dim_0", 8, dim=-1):
            pyro.sample("obs", dist.Normal(profile, noise), obs=y)

    return Pair(bound, by_hand, subsampled=("obs_dim_0",))


class Trial(ck.Module):
    """Replicates in two dims: a mean for each of the second, a noise for each of all."""

    def __init__(self):
        super().__init__("trial")
        blob = Blob()
        self.hierarchical_link("blobs", blob)
        self.noise = ck.Param("noise", shape=(), prior=dist.HalfNormal(1.0), batch_shape=(2, 3))
        self.mean = ck.Param("mean", shape=(), prior=dist.Normal(0.0, 1.0), batch_shape=(3,))
        blob.height.prior = ck.prior(dist.Normal, self.mean, 1.0)
        blob.height.batch_shape = (2, 3, 4)
        blob.width.batch_shape = (4,)

    @ck.forward
    def profile(self, x, noise):
        return dist.Normal(ck.vmap(self.blobs.at)(x).sum(0), noise)


def two_outer_batches():
    """Replicates of the whole model in two dims, around a plate."""
    x, y = torch.linspace(-1, 1, 5), data(2, 3, 5)
    bound = ck.PyroModel(Trial().profile).bind(x, obs=y)

    def by_hand():
        outer, inner = pyro.plate("trial_0", 2, dim=-3), pyro.plate("trial_1", 3, dim=-2)
        blobs = pyro.plate("blobs", 4, dim=-1)
        with inner:
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with outer, inner:
            noise = pyro.sample("noise", dist.HalfNormal(1.0))
            with blobs:
                height = pyro.sample("blobs.height", dist.Normal(mean, 1.0))
        with blobs:
            width = pyro.sample("blobs.width", dist.LogNormal(0.0, 0.3))
        profile = (height[..., None] * torch.exp(-((x / width[..., None]) ** 2))).sum(-2)
        with outer, inner, pyro.plate("obs_dim_0", 5, dim=-1):
            pyro.sample("obs", dist.Normal(profile, noise), obs=y)

    return Pair(bound, by_hand, subsampled=("obs_dim_0",))


class Epoch(ck.Module):
    def __init__(self):
        super().__init__()
        self.flux = ck.Param("flux", shape=(), prior=dist.Normal(0.0, 1.0))
        self.calibration = ck.Param("calibration", shape=(), prior=dist.Normal(1.0, 0.2), batch_shape=(1, 5))

    @ck.forward
    def seen(self, flux, calibration):
        return flux * calibration


class Station(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("epochs", Epoch(), size=5)
        self.gain = ck.Param("gain", shape=(), prior=dist.LogNormal(0.0, 0.1))

    @ck.forward
    def seen(self, gain):
        return gain * ck.vmap(self.epochs.seen)()


class Network(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("stations", Station(), size=3)

    @ck.forward
    def seen(self):
        return dist.Normal(ck.vmap(self.stations.seen)(), 0.1)


def inner_only():
    """A param that the inner of two nested plates has, and the outer has not: its batch dims are (1, 5)."""
    observed = data(3, 5)
    dims = ("stations", "stations.epochs")
    bound = ck.PyroModel(Network().seen, dims={"obs": dims}).bind(obs=observed)

    def by_hand():
        stations, epochs = pyro.plate("stations", 3, dim=-2), pyro.plate("stations.epochs", 5, dim=-1)
        with epochs:
            calibration = pyro.sample("stations.epochs.calibration", dist.Normal(1.0, 0.2))
        with stations:
            gain = pyro.sample("stations.gain", dist.LogNormal(0.0, 0.1))
            with epochs:
                flux = pyro.sample("stations.epochs.flux", dist.Normal(0.0, 1.0))
                pyro.sample("obs", dist.Normal(gain * (flux * calibration), 0.1), obs=observed)

    return Pair(bound, by_hand, subsampled=dims)


class Kinds(ck.Module):
    """The same class linked three times: for two kinds of many members, and for one member alone."""

    def __init__(self):
        super().__init__()
        self.sky = Line()
        self.hierarchical_link("spirals", Line(), size=3)
        self.hierarchical_link("ellipticals", Line(), size=2)
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        self.sky.slope.prior = self.sky.offset.prior = dist.Normal(0.0, 0.3)
        for kind in (self.spirals, self.ellipticals):
            kind.slope.prior = ck.prior(dist.Normal, self.sky.slope, self.spread)
            kind.offset.prior = dist.Cauchy(0.0, 1.0)

    @ck.forward
    def curves(self, x):
        sky = self.sky.at(x)
        return {
            "spiral_data": dist.Normal(ck.vmap(self.spirals.at)(x) + sky, 0.5),
            "elliptical_data": dist.Normal(ck.vmap(self.ellipticals.at)(x) + sky, 0.5),
        }


def same_class_often():
    """One class of child in two plates and outside of both, with a prior that reaches from one to the others."""
    x = torch.linspace(0, 1, 4)
    observed = {"spiral_data": data(3, 4), "elliptical_data": data(2, 4)}
    dims = {"spiral_data": ("spirals", "x"), "elliptical_data": ("ellipticals", "x")}
    bound = ck.PyroModel(Kinds().curves, dims=dims).bind(x, obs=observed)

    def by_hand():
        slope = pyro.sample("sky.slope", dist.Normal(0.0, 0.3))
        offset = pyro.sample("sky.offset", dist.Normal(0.0, 0.3))
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        axis = pyro.plate("x", 4, dim=-1)
        for plate, site, size in (("spirals", "spiral_data", 3), ("ellipticals", "elliptical_data", 2)):
            with pyro.plate(plate, size, dim=-2):
                own_slope = pyro.sample(f"{plate}.slope", dist.Normal(slope, spread))
                own_offset = pyro.sample(f"{plate}.offset", dist.Cauchy(0.0, 1.0))
                with axis:
                    curve = own_offset + own_slope * x + (offset + slope * x)
                    pyro.sample(site, dist.Normal(curve, 0.5), obs=observed[site])

    return Pair(bound, by_hand, subsampled=("spirals", "ellipticals", "x"))


class Lens(ck.Module):
    """A lens with a known redshift, in a field with a known depth."""

    def __init__(self):
        super().__init__()
        self.mass = ck.Param("mass", shape=(), prior=dist.LogNormal(0.0, 0.5))
        self.redshift = ck.Param("redshift", torch.linspace(0.1, 0.8, 6).reshape(2, 3), shape=())

    @ck.forward
    def shear(self, angle, mass, redshift):
        return mass * angle / (1 + redshift)


class Field(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("lenses", Lens(), size=3)
        self.depth = ck.Param("depth", torch.tensor([0.3, 0.6]), shape=())

    @ck.forward
    def shears(self, angles, depth):
        return dist.Normal(ck.vmap(self.lenses.shear, in_dims=0)(angles), depth).to_event(1)


class Fields(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("fields", Field(), size=2)

    @ck.forward
    def shears(self, angles):
        return ck.vmap(self.fields.shears, in_dims=0)(angles)


def constants_and_inputs_of_members():
    """In two nested plates, constants of members, and inputs that differ between them; a distribution crosses a vmap."""
    angles, observed = 1 + data(2, 3, 4) ** 2, data(2, 3, 4)
    bound = ck.PyroModel(Fields().shears, dims={"obs": ("fields", "fields.lenses")}).bind(angles, obs=observed)
    redshift, depth = torch.linspace(0.1, 0.8, 6).reshape(2, 3), torch.tensor([0.3, 0.6])

    def by_hand():
        with pyro.plate("fields", 2, dim=-2), pyro.plate("fields.lenses", 3, dim=-1):
            mass = pyro.sample("fields.lenses.mass", dist.LogNormal(0.0, 0.5))
            shear = mass[..., None] * angles / (1 + redshift[..., None])
            pyro.sample("obs", dist.Normal(shear, depth[:, None, None]).to_event(1), obs=observed)

    return Pair(bound, by_hand, subsampled=("fields", "fields.lenses"))


PAIRS = {
    pair.__name__: pair
    for pair in (
        shared_param,
        outer_batch,
        two_outer_batches,
        inner_only,
        same_class_often,
        constants_and_inputs_of_members,
    )
}
