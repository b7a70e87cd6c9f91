"""What all tests share."""

import pyro
import pytest
import torch
from hypothesis import settings

# Tracing and compiling take longer than hypothesis allows one example by default.
settings.register_profile("torch", deadline=None)
settings.load_profile("torch")


@pytest.fixture(autouse=True)
def fresh_pyro():
    """Every test starts with the same seed and an empty param store."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)


@pytest.fixture(autouse=True)
def compiled_densities(pytestconfig, monkeypatch):
    """Densities that tests compile are kept with the tests, for the next run of them."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(pytestconfig.cache.mkdir("densities")))


@pytest.fixture
def float64():
    """Double precision as the default."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def state(module):
    """All that a mistake must not change: roles, values, links."""
    return [
        (node, dict(node.children), getattr(node, "role", None), getattr(node, "stored_value", None))
        for node in module.topological_ordering()
    ]


@pytest.fixture
def unchanged():
    """Checks, after the mistake, that a graph is as it was."""
    kept = []

    def keep(module):
        kept.append((module, state(module)))
        return module

    yield keep
    for module, before in kept:
        assert state(module) == before
        assert not module.active
