"""Posteriors that are known: sampled with the defaults, they agree with the references."""

import pyro.distributions as dist
import pytest
from reference_check import check, load

import caskade_pyro as ck


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


# A few divergences near tau = 0 are known of this posterior; the check decides whether they matter.
@pytest.mark.filterwarnings("ignore:.*draws diverged:caskade_pyro.ConvergenceWarning")
def test_eight_schools():
    """Eight schools by ck.sample: a plate, its constants, a hierarchical prior, non-centred by default."""
    data, known = load("eight_schools")
    study = Study(School(data["sigma"]), data["J"])
    bound = ck.PyroModel(study.estimates, dims={"obs": ("schools",)}).bind(obs=data["y"])
    posterior = ck.sample(bound, seed=1, progress=False)
    check(posterior, known, {"mu": "mu", "tau": "tau", "theta": "schools.theta"})
