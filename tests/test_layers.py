"""Imports between the layers of the package go one way only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "caskade_pyro"
ROOT = Path(__file__).parents[1] / PACKAGE

# For each layer, from the lowest up, the layers that it may import.
ALLOWED = {
    "errors": set(),
    "graph": {"errors"},
    "diagram": {"errors", "graph"},
    "bridge": {"errors", "graph"},
    "compiler": {"errors"},
    "density": {"errors", "graph", "bridge", "compiler"},
    "inference": {"errors", "graph", "bridge", "compiler", "density"},
    "results": {"errors", "graph", "bridge", "compiler", "density", "inference"},
}
WITHOUT_PYRO = {"errors", "graph", "diagram", "compiler"}
TABLE_OF_CONTENTS = {"__init__", "__main__"}  # at the top of the package these may import anything


def imported(source: str, path: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the full dotted name of everything that a file imports, wherever the import stands.

    `path` is the file's, relative to the folder of the package; relative imports are resolved against it.
    Since a name imported from a package may be a module of it, `from a import b` yields `a.b`.
    """
    package = (PACKAGE, *Path(path).parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) + 1 - node.level] if node.level else ()
            base = [*anchor, *filter(None, [node.module])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def wrong_arrows(source: str, path: str) -> list[str]:
    """Return a line of text for each import of a file that its layer may not make."""
    layer = Path(path).parts[0].removesuffix(".py")
    if layer in TABLE_OF_CONTENTS:
        return []
    if layer not in ALLOWED:
        return [f"{path}: {layer!r} is no layer; expected one of {', '.join(ALLOWED)}"]
    found = []
    for line, name in imported(source, path):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == PACKAGE and target not in ALLOWED[layer] | {layer}:
            found.append(f"{path}:{line}: {layer} must not import {name}")
        if top == "pyro" and layer in WITHOUT_PYRO:
            found.append(f"{path}:{line}: {layer} must not know Pyro")
    return found


def files() -> list[str]:
    """Return the paths of the package's files, relative to its folder."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def test_the_package_is_found():
    """The checks below look at the files of the package, not at an empty folder."""
    assert "__init__.py" in files()


@pytest.mark.parametrize("path", files())
def test_imports_go_one_way(path):
    """Every file imports only from its own layer and from those below."""
    assert wrong_arrows((ROOT / path).read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bridge/model.py", "from ..graph import Module"),
        ("bridge/model.py", "from .. import errors, graph"),
        ("bridge/model.py", "from . import sites"),
        ("bridge/__init__.py", "from .model import PyroModel"),
        ("bridge/__init__.py", "from ..graph.param import Param"),
        ("bridge/handlers/noise.py", "from ...graph import Param"),
        ("bridge/model.py", "import caskade_pyro.graph.param as param"),
        ("bridge/model.py", "from caskade_pyro import graph"),
        ("bridge/model.py", "import pyro\nfrom pyro import distributions"),
        ("errors.py", "import torch"),
        ("density.py", "from .bridge import PyroModel"),
        ("graph/node.py", "import pyrotechnics\nimport caskade_pyrotechnics.results"),
        ("__init__.py", "from .results import point\nimport caskade_pyro.inference"),
        ("__main__.py", "from . import results"),
    ],
)
def test_a_right_arrow_passes(path, source):
    """An import from the file's own layer, from one below or by the table of contents is right."""
    assert wrong_arrows(source, path) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("graph/node.py", "from ..bridge import PyroModel"),
        ("graph/node.py", "from .. import bridge"),
        ("graph/__init__.py", "from ..bridge.model import PyroModel"),
        ("graph/state/store.py", "from ...results import point"),
        ("graph/node.py", "import caskade_pyro.bridge.model"),
        ("graph/node.py", "import torch, caskade_pyro.bridge as bridge"),
        ("graph/node.py", "from caskade_pyro import bridge"),
        ("graph/node.py", "from caskade_pyro.bridge import PyroModel"),
        ("graph/node.py", "def late():\n    from ..bridge import PyroModel"),
        ("graph/node.py", "if TYPE_CHECKING:\n    from ..bridge import PyroModel"),
        ("errors.py", "from .graph import Param"),
        ("errors/__init__.py", "from ..graph import Param"),
        ("bridge/model.py", "from ..diagram import draw"),
        ("diagram/draw.py", "from ..bridge import PyroModel"),
        ("results/plots.py", "from ..diagram import draw"),
    ],
)
def test_a_wrong_arrow_is_found(path, source):
    """An import from a layer above or beside is found in each form that an import can take."""
    assert len(wrong_arrows(source, path)) == 1


@pytest.mark.parametrize(
    "source",
    ["import caskade_pyro", "from caskade_pyro import Param", "from .. import Param", "from .. import *"],
)
def test_the_top_of_the_package_is_above_every_layer(source):
    """A layer may not import from the package's table of contents, which imports every layer."""
    assert len(wrong_arrows(source, "results/plots.py")) == 1


@pytest.mark.parametrize("source", ["import pyro", "import pyro.poutine as poutine", "from pyro import sample"])
@pytest.mark.parametrize("path", ["errors.py", "graph/param.py", "diagram/draw.py"])
def test_pyro_is_found_below_the_bridge(path, source):
    """The layers that describe and draw a graph know nothing of Pyro."""
    assert len(wrong_arrows(source, path)) == 1


@pytest.mark.parametrize("path", ["_utils.py", "helpers/shapes.py"])
def test_a_file_beside_the_layers_is_found(path):
    """A helper module at the top of the package belongs to no layer, so no rule would hold for it."""
    assert len(wrong_arrows("", path)) == 1
