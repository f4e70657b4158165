"""Packages of triocept's extras, imported when used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def optional(module: str, what: str, extra: str) -> Any:
    """Return a module of an optional package.

    Args:
        module: name of the module.
        what: the feature that needs it, in the plural.
        extra: the extra of triocept that installs it.

    Raises:
        ModuleNotFoundError: the package is not installed; the message names the extra to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        package = module.partition(".")[0]
        text = f"{what} need the package {package}: pip install 'triocept[{extra}]'"
        raise ModuleNotFoundError(text, name=exc.name) from exc
