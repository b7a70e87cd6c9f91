"""Posteriors that are known: sampled with the defaults, they agree with the references."""

import pytest
from reference_check import check, load
from reference_models import MODELS

import caskade_pyro as ck

# A few divergences at small scales are known of these posteriors; the check decides whether they matter.
pytestmark = pytest.mark.filterwarnings("ignore:.*draws diverged:caskade_pyro.ConvergenceWarning")
in_minutes = pytest.mark.slow

# The scatter of five groups has a long tail, where trajectories diverge: they are told, as the warning says, to step less far.
SETTINGS = {"pilots_crossed": {"target_accept": 0.99}}


@pytest.mark.parametrize(
    "name", [name if name == "eight_schools" else pytest.param(name, marks=in_minutes) for name in MODELS]
)
def test_reference(name):
    """A posterior by ck.sample agrees with its reference in means, sds, R-hat and effective sample sizes."""
    data, known = load(name)
    bound, variables = MODELS[name](data)
    posterior = ck.sample(bound, seed=1, progress=False, **SETTINGS.get(name, {}))
    check(posterior, known, variables)
