"""What the compiler uses of torch that is not public is where it was."""

import ast
from pathlib import Path

import pytest
import torch

from caskade_pyro.compiler import torch_internals

ROOT = Path(torch_internals.__file__).parents[1]

SAID = f"torch {torch.__version__} has changed what caskade_pyro/compiler/torch_internals.py uses"


def test_what_is_used_is_there():
    """Every private part of torch can be imported, and the tables of decompositions hold operations."""
    try:
        parts = torch_internals.inductor()
        tables = torch_internals.simpler_operations()
    except (ImportError, AttributeError, KeyError) as error:
        pytest.fail(f"{SAID}: {error}")
    assert callable(parts.compile_fx_inner), SAID
    assert torch.ops.aten.addmm.default in tables["core"] | tables["all"], SAID


def test_the_version_is_one_that_was_tried():
    """A torch beyond the upper bound of the requirements has not been tried."""
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    assert (2, 6) <= (major, minor) < (2, 14), "try the tests with this version, then move the bound in pyproject.toml"


def _private(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        for name in names:
            if name.startswith("torch.") and any(part.startswith("_") for part in name.split(".")):
                yield f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"


def test_nothing_else_of_the_compiler_is_private():
    """No other file of the compiler imports what torch does not show."""
    files = [path for path in ROOT.glob("compiler/**/*.py") if path.name != "torch_internals.py"]
    assert [line for path in files for line in _private(path)] == []
