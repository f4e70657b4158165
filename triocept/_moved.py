"""What a name is told that the top level does not have, or has no more: in which module it is.

Nothing is loaded for it, and nothing is there that was not: `hasattr` says False, `import` fails.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["__getattr__"]

MODULES = (
    "nouns",
    "events",
    "traces",
    "tunnels",
    "services",
    "options",
    "handlers",
    "agents",
    "dialects",
    "exports",
    "testing",
    "errors",
)


def __getattr__(name: str) -> NoReturn:
    """See PEP 562; `triocept` has it.

    Raises:
        AttributeError: always; but for `from triocept import …`, of which Python would forget the text.
        ImportError: for that.
    """
    modules = (f"triocept.{module}" for module in MODULES)
    found = next(
        (module for module in modules if name in getattr(sys.modules.get(module), "__all__", ())), None
    )
    hint = f"; it is {found}.{name}" if found is not None else ""
    if hint and _is_from_import():
        raise ImportError(f"cannot import name {name!r} from 'triocept'{hint}", name="triocept")
    text = f"module 'triocept' has no attribute {name!r}{hint}"
    if hint:
        raise AttributeError(text, name=name)
    raise AttributeError(text, name=name, obj=sys.modules["triocept"])  # Python suggests one that is like it


def _is_from_import() -> bool:
    try:
        return sys._getframe(2).f_code.co_name == "_handle_fromlist"
    except ValueError:  # nobody's frame: a thread that begins with `getattr`
        return False
