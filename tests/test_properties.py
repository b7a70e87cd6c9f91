"""Properties of random graphs: calls, values and edits, against loops over the members written out."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_graphs import build, plans

import caskade_pyro as ck

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
X = 0.4


def close(result, expected):
    torch.testing.assert_close(result, torch.as_tensor(expected, dtype=torch.float64))


@settings(max_examples=150)
@given(plan=plans(groups=True), numbers=seeds)
def test_a_call_is_the_loop_over_all_members(plan, numbers):
    """Params given as a vector, a list or a dict, or held by the graph, give what loops without any vmap give."""
    graph = build(plan)
    x = torch.tensor(X, dtype=torch.float64)
    values = graph.values(numbers)
    for form in ("vector", "list", "dict"):
        close(graph.root.total(x, params=graph.form(values, form)), graph.reference(X, values))
    close(graph.root.total(x), graph.reference(X, graph.stored()))
