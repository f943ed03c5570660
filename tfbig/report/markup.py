"""HTML and SVG built from elements: always closed, always escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = ("br", "meta")


class Markup(str):
    """Text that is markup already; any other text is escaped where it is put in."""


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """`<tag attributes>children</tag>`.

    Args:
        children: markup as it is, everything else as escaped text.
        attributes: `class_` and `for_` lose the underscore, other underscores become hyphens; None leaves one
            out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{joined(children)}</{tag}>")


def joined(parts: Iterable[object]) -> Markup:
    """The parts one after the other."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(str(p), quote=False) for p in parts))
