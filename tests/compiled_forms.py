"""What the tests of compiled operations need of the compiler: the operations that it writes, and functions in each form.

All that these tests know of how code is made stands here.
"""

import json
from unittest import mock

import pytest

from caskade_pyro.density import loop_steps, native, scalar_code
from caskade_pyro.density.loop_code import loops_are_fast, write_loops
from caskade_pyro.density.loop_steps import StepWriter
from caskade_pyro.density.program import trace_program
from caskade_pyro.density.scalar_code import write_scalars
from caskade_pyro.density.scalar_operations import CHECKS, PLAIN, SAME, WRITTEN
from caskade_pyro.density.scalar_views import VIEWS, NotSmallError

WRITERS = {"scalars": write_scalars, "loops": write_loops}

FORMS = tuple(
    form if form == "scalars" or loops_are_fast() else pytest.param(form, marks=pytest.mark.skip("Inductor's here"))
    for form in WRITERS
)
"""The ways in which code is written."""

# A check of a factorisation gives nothing.
OPERATIONS = {*PLAIN, *SAME, *WRITTEN, *VIEWS, *StepWriter.written, *StepWriter.views} - CHECKS
"""The names of the operations of `torch.ops.aten` that are written."""


class CannotBeWritten(Exception):
    """The form has no code for the function."""


def compile_function(function, point, form, folder, quick=False):
    """A function R^n -> R as machine code.

    Args:
        function: Of a vector in double or single precision; it may read constants of any kind.
        point: A vector.
        form: One of `FORMS`.
        folder: A new folder to make the code in.
        quick: Whether the C++ compiler is to take little time over code without loops.

    Returns:
        From a vector to the value and the gradient.

    Raises:
        CannotBeWritten: The form has no code for it.
    """
    program = trace_program(function, point)

    flags = tuple("-O0" if quick and flag == "-O1" else flag for flag in scalar_code.FLAGS)

    def write(*_):
        return WRITERS[form](program)

    try:
        # A function of many cases is larger than what is sensibly written out.
        with (
            mock.patch.multiple(scalar_code, MOST_INPUTS=10**6, FEW_LINES=10**6, MOST_LINES=10**6, FLAGS=flags),
            mock.patch.multiple(loop_steps, MOST_PIECES=10**6, MOST_STEPS=10**6, MOST_TABLED=10**6),
            mock.patch.object(native, "_lowered", write),
        ):
            native._make(program, folder)
    except NotSmallError as error:
        raise CannotBeWritten(str(error)) from error
    plan = json.loads((folder / "plan.json").read_text())
    return native.Native(folder / f"density{native._suffix()}", plan, program).run
