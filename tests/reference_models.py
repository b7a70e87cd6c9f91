"""The models of the reference posteriors, as `model.md` beside each one's data defines them."""

import numpy as np
import pyro.distributions as dist
import torch

import caskade_pyro as ck


class Effect(ck.Module):
    """Something that each member of a group has."""

    def __init__(self, shape=()):
        super().__init__()
        self.effect = ck.Param("effect", shape=shape)

    @ck.forward
    def own(self, effect):
        return effect


class School(ck.Module):
    """One school: the effect of its course, estimated with a known error."""

    def __init__(self, sigma):
        super().__init__()
        self.theta = ck.Param("theta", shape=())
        self.sigma = ck.Param("sigma", sigma, shape=())

    @ck.forward
    def estimate(self, theta, sigma):
        return dist.Normal(theta, sigma)


class Study(ck.Module):
    """Schools whose effects come from one population."""

    def __init__(self, school, n):
        super().__init__()
        self.hierarchical_link("schools", school, size=n)
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 5.0))
        self.tau = ck.Param("tau", prior=dist.HalfCauchy(5.0))
        school.theta.prior = ck.prior(dist.Normal, self.mu, self.tau)

    @ck.forward
    def estimates(self):
        return ck.vmap(self.schools.estimate)()


def eight_schools(data):
    """A plate with constants of its members."""
    study = Study(School(data["sigma"]), data["J"])
    bound = ck.PyroModel(study.estimates, dims={"obs": ("schools",)}).bind(obs=data["y"])
    return bound, {"mu": "mu", "tau": "tau", "theta": "schools.theta"}


class Hospital(ck.Module):
    """One hospital: its log odds of death."""

    def __init__(self, operations):
        super().__init__()
        self.b = ck.Param("b", shape=())
        self.n = ck.Param("n", operations, shape=())

    @ck.forward
    def deaths(self, b, n):
        return dist.Binomial(n, logits=b)


class Surgery(ck.Module):
    """Hospitals; the scatter is a pointer, the square root of a variance with its own prior."""

    def __init__(self, hospital, n):
        super().__init__()
        self.hierarchical_link("hospitals", hospital, size=n)
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1000.0))
        self.variance = ck.Param("variance", prior=dist.InverseGamma(0.001, 0.001))
        self.sigma = ck.Param("sigma", lambda p: p.variance.value.sqrt(), link=self.variance)
        hospital.b.prior = ck.prior(dist.Normal, self.mu, self.sigma)

    @ck.forward
    def deaths(self):
        return ck.vmap(self.hospitals.deaths)()


def surgical(data):
    """Counts in a plate; a pointer among the arguments of a prior."""
    surgery = Surgery(Hospital(data["n"]), data["N"])
    bound = ck.PyroModel(surgery.deaths, dims={"obs": ("hospitals",)}).bind(obs=data["r"])
    return bound, {
        "mu": "mu",
        "b": "hospitals.b",
        "sigma": lambda p: p["variance"] ** 0.5,
        "p": lambda p: 1 / (1 + np.exp(-p["hospitals.b"])),
        "pop_mean": lambda p: 1 / (1 + np.exp(-p["mu"])),
    }


class Pilots(ck.Module):
    """Groups of pilots and scenarios, crossed."""

    def __init__(self, groups, scenarios):
        super().__init__()
        group, scenario = Effect(), Effect()
        self.hierarchical_link("groups", group, size=groups)
        self.hierarchical_link("scenarios", scenario, size=scenarios)
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        for name in ("sigma_a", "sigma_b", "sigma_y"):
            setattr(self, name, ck.Param(name, prior=dist.HalfNormal(1.0)))
        group.effect.prior = ck.prior(dist.Normal, 0.0, self.sigma_a)
        scenario.effect.prior = ck.prior(dist.Normal, 0.0, self.sigma_b)

    @ck.forward
    def successes(self, group, scenario, mu, sigma_y):
        a, b = ck.vmap(self.groups.own)(), ck.vmap(self.scenarios.own)()
        return dist.Normal(mu + a[group] + b[scenario], sigma_y)


def pilots_crossed(data):
    """Two crossed plates, data in rows."""
    group, scenario = (torch.tensor(data[key]) - 1 for key in ("group_id", "scenario_id"))
    model = ck.PyroModel(Pilots(data["n_groups"], data["n_scenarios"]).successes, dims={"obs": ("flights",)})
    bound = model.bind(group, scenario, obs=torch.tensor(data["y"]))
    same = {name: name for name in ("mu", "sigma_a", "sigma_b", "sigma_y")}
    return bound, {**same, "a": "groups.effect", "b": "scenarios.effect"}


MODELS = {model.__name__: model for model in (eight_schools, surgical, pilots_crossed)}
