"""The generator of torch that all threads share is never seeded, set back or drawn from by the package."""

import re
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoHierarchicalNormalMessenger

import caskade_pyro as ck

TOUCH = re.compile(r"fork_rng|torch\.(random\.)?(manual_seed|seed|set_rng_state)\b|set_rng_seed")


def test_no_module_touches_it():
    """What sets it back gives other threads the same numbers twice; one module has a reason, and a lock."""
    package = Path(ck.__file__).parent
    found = {path.name for path in package.rglob("*.py") if TOUCH.search(_code(path.read_text()))}
    assert found == {"randomness.py"}


def _code(text):
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", '"', "A ", ">>>", "...")))


class Mean(ck.Module):
    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu, 1.0)


def bind():
    return ck.PyroModel(Mean().data).bind(obs=torch.ones(3))


CALLS = {
    "bind": bind,
    "fit": lambda: ck.fit(bind(), steps=20, seed=1, progress=False),
    "a hierarchical guide": lambda: ck.fit(
        bind(), guide=AutoHierarchicalNormalMessenger, steps=5, seed=1, engine="pyro", progress=False
    ),
}


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("name", CALLS)
def test_nothing_sets_it_back(name, monkeypatch):
    """Not even for a moment, which another thread may see."""

    def touched(*_, **__):
        raise AssertionError("the generator of the process is touched")

    for function in ("fork_rng", "set_rng_state", "manual_seed"):
        monkeypatch.setattr(torch.random, function, touched)
        if hasattr(torch, function):
            monkeypatch.setattr(torch, function, touched)
    assert CALLS[name]() is not None
