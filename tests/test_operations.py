"""Every operation that is compiled computes what torch computes, whatever the kinds of its operands and at their edges."""

import random

import pytest
import torch
from compiled_forms import FORMS, OPERATIONS, CannotBeWritten, compile_function
from operation_cases import FLOAT32, FLOAT64, Called, Pack, possible
from operation_examples import EXAMPLES

GROUPS = 10
"""So many functions hold the cases of all operations."""


def test_every_operation_has_examples_that_call_it():
    """No row of the compiler's table is without examples, and these call what they are for."""
    missing = OPERATIONS - EXAMPLES.keys()
    assert not missing
    for name in OPERATIONS:
        called = Called()
        for case, _ in possible(list(EXAMPLES[name](3))[:4]):
            with called:
                case.call(*[one.tensor() for one in case.operands])
        assert name in called.names | {"contiguous", "isfinite", "reshape", "arange"}


@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("form", FORMS)
def test_operations_compute_what_torch_computes(form, group, tmp_path):
    """Values and slopes of all operations are torch's, in double precision."""
    check(form, sorted(EXAMPLES)[group::GROUPS], FLOAT64, 3, tmp_path)


def check(form, names, dtype, many, folder):
    pack = Pack.of([case for name in names for case in EXAMPLES[name](many)], dtype)
    run = compile_function(pack, pack.point, form, folder / "made")
    _, gradient = run(pack.point)
    z = pack.point.clone().requires_grad_()
    (expected,) = torch.autograd.grad(pack(z), z)
    wrong = pack.wrong(gradient, expected)
    assert not wrong, "\n".join(wrong)
