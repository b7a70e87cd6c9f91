"""The models of the reference posteriors, as `model.md` beside each one's data defines them."""

import math

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


class Radon(ck.Module):
    """Counties, and houses in them with their floors and the uranium below them."""

    def __init__(self, counties):
        super().__init__()
        county = Effect()
        self.hierarchical_link("counties", county, size=counties)
        self.mu_alpha = ck.Param("mu_alpha", prior=dist.Normal(0.0, 10.0))
        self.sigma_alpha = ck.Param("sigma_alpha", prior=dist.HalfNormal(1.0))
        self.beta = ck.Param("beta", shape=(2,), prior=dist.Normal(0.0, 10.0))
        self.sigma_y = ck.Param("sigma_y", prior=dist.HalfNormal(1.0))
        county.effect.prior = ck.prior(dist.Normal, self.mu_alpha, self.sigma_alpha)

    @ck.forward
    def log_radon(self, county, log_uppm, floor, beta, sigma_y):
        alpha = ck.vmap(self.counties.own)()
        return dist.Normal(alpha[county] + beta[0] * log_uppm + beta[1] * floor, sigma_y)


def radon_mn_hierarchical_intercept(data):
    """A plate of counties, and a long table of houses."""
    county = torch.tensor(data["county_idx"]) - 1
    log_uppm, floor = torch.tensor(data["log_uppm"]), torch.tensor(data["floor_measure"]).float()
    model = ck.PyroModel(Radon(data["J"]).log_radon, dims={"obs": ("houses",)})
    bound = model.bind(county, log_uppm, floor, obs=torch.tensor(data["log_radon"]))
    same = {name: name for name in ("mu_alpha", "sigma_alpha", "sigma_y", "beta")}
    return bound, {**same, "alpha": "counties.effect"}


def mean_of_rats(p):
    """Mean intercept and slope, in one vector."""
    return torch.stack([p.mu_alpha.value, p.mu_beta.value], dim=-1)


def scale_of_rats(p):
    """The Cholesky factor of the covariance of intercepts and slopes."""
    scales = torch.stack([p.sigma_alpha.value, p.sigma_beta.value], dim=-1)
    return scales[..., None] * p.L.value


class Rats(ck.Module):
    """Rats whose weight grows on lines with a correlated intercept and slope."""

    def __init__(self, rats):
        super().__init__()
        rat = Effect(shape=(2,))
        self.hierarchical_link("rats", rat, size=rats)
        self.mu_alpha = ck.Param("mu_alpha", prior=dist.Normal(250.0, 100.0))
        self.mu_beta = ck.Param("mu_beta", prior=dist.Normal(5.0, 5.0))
        self.sigma_alpha = ck.Param("sigma_alpha", prior=dist.HalfNormal(30.0))
        self.sigma_beta = ck.Param("sigma_beta", prior=dist.HalfNormal(2.0))
        self.sigma_y = ck.Param("sigma_y", prior=dist.HalfNormal(20.0))
        self.L = ck.Param("L", shape=(2, 2), prior=dist.LKJCholesky(2, 2.0))
        self.mean = ck.Param("mean", mean_of_rats, link=[self.mu_alpha, self.mu_beta])
        self.scale = ck.Param("scale", scale_of_rats, link=[self.sigma_alpha, self.sigma_beta, self.L])
        rat.effect.prior = ck.prior(dist.MultivariateNormal, self.mean, scale_tril=self.scale)

    @ck.forward
    def weights(self, rat, age, sigma_y):
        line = ck.vmap(self.rats.own)()[rat]
        return dist.Normal(line[..., 0] + line[..., 1] * age, sigma_y)


def rats_lkj(data):
    """Correlated effects: a Cholesky factor with its own prior, in pointers that are arguments of a prior."""
    rat, age = torch.tensor(data["rat"]) - 1, torch.tensor(data["x"]) - data["xbar"]
    model = ck.PyroModel(Rats(data["N"]).weights, dims={"obs": ("weighings",)})
    bound = model.bind(rat, age, obs=torch.tensor(data["y"]))
    same = {name: name for name in ("mu_alpha", "mu_beta", "sigma_alpha", "sigma_beta", "sigma_y")}
    return bound, {
        **same,
        "rho": lambda p: p["L"][..., 1, 0],
        "alpha": lambda p: p["rats.effect"][..., 0],
        "beta": lambda p: p["rats.effect"][..., 1],
    }


class Predation(ck.Module):
    """Hares and lynxes, by the equations of Lotka and Volterra."""

    steps = 4  # of Runge and Kutta's fourth order a year: the log density is within 1e-3 of that with twenty

    def __init__(self):
        super().__init__()
        rate, interaction = ck.TruncatedNormal(1.0, 0.5, 0.0), ck.TruncatedNormal(0.05, 0.05, 0.0)
        for number, prior in enumerate((rate, interaction, rate, interaction), 1):
            setattr(self, f"theta_{number}", ck.Param(f"theta_{number}", prior=prior))
        self.z_init = ck.Param("z_init", shape=(2,), prior=dist.LogNormal(math.log(10.0), 1.0))
        self.sigma = ck.Param("sigma", shape=(2,), prior=dist.LogNormal(-1.0, 1.0))

    @ck.forward
    def pelts(self, years, theta_1, theta_2, theta_3, theta_4, z_init, sigma):
        def change(z):
            hares, lynxes = z.unbind(-1)
            return torch.stack([(theta_1 - theta_2 * lynxes) * hares, (theta_4 * hares - theta_3) * lynxes], dim=-1)

        z, step, found = z_init, 1.0 / self.steps, []
        for _ in range(years):
            for _ in range(self.steps):
                a = change(z)
                b = change(z + step / 2 * a)
                c = change(z + step / 2 * b)
                z = z + step / 6 * (a + 2 * b + 2 * c + change(z + step * c))
            found.append(z)
        return {
            "first": dist.LogNormal(z_init.log(), sigma).to_event(1),
            "later": dist.LogNormal(torch.stack(found).log(), sigma).to_event(1),
        }


def lotka_volterra(data):
    """A simulator that solves differential equations; half-line normal priors; two data sets."""
    model = ck.PyroModel(Predation().pelts, dims={"later": ("years",)})
    observed = {"first": torch.tensor(data["y_init"]).float(), "later": torch.tensor(data["y"])}
    bound = model.bind(len(data["ts"]), obs=observed)
    thetas = {f"theta[{number}]": f"theta_{number}" for number in range(1, 5)}
    return bound, {**thetas, "z_init": "z_init", "sigma": "sigma"}


MODELS = {
    model.__name__: model
    for model in (
        eight_schools,
        surgical,
        pilots_crossed,
        radon_mn_hierarchical_intercept,
        rats_lkj,
        lotka_volterra,
    )
}
