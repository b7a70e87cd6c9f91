"""The bridge against hand-written Pyro: the same sites, the same log density, the same plates."""

import pytest
import torch
from registry import PAIRS
from registry.pair import latents, trace

POINTS = 20


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PAIRS)
def test_log_density_equals_that_of_the_hand_written_model(name):
    """At twenty random points the bridged and the hand-written model have the same log density, in all and by site."""
    pair = PAIRS[name]()
    assert latents(trace(pair.bound)).keys() == latents(trace(pair.by_hand)).keys()
    for _ in range(POINTS):
        values = latents(trace(pair.by_hand))
        bridged, by_hand = trace(pair.bound, values), trace(pair.by_hand, values)
        torch.testing.assert_close(bridged.log_prob_sum(), by_hand.log_prob_sum(), rtol=1e-10, atol=0.0)
        for site in [*values, *pair.bound.plan.observations]:
            ours, theirs = bridged.nodes[site]["log_prob"], by_hand.nodes[site]["log_prob"]
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", PAIRS)
def test_plates_equal_those_of_the_hand_written_model(name):
    """Every site stands in plates of the same names, sizes and dims as the hand-written model's."""
    pair = PAIRS[name]()
    bridged, by_hand = trace(pair.bound), trace(pair.by_hand)
    for site in [*latents(by_hand), *pair.bound.plan.observations]:
        ours, theirs = (
            {(f.name.removesuffix("_again"), f.size, f.dim) for f in run.nodes[site]["cond_indep_stack"]}
            for run in (bridged, by_hand)
        )
        assert ours == theirs, site
