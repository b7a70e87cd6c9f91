"""Every operation that is compiled computes what torch computes, whatever the kinds of its operands and at their edges."""

import random

import pytest
import torch
from compiled_forms import FORMS, OPERATIONS, compile_function
from operation_cases import FEW, FLOAT32, FLOAT64, MANY, Called, Pack, possible
from operation_examples import EXAMPLES

GROUPS = 8
"""So many functions hold some of the cases of all operations."""

PART = 6
"""One of so many cases of an operation is in them, but no less than this number of cases; all of them are in the slow tests."""

NORMALISED = {"_to_copy", "contiguous", "isfinite", "reshape", "arange", "copy", "split"}
"""Operations that torch calls by other names when no transform is at work, and by these in one."""


def test_every_operation_has_examples_that_call_it():
    """No row of the compiler's table is without examples, and these call what they are for."""
    missing = OPERATIONS - EXAMPLES.keys()
    assert not missing
    for name in OPERATIONS - NORMALISED:
        called = Called()
        for case, _ in possible(list(EXAMPLES[name](FEW))[:40]):
            with called:
                case.call(*[one.tensor() for one in case.operands])
        assert name in called.names, name


@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("form", FORMS)
def test_operations_compute_what_torch_computes(form, group, tmp_path):
    """Values and slopes of all operations are torch's, in double precision, for some kinds and values of operands."""
    cases = []
    for name in sorted(EXAMPLES)[group::GROUPS]:
        own = list(EXAMPLES[name](FEW))
        cases += random.Random(name).sample(own, min(len(own), max(PART, len(own) // PART)))
    check(cases, form, FLOAT64, tmp_path, quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_operations_compute_what_torch_computes_for_all_kinds_of_operands(name, form, dtype, tmp_path):
    """Values and slopes are torch's for every combination of kinds of operands, in a density in double or single precision."""
    cases = list(EXAMPLES[name](MANY))
    for begin in range(0, len(cases), 100):
        check(cases[begin : begin + 100], form, dtype, tmp_path / str(begin))


def check(cases, form, dtype, folder, quick=False):
    """Compile cases as one function, and compare what it gives with torch."""
    folder.mkdir(exist_ok=True)
    pack = Pack.of(cases, dtype)
    _, gradient = compile_function(pack, pack.point, form, folder / "made", quick)(pack.point)
    z = pack.point.clone().requires_grad_()
    (expected,) = torch.autograd.grad(pack(z), z)
    wrong = pack.wrong(gradient, expected)
    assert not wrong, "\n".join(wrong)
