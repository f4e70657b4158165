"""Load public modules on first use, and name the module that has a name which the top level lacks."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__all__ = ["__dir__", "__getattr__"]

MODULES = (
    "types",
    "traces",
    "tunnels",
    "handlers",
    "agents",
    "dialects",
    "exports",
    "fleets",
    "testing",
    "errors",
)
ON_FIRST_USE = {"ScriptedModel": "handlers"}
"""Names of the top level by the module that defines each: loaded when first asked for."""


def __getattr__(name: str) -> Any:
    """Load a public module or a name of one; raise with a hint for any other name (PEP 562).

    Raises:
        AttributeError: the top level has no such name. For `from triocept import …`, Python would replace the text.
        ImportError: the same, for `from triocept import …`.
    """
    if name in MODULES:
        return import_module(f"triocept.{name}")
    if name in ON_FIRST_USE:
        return getattr(import_module(f"triocept.{ON_FIRST_USE[name]}"), name)
    found = None if name.startswith("_") else _module_of(name)
    hint = f"; it is {found}.{name}" if found is not None else ""
    if hint and _is_from_import():
        raise ImportError(f"cannot import name {name!r} from 'triocept'{hint}", name="triocept")
    text = f"module 'triocept' has no attribute {name!r}{hint}"
    if hint:
        raise AttributeError(text, name=name)
    raise AttributeError(text, name=name, obj=sys.modules["triocept"])  # Python suggests a similar name


def __dir__() -> list[str]:
    """Return the names of the top level and its public modules, loaded or not, for completion."""
    return sorted({*vars(sys.modules["triocept"]), *MODULES, *ON_FIRST_USE})


def _module_of(name: str) -> str | None:
    modules = (f"triocept.{module}" for module in MODULES)
    return next((module for module in modules if name in import_module(module).__all__), None)


def _is_from_import() -> bool:
    try:
        return sys._getframe(2).f_code.co_name == "_handle_fromlist"
    except ValueError:  # no frame there: a thread that starts with `getattr`
        return False
