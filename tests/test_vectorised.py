"""Many values side by side are the same as one after the other, for every model of the registry."""

from contextlib import ExitStack

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO
from registry import PAIRS
from registry.pair import latents, trace

import caskade_pyro as ck

SETS = 4
MADE = {name: pair() for name, pair in PAIRS.items()}

every_pair = pytest.mark.parametrize("name", PAIRS)
side_by_side = pytest.mark.parametrize("name", [name for name, pair in MADE.items() if not pair.one_by_one])
one_by_one = pytest.mark.parametrize("name", [name for name, pair in MADE.items() if pair.one_by_one])
proper = pytest.mark.parametrize(
    "name", [name for name, pair in MADE.items() if not pair.one_by_one and not pair.improper]
)
doubles = pytest.mark.usefixtures("float64")


def values_of(pair):
    """Some values of the latent sites, in a list, and their log densities, one after the other."""
    values = [latents(trace(pair.by_hand)) for _ in range(SETS)]
    return values, torch.stack([trace(pair.bound, one).log_prob_sum() for one in values])


@doubles
@every_pair
@pytest.mark.parametrize("chunk_size", [1, 3, None])
def test_log_density_of_many(name, chunk_size):
    """The log density of many sets of params, in chunks of any size, is that of each of them."""
    pair = PAIRS[name]()
    values, expected = values_of(pair)
    shapes = {one.name: one.draw_shape for one in pair.bound.plan.latents}
    params = {site: torch.stack([one[site].reshape(shape) for one in values]) for site, shape in shapes.items()}
    found = pair.bound.log_density(params, chunk_size=chunk_size)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def replayed(plan, values):
    """A guide that gives these values, with any dims of particles in front."""

    def guide():
        plates = {name: pyro.plate(name, size, dim=plan.dims[name]) for name, size in plan.sizes.items()}
        for site in plan.sites:
            with ExitStack() as stack:
                for name in site.plate_names:
                    stack.enter_context(plates[name])
                pyro.sample(site.name, dist.Delta(values[site.name], event_dim=len(site.shape)))

    return guide


def stacked(plan, values):
    """The values of all particles in one tensor each, with room for all plates."""
    return {
        site.name: torch.stack([one[site.name].reshape(site.plates.padded(plan.depth) + site.shape) for one in values])
        for site in plan.sites
    }


@doubles
@side_by_side
def test_particles_side_by_side(name):
    """The ELBO of particles that run side by side is the mean of their single ones."""
    pair = PAIRS[name]()
    plan = pair.bound.plan
    values, densities = values_of(pair)
    single = [Trace_ELBO().loss(pair.bound, replayed(plan, one)) for one in values]
    torch.testing.assert_close(-torch.tensor(single), densities, rtol=1e-10, atol=1e-10)
    elbo = Trace_ELBO(num_particles=SETS, vectorize_particles=True, max_plate_nesting=plan.nesting)
    loss = elbo.loss(pair.bound, replayed(plan, stacked(plan, values)))
    assert loss == pytest.approx(sum(single) / SETS, rel=1e-10)


@doubles
@proper
def test_predictions_side_by_side(name):
    """Pyro's parallel Predictive gives the shapes, and computes the values, of the one that goes draw by draw."""
    pair = PAIRS[name]()
    values, _ = values_of(pair)
    samples = {site: torch.stack([one[site] for one in values]) for site in values[0]}
    loop = Predictive(pair.bound.predictive, samples)()
    parallel = Predictive(pair.bound.predictive, samples, parallel=True)()
    assert parallel.keys() == loop.keys() >= pair.bound.plan.observations.keys()
    for site, one in loop.items():
        assert parallel[site].reshape(one.shape).shape == one.shape, site
        if site in {reported.name for reported in pair.bound.plan.reported}:
            torch.testing.assert_close(parallel[site].reshape(one.shape), one)


@doubles
@one_by_one
def test_simulators_with_sites_of_their_own_cannot_run_side_by_side(name):
    """A simulator that samples itself says so when particles are to run side by side."""
    pair = PAIRS[name]()
    plan = pair.bound.plan
    values, _ = values_of(pair)
    elbo = Trace_ELBO(num_particles=SETS, vectorize_particles=True, max_plate_nesting=plan.nesting)
    with pytest.raises(ck.ModelError, match=r"site '\w+.* is sampled inside of a vmap .*particles one after the other"):
        elbo.loss(pair.bound, replayed(plan, stacked(plan, values)))
