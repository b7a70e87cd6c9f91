"""Bound models own what is known of them, so that several of one model do not disturb each other."""

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import caskade_pyro as ck
from caskade_pyro.bridge import model as bridge_model


class Mean(ck.Module):
    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, x, mu):
        return dist.Normal(mu * x, 1.0)


@pytest.fixture
def plans(monkeypatch):
    """Counts the plans that are made."""
    made = []
    make = bridge_model.make_plan

    def counted(*args):
        made.append(args)
        return make(*args)

    monkeypatch.setattr(bridge_model, "make_plan", counted)
    return made


def log_prob(bound):
    return poutine.trace(poutine.condition(bound, {"mu": torch.tensor(0.5)})).get_trace().log_prob_sum()


def test_bound_models_used_in_turn_make_one_plan_each(plans):
    """Two bound models of one model that run in turn are looked at once each, and have their own densities."""
    model = ck.PyroModel(Mean().data)
    one, other = model.bind(torch.ones(3), obs=torch.zeros(3)), model.bind(torch.ones(5), obs=torch.ones(5))
    assert len(plans) == 2
    found = {(float(log_prob(one)), float(log_prob(other))) for _ in range(4)}
    assert len(plans) == 2
    assert len(found) == 1
    assert found.pop() == (
        pytest.approx(float(log_prob(Pair(3, 0.0)))),
        pytest.approx(float(log_prob(Pair(5, 1.0)))),
    )


class Pair:
    """The same model by hand."""

    def __init__(self, n, value):
        self.n, self.value = n, value

    def __call__(self):

        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("obs", dist.Normal(mu, 1.0).expand([self.n]).to_event(1), obs=torch.full((self.n,), self.value))


def test_a_bound_model_of_all_members_uses_the_same_plan(plans):
    """The whole of a subsampled bound model is not looked at again."""
    bound = ck.PyroModel(Mean().data, dims={"obs": ("rows",)}).bind(
        torch.ones(6), obs=torch.zeros(6), subsample_size={"rows": 6}
    )
    bound.whole()()
    assert len(plans) == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda bound: pickle.loads(pickle.dumps(bound))])
def test_copies_and_pickles_run(copied):
    """A copy or a pickle of a bound model has the same density."""
    bound = ck.PyroModel(Mean().data).bind(torch.ones(3), obs=torch.zeros(3))
    assert float(log_prob(copied(bound))) == float(log_prob(bound))


def test_an_edit_of_the_graph_is_seen():
    """A bound model follows the graph when a prior is replaced after binding."""
    module = Mean()
    bound = ck.PyroModel(module.data).bind(torch.ones(3), obs=torch.zeros(3))
    before = float(log_prob(bound))
    module.mu.prior = dist.Normal(0.0, 10.0)
    assert float(log_prob(bound)) != before
