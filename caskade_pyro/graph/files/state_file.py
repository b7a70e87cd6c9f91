"""How the states of a graph lie in an HDF5 file.

A node is a group, its links are the group's links, so a shared node is stored once and found at all its places. A param's
group holds the dataset ``value`` (the text ``None`` where there is no value), with the attributes ``node_type``,
``appendable``, ``cyclic``, ``dtype`` and, where they exist, ``units``, ``valid_left`` and ``valid_right``. In an appendable
file the first dim of ``value`` counts the states.

How many states are complete stands in one attribute of the topmost group, which each save and append writes last. Rows
beyond that number come from an append that broke off: readers do not see them, and the next append overwrites them. A
file given by its path is never changed in place: its successor is written beside it and then takes its name in one step.

Files of the package ``caskade`` can be read as well. They have no such number, so all their rows count.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import MissingDependencyError, StateFileError, StateFormatError

__all__ = [
    "COUNT",
    "RESERVED",
    "Stored",
    "as_path",
    "count_states",
    "decode",
    "encode",
    "h5",
    "opened",
    "read",
    "replacing",
    "write",
    "write_row",
]

COUNT = "caskade_pyro_states"
RESERVED = ("value", "valid_left", "valid_right")
_NOTHING = "None"
_LARGEST_ATTRIBUTE = 32_000  # bytes; HDF5 takes up to 64 kB in a group's header
_CHUNK = 4096  # bytes; HDF5 allots whole chunks, also for the one row of a fresh file
_DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
}


@dataclass(frozen=True)
class Stored:
    """What a file says of a param.

    Attributes:
        role: ``static``, ``dynamic`` or ``pointer``.
        value: The value in one state; None if it has none.
        appendable: Whether there is a value for each state.
        valid: The bounds.
        cyclic: Whether the valid range is a circle.
        units: Of the value.
    """

    role: str
    value: Tensor | None
    appendable: bool
    valid: tuple[Tensor | None, Tensor | None]
    cyclic: bool
    units: str | None


def h5() -> Any:
    """The package ``h5py``, which is optional.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError(
            "Saving and loading states needs the package h5py: pip install caskade_pyro[hdf5]"
        ) from None
    return h5py


# Files


def as_path(target: object) -> Path | None:
    """The path of a file that was given by its name; None for an open file.

    Raises:
        StateFormatError: The name has another ending than ``.h5`` or ``.hdf5``.
        StateFileError: It is neither a name nor an open HDF5 file.
    """
    if isinstance(target, (str, os.PathLike)):
        path = Path(os.fspath(target))
        if path.suffix.lower() not in (".h5", ".hdf5"):
            raise StateFormatError(f"States are kept in HDF5 files, named *.h5 or *.hdf5; got {str(path)!r}.")
        return path.resolve()
    if isinstance(target, h5().Group):
        return None
    raise StateFileError(f"States are kept in an HDF5 file: its name or an open h5py.File, not {target!r}.")


@contextmanager
def opened(target: object, **options: Any) -> Iterator[Any]:
    """A file to read, given by its name or open already.

    Raises:
        FileNotFoundError: There is no such file.
        StateFileError: It is no HDF5 file.
    """
    path = as_path(target)
    if path is None:
        yield target
        return
    with _hdf5(path, "r", **options) as file:
        yield file


def _hdf5(path: Path, mode: str, **options: Any) -> Any:
    h5py = h5()
    try:
        return h5py.File(path, mode, **options)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StateFileError(f"{str(path)!r} cannot be opened as an HDF5 file: {error}") from None


@contextmanager
def replacing(path: Path, copied: bool) -> Iterator[Any]:
    """An open HDF5 file that takes the place of ``path`` when the block ends well; otherwise ``path`` stays as it is.

    Args:
        path: The file.
        copied: Start from a copy of it, rather than from an empty file.

    Raises:
        StateFileError: Someone else changed the file in the meantime.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        before = _identity(path)
        if copied:
            shutil.copy(path, new)
        with _hdf5(new, "r+" if copied else "x") as file:
            yield file
        with new.open("rb+") as written:
            os.fsync(written.fileno())
        if copied and _identity(path) != before:
            raise StateFileError(f"{str(path)!r} was changed by someone else during this append; append once more.")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, ...] | None:
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def count_states(group: Any, datasets: list[Any]) -> int:
    """How many complete states the group of a graph holds."""
    if COUNT in group.attrs:
        return int(group.attrs[COUNT])
    rows = [dataset.shape[0] for dataset in datasets if dataset.attrs.get("appendable", False) and dataset.ndim]
    return min(rows, default=1)


# Params


def write(group: Any, stored: Stored) -> None:
    """Write a param into its group, the value as that of the first state."""
    if stored.value is None:
        dataset = group.create_dataset("value", data=_NOTHING)
    else:
        array = _array(stored.value)
        dataset = _first_row(group, array) if stored.appendable else group.create_dataset("value", data=array)
        dataset.attrs["dtype"] = str(stored.value.dtype).removeprefix("torch.")
    dataset.attrs["node_type"] = stored.role
    dataset.attrs["appendable"] = stored.appendable
    dataset.attrs["cyclic"] = stored.cyclic
    if stored.units is not None:
        dataset.attrs["units"] = str(stored.units)
    for name, bound in zip(RESERVED[1:], stored.valid, strict=True):
        if bound is not None and bound.nbytes <= _LARGEST_ATTRIBUTE:
            dataset.attrs[name] = _array(bound)
        elif bound is not None:
            group.create_dataset(name, data=_array(bound))


def _first_row(group: Any, array: np.ndarray[Any, Any]) -> Any:
    rows = max(1, min(128, _CHUNK // max(1, array.nbytes)))
    return group.create_dataset(
        "value",
        data=array[None],
        chunks=(rows, *(size or 1 for size in array.shape)),
        maxshape=(None, *(size or None for size in array.shape)),  # a chunk cannot have a fixed dim of 0
    )


def write_row(group: Any, value: Tensor, row: int) -> None:
    """Write the value of a further state, over what a broken append may have left there."""
    dataset = group["value"]
    dataset.resize((row + 1, *dataset.shape[1:]))
    dataset[row] = _array(value)


def read(group: Any, row: int) -> Stored:
    """What the group of a param says of one state."""
    dataset = group["value"]
    attributes = dataset.attrs
    appendable = bool(attributes.get("appendable", False))
    value: Tensor | None = None
    if dataset.dtype.kind != "O":
        raw = dataset[row] if appendable else dataset[()]
        value = _tensor(raw, _text(attributes.get("dtype", "")))
    units = _text(attributes["units"]) if "units" in attributes else None
    low, high = (_bound(group, name) for name in RESERVED[1:])
    return Stored(
        role=_role(_text(attributes.get("node_type", ""))),
        value=value,
        appendable=appendable,
        valid=(low, high),
        cyclic=bool(attributes.get("cyclic", False)),
        units=None if units == _NOTHING else units,
    )


def _bound(group: Any, name: str) -> Tensor | None:
    if name in group["value"].attrs:
        return _tensor(group["value"].attrs[name], "")
    return _tensor(group[name][()], "") if name in group else None


def _role(text: str) -> str:
    """The role in what a file says, where the package ``caskade`` may add words to it."""
    return next((role for role in ("pointer", "dynamic", "static") if role in text), text)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).resolve_conj().resolve_neg().numpy()


def _tensor(raw: Any, dtype: str) -> Tensor:
    array = np.array(raw)
    tensor = torch.as_tensor(array.astype(array.dtype.newbyteorder("=")))
    return tensor.to(_DTYPES.get(dtype, tensor.dtype))


def _text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)


# Attributes that users ask to save


def encode(value: Any) -> Any:
    """An attribute of a node as HDF5 takes it."""
    if value is None:
        return h5().Empty("S1")
    return _array(value) if isinstance(value, Tensor) else value


def decode(raw: Any, present: Any, foreign: bool) -> Any:
    """An attribute from a file, of the kind that the node has at present; ``foreign`` is a file of the package ``caskade``."""
    if isinstance(raw, h5().Empty) or (foreign and isinstance(raw, str) and raw == "NONE"):
        return None
    if isinstance(raw, bytes):
        return raw.decode()
    if isinstance(present, Tensor):
        return torch.as_tensor(np.asarray(raw), dtype=present.dtype, device=present.device)
    if isinstance(raw, np.generic):
        return raw.item()
    kinds: tuple[Callable[[Any], Any], ...] = (list, tuple)
    return type(present)(raw.tolist()) if type(present) in kinds else raw
