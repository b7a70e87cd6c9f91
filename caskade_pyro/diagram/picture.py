"""The object that drawing returns."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

import graphviz

from ..errors import MissingDependencyError
from .mermaid import mermaid
from .output import FORMATS, rendered, write
from .page import fragment, page
from .specification import Diagram

__all__ = ["Picture"]


class Picture(graphviz.Digraph):  # type: ignore[misc]
    """A `graphviz.Digraph` that also renders, and shows itself in a notebook, where no ``dot`` is installed.

    Attributes:
        specification: What the picture shows, in plain data.
    """

    specification: Diagram | None = None

    def save_as(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file.

        Args:
            path: Its ending is the format: ``.svg``, ``.png``, ``.pdf``, ``.html``, ``.dot`` or ``.mmd`` (Mermaid).

        Returns:
            The path.

        Raises:
            CaskadeException: The ending is none of these, or Graphviz cannot draw it.
            MissingDependencyError: Neither Graphviz nor pygraphviz is installed.
        """
        texts = {".mmd": self.mermaid, ".html": self.html, ".htm": self.html}
        text = texts.get(Path(path).suffix.lower())
        if text is None:
            return write(self.source, path)
        Path(path).write_text(text(), encoding="utf-8")
        return Path(path)

    def mermaid(self) -> str:
        """The picture as a Mermaid flowchart, which web pages and README files draw themselves."""
        return "" if self.specification is None else mermaid(self.specification)

    def html(self) -> str:
        """The picture as a page of its own, with all nodes written out under it.

        It needs no other file and no network. Where no Graphviz is installed it shows boxes without arrows.
        """
        if self.specification is None:
            return ""
        try:
            svg = rendered(self.source, "svg").decode()
        except MissingDependencyError:
            svg = None
        return page(self.specification, svg)

    def pipe(self, format: str | None = None, *args: Any, encoding: str | None = None, **options: Any) -> Any:  # noqa: A002
        """The picture in a format, as bytes, or as a string if an encoding is given; see `graphviz.Digraph.pipe`."""
        wanted = format or self.format
        if args or any(options.values()) or wanted not in FORMATS:
            return super().pipe(format, *args, encoding=encoding, **options)
        data = rendered(self.source, wanted)
        return data if encoding is None else data.decode(encoding)

    def render(
        self,
        filename: str | os.PathLike[str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        view: bool = False,
        cleanup: bool = False,
        format: str | None = None,  # noqa: A002
        **options: Any,
    ) -> str:
        """Write the source and the picture; see `graphviz.Digraph.render`. `save_as` writes the picture alone."""
        wanted = format or self.format
        if view or any(options.values()) or wanted not in FORMATS:
            return str(
                super().render(filename, directory=directory, view=view, cleanup=cleanup, format=format, **options)
            )
        source = Path(self.save(filename, directory=directory))
        path = source.with_name(f"{source.name}.{wanted}")
        path.write_bytes(rendered(self.source, wanted))
        if cleanup:
            source.unlink()
        return str(path)

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, bytes | str]:
        """What a notebook shows: the picture, or where nothing can draw it, boxes and what to install for more."""
        try:
            return dict(super()._repr_mimebundle_(*args, **kwargs))
        except MissingDependencyError as error:
            found: dict[str, bytes | str] = {"text/plain": str(error)}
            if self.specification is not None:
                found["text/html"] = f"{fragment(self.specification)}<p><small>{escape(str(error))}</small></p>"
            return found
