"""Which line of a user's simulator an error comes from."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

import pyro
import torch

__all__ = ["users_line"]

NOT_THE_USERS = tuple(
    str(Path(folder).resolve())
    for folder in (
        Path(__file__).parents[1],
        Path(torch.__file__).parent,
        Path(pyro.__file__).parent,
        sysconfig.get_paths()["stdlib"],
        sysconfig.get_paths()["purelib"],
        sysconfig.get_paths()["platlib"],
    )
)
"""Folders of the package, of torch and of Python."""


def users_line(error: BaseException) -> str:
    """Where the innermost line of a user's code stands that an error went through, with its text; empty if there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        written = not frame.filename.startswith("<") or frame.filename.startswith("<ipython")
        if written and not str(Path(frame.filename).resolve()).startswith(NOT_THE_USERS):
            text = f": `{frame.line}`" if frame.line else ""
            return f" at {_shortened(frame.filename)}:{frame.lineno}{text}"
    return ""


def _shortened(name: str) -> str:
    """A path as it stands under a folder of Python's, or its last part."""
    for folder in sorted(sys.path, key=len, reverse=True):
        if folder and name.startswith(folder.rstrip("/") + "/"):
            return name[len(folder.rstrip("/")) + 1 :]
    return Path(name).name
