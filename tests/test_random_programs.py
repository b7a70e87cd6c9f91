"""Random small programs compute, compiled, what torch computes."""

import tempfile
from pathlib import Path

import pytest
import torch
from compiled_forms import FORMS, compile_function
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operation_cases import FLOAT32, Pack
from random_programs import programs

TOGETHER = 60
"""So many programs are compiled as one function."""

QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


def small(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=QUIET, database=None)


def slopes_of_torch(pack, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(pack(z), z)[0]


def check(cases, form):
    """Compile programs together; each must give torch's values and slopes, as far as rounding lets these be told."""
    pack = Pack.of(cases)
    if not pack.cases:
        return
    with tempfile.TemporaryDirectory() as folder:
        run = compile_function(pack, pack.point, form, Path(folder) / "made", quick=True)
        found = run(pack.point)[1]
    expected = slopes_of_torch(pack, pack.point)
    if not pack.wrong(found, expected):
        return
    # A comparison of what was rounded comes out either way: then other last digits of the operands move torch's results, too.
    generator = torch.Generator().manual_seed(0)
    single = any(case.single for case, *_ in pack.cases)
    size = 1e-6 if single else 1e-13
    moved = torch.zeros_like(expected)
    for _ in range(4):
        signs = torch.randint(0, 2, pack.point.shape, generator=generator) * 2.0 - 1
        other = slopes_of_torch(pack, pack.point * (1 + size * signs))
        moved = torch.maximum(moved, torch.nan_to_num((other - expected).abs(), torch.inf, torch.inf))
        moved[torch.isnan(other) != torch.isnan(expected)] = torch.inf
    near = torch.nan_to_num((found - expected).abs(), torch.inf, torch.inf) <= 100 * moved
    settled = torch.where(near, expected, found)
    wrong = pack.wrong(settled, expected)
    assert not wrong, "\n".join(wrong[:5])


@pytest.mark.parametrize("form", FORMS)
def test_random_programs(form):
    """Some hundred of them."""

    @small(3)
    @given(st.lists(programs(), min_size=TOGETHER, max_size=TOGETHER))
    def some(cases):
        check(cases, form)

    some()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_thousands_of_random_programs(form):
    """Some thousand of them."""

    @small(40)
    @given(st.lists(programs(), min_size=TOGETHER, max_size=TOGETHER))
    def many(cases):
        check(cases, form)

    many()


@pytest.mark.parametrize("form", FORMS)
def test_random_programs_in_a_single_density(form):
    """A density in single precision keeps the types of what it computes with."""

    @small(1)
    @given(st.lists(programs(), min_size=TOGETHER, max_size=TOGETHER))
    def some(cases):
        pack = Pack.of(cases, FLOAT32)
        with tempfile.TemporaryDirectory() as folder:
            run = compile_function(pack, pack.point, form, Path(folder) / "made", quick=True)
            assert run(pack.point)[1].dtype == FLOAT32

    some()
