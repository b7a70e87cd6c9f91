"""What the tests of compiled operations need of the compiler: which there are, and functions compiled in each form.

All that these tests know of how code is made stands here.
"""

import json
from unittest import mock

import pytest

from caskade_pyro.compiler import cpp, ir, library, trace_program
from caskade_pyro.compiler.cpp import loops_are_fast
from caskade_pyro.compiler.ops import OPERATIONS as TABLE
from caskade_pyro.compiler.ops import PARTS
from caskade_pyro.compiler.passes import from_graph
from caskade_pyro.errors import CompilationError

FORMS = (
    ("scalars", "loops")
    if loops_are_fast()
    else ("scalars", pytest.param("loops", marks=pytest.mark.skip("Inductor's here")))
)
"""The ways in which code is written."""

OPERATIONS = TABLE.keys() - PARTS
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
    inputs = 10**6 if form == "scalars" else 0
    flags = tuple("-O0" if quick and flag == "-O1" else flag for flag in cpp.SCALAR_FLAGS)
    try:
        # A function of many cases is larger than what is sensibly written out.
        with (
            mock.patch.multiple(cpp, MOST_INPUTS=inputs, FEW_LINES=10**6, MOST_LINES=10**6, MOST_STEPS=10**6),
            mock.patch.multiple(from_graph, MOST_STEPS=10**6, MOST_PIECES=10**6),
            mock.patch.object(ir, "MOST_TABLED", 10**6),
            mock.patch.object(cpp, "SCALAR_FLAGS", flags),
        ):
            library._make(program, folder, inductor=False)
    except CompilationError as error:
        raise CannotBeWritten(str(error)) from error
    plan = json.loads((folder / "plan.json").read_text())
    return library.Native(folder / f"density{library._suffix()}", plan, program).run
