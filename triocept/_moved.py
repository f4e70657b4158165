"""Load public modules on first use. If a requested name or module has moved, the error names its new place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dis import opmap
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import FrameType, MappingProxyType, ModuleType
from typing import Any, NoReturn

MODULES = (
    "types",
    "traces",
    "tunnels",
    "handlers",
    "agents",
    "dialects",
    "exports",
    "fleets",
    "evaluation",
    "testing",
    "errors",
)
"""The public modules. A missing name is searched in these modules in this order."""
ON_FIRST_USE = {"ScriptedModel": "handlers", "evaluate": "evaluation"}
"""Names of the package `triocept` that are loaded on first use, each with its module."""
_KIT = (
    *("CUSTOM_SCHEMA", "HERE", "LINE_FRAMES", "OVERFLOW", "SDK", "SSE", "SSE_FRAMES", "CountCalls"),
    *("Earlier", "Embeddings", "Fields", "FittedCall", "FrameEnd", "LineDecoder", "Memory"),
    *("Moderations", "Pairing", "ParseRequest", "PartEvent", "PartSequence", "ProviderCall", "SSEDecoder"),
    *("SideBody", "SideCall", "TokenCount", "Verdict", "as_content", "bearer", "budget_for"),
    *("counted_by", "custom_names", "data_url", "decode_json", "effort_for", "encode_json"),
    *("encode_line", "encode_sse", "encode_text", "error_of", "error_text", "events_pattern", "fitted_call"),
    *("fresh_id", "gather", "in_result", "is_overflow", "is_same_dialect", "legal_id"),
    *("media_type_of", "merged", "object_of", "pack", "parse_content", "portable"),
    *("refuse_token_ids", "render_models", "settled_stop", "short_id"),
    *("split_data_url", "status_of", "text_of", "unpack"),
)
_SCRIPTS = ("AskedJSON", "Fault", "Stream", "Template", "Timing", "chaos", "otherwise", "paced", "when")
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "triocept.nouns": "triocept.types",
        "triocept.events": "triocept.types",
        "triocept.options": "triocept.types",
        "triocept.services": "triocept.types",
        "triocept.agents.kimi_cli": "triocept.agents.kimi_code (the newest version of kimi-cli does nothing)",
        **{
            f"triocept.fleets.{name}": f"triocept.fleets.Outcome.{name}"
            for name in ("Error", "Lost", "Stopped", "Value")
        },
        "triocept.testing.be_the_model": "triocept.testing.fake_model",
        "triocept.testing.steady": "triocept.testing.normalize",
        "triocept.handlers.Refusal": "triocept.Refusal",
        **{f"triocept.testing.{name}": f"triocept.handlers.{name}" for name in _SCRIPTS},
        "triocept.traces.TraceTaker": "triocept.traces.TraceLease",
        "triocept.traces.take_traces": "triocept.traces.lease_traces",
        "triocept.dialects.Increments": "triocept.dialects.kit.EventBuilder",
        "triocept.dialects.kit.Increments": "triocept.dialects.kit.EventBuilder",
        **{f"triocept.dialects.{name}": f"triocept.dialects.kit.{name}" for name in _KIT},
    }
)
"""Names and modules of earlier versions, and names that users expect in another module, each with its present place."""


def __getattr__(name: str) -> Any:
    """Load a public module, or a name in one, on first use; for any other name, raise with a hint (PEP 562).

    Raises:
        AttributeError: the package `triocept` has no such name.
        ImportError: `from triocept import NAME` names no such name. An AttributeError would not do here, because Python
            would replace its text.
    """
    if name in MODULES:
        return import_module(f"triocept.{name}")
    if name in ON_FIRST_USE:
        return getattr(import_module(f"triocept.{ON_FIRST_USE[name]}"), name)
    place = RENAMED.get(f"triocept.{name}")
    for module in MODULES if not name.startswith("_") else ():
        if name in import_module(f"triocept.{module}").__all__:
            place = f"triocept.{module}.{name}"
            break
    return _raise_missing("triocept", name, place)


def __dir__() -> list[str]:
    """Return the names of the package `triocept`, including those that are not loaded yet, for completion."""
    return sorted({*vars(sys.modules["triocept"]), *MODULES, *ON_FIRST_USE})


def hints_of(module: str) -> Callable[[str], NoReturn]:
    """Return a `__getattr__` for a public module. Its error names the new place of a renamed name."""
    return lambda name: _raise_missing(module, name, RENAMED.get(f"{module}.{name}"))


def _raise_missing(module: str, name: str, place: str | None) -> NoReturn:
    hint = f"; it is now {place}" if place is not None else ""
    if hint and _is_from_import():
        raise ImportError(f"cannot import name {name!r} from {module!r}{hint}", name=module)
    text = f"module {module!r} has no attribute {name!r}{hint}"
    if hint:
        raise AttributeError(text, name=name)
    raise AttributeError(text, name=name, obj=sys.modules[module])  # Python suggests a similar name


def _is_from_import() -> bool:
    """Return True if `__getattr__` was called by a `from … import` statement.

    importlib calls the `__getattr__` of a package. The statement itself calls the `__getattr__` of a module.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_name == "__getattr__" or frame.f_globals.get("__name__") == __name__
    ):
        frame = frame.f_back
    if frame is None:
        return False
    code = frame.f_code
    return code.co_name == "_handle_fromlist" or code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]


class _MovedModules(MetaPathFinder):
    """Last finder of `sys.meta_path`, which raises an error with the new place of a module that has moved."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name in RENAMED:
            raise ModuleNotFoundError(f"there is no module {name!r}; it is now {RENAMED[name]}", name=name)


sys.meta_path.append(_MovedModules())
