"""Packages that an extra of ours brings: imported when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def optional(module: str, what: str, extra: str) -> Any:
    """A module of such a package.

    Args:
        module: its name.
        what: what needs it, in the plural.
        extra: the extra of triocept that installs it.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        package = module.partition(".")[0]
        text = f"{what} need the package {package}: pip install 'triocept[{extra}]'"
        raise ModuleNotFoundError(text, name=exc.name) from exc
