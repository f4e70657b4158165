"""Find or create the cassette (recorded calls) of a test: its file, its record mode, and the upstream to record.

Rules:

1. An option is read from the first of these places that sets the option: the command line, a mark, the project's
   fixture `triocept_cassette_options`, the environment, the configuration.
2. A file belongs to one test, unless a mark names the file.
3. The upstream is checked before the test: if the real model or its key is missing, the test does not begin.
4. If several tests, possibly in several processes, record the same file with `rewrite`, the first test replaces the old
   content, and the other tests add to the file.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from ..._recording.cassettes.cassette import Cassette, CassetteOptions, RecordMode
from ..._recording.cassettes.document import alone, name_of_at_most
from ..._recording.cassettes.hooks import forward_to
from ..._rollout.handler import Handler
from ..._upstream.address import is_near
from ..._util.checks import check_choice, check_keywords, check_str
from ...dialects import known_dialects
from ...errors import DialectError
from .options import ModelOptions

_UNSAFE = re.compile(r"""[<>?%*:|"'/\\\x00-\x1f]""")
"""Characters that file names cannot contain on some systems."""
_LONGEST = 200
"""Maximum bytes of a file's name; file systems allow 255."""
_HASH = 8
"""Number of characters of the hash that is appended to a shortened name."""


class Tapes:
    def __init__(self, items: Iterable[pytest.Item]) -> None:
        self._tests: defaultdict[str, list[str]] = defaultdict(list)
        """Tests by the path of their cassette; the path is in lower case, since some file systems ignore case."""
        self._session: Path | None = None
        """Directory for files through which the processes of this session share state; None if no tests share a
        cassette."""
        for item in items:
            if any(mark.kwargs.get("cassette") is True for mark in item.iter_markers("triocept")):
                self._tests[str(_own_path(item)).casefold()].append(item.nodeid)

    def open(self, item: pytest.Item, options: ModelOptions, more: Mapping[str, Any]) -> Cassette | None:
        """Return the cassette of a test; None if it has none. `more` contains the project's options for all tests.

        If an option is invalid, or the file cannot be read, raise a pytest.fail.Exception that names the test.
        """
        if not options.cassette:
            return None
        try:
            path = self._path(item, options.cassette)
            return Cassette(path, **_cassette_options(item.config, options.cassette_options, more, path))
        except (TypeError, ValueError, DialectError, OSError) as exc:
            text = f"{item.nodeid}: the cassette of this test cannot be used: {exc}"
            raise pytest.fail.Exception(text, pytrace=False) from None

    def share(self, config: pytest.Config, folder: Path) -> None:
        """Set the directory through which the tests that record the same cassette file coordinate their writes.

        `folder` is the temporary directory of this process. If xdist runs several processes, their directories have the
        same parent.
        """
        self._session = (folder.parent if hasattr(config, "workerinput") else folder) / "triocept"

    def write(self, item: pytest.Item, cassette: Cassette) -> None:
        """Write the recorded calls of a test. If that fails, raise a pytest.fail.Exception that names the test."""
        try:
            if self._session is None or cassette.mode != "rewrite":
                cassette.write()
                return
            with alone(self._session):
                written = self._session / sha256(os.fsencode(cassette.path)).hexdigest()
                cassette.write(keep=written.exists())
                written.touch()
        except (DialectError, OSError) as exc:
            text = f"{item.nodeid}: the cassette of this test cannot be written: {exc}"
            raise pytest.fail.Exception(text, pytrace=False) from None

    def _path(self, item: pytest.Item, cassette: bool | str) -> Path:
        if isinstance(cassette, str):
            return _folder(item) / (cassette if cassette.endswith((".yaml", ".yml")) else f"{cassette}.yaml")
        path = _own_path(item)
        if len(tests := self._tests[str(path).casefold()]) > 1:
            raise ValueError(
                f"{path} would be the cassette of {' and of '.join(tests)}: give the parameters different `ids`, or "
                "name the cassette of each test, for example cassette='greeting'"
            )
        return path


def _own_path(item: pytest.Item) -> Path:
    """Return the path `cassettes/test_module/TestClass.test_name[parameters].yaml` beside the file of the test."""
    names = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    name = _UNSAFE.sub("-", whole := ".".join([*names, item.name]))
    if len(name.encode()) > _LONGEST:
        name = f"{name_of_at_most(name, _LONGEST)}-{sha256(whole.encode()).hexdigest()[:_HASH]}"
    return _folder(item) / item.path.stem / f"{name}.yaml"


def _folder(item: pytest.Item) -> Path:
    return item.path.parent / str(item.config.getini("triocept_cassettes"))


def _cassette_options(
    config: pytest.Config, marked: Mapping[str, Any], more: Mapping[str, Any], path: Path
) -> CassetteOptions:
    check_keywords("triocept_cassette_options", more, (*CassetteOptions.__annotations__, *_SPOKEN))
    given: dict[str, Any] = {**more, **marked}
    spoken = {name: given.pop(name, None) or _setting(config, name) for name in _SPOKEN}
    given["record"] = config.getoption("triocept_record") or given.get("record") or _setting(config, "record")
    check_choice("record", given["record"], RecordMode)
    upstream = given.pop("upstream", None) or _setting(config, "upstream")
    if given["record"] == "none" or (given["record"] == "once" and path.exists()):
        return cast(CassetteOptions, given)
    given["upstream"] = _upstream(upstream, spoken["dialect"], spoken["api_key_env"])
    return cast(CassetteOptions, given)


_SPOKEN = ("dialect", "api_key_env")
_VARIABLES = {"upstream": "TRIOCEPT_UPSTREAM", "dialect": "TRIOCEPT_DIALECT"}


def _setting(config: pytest.Config, name: str) -> str | None:
    return os.environ.get(_VARIABLES.get(name, "")) or config.getini(f"triocept_{name}") or None


def _upstream(given: object, dialect: str | None, api_key_env: str | None) -> Handler:
    """Return the handler that forwards calls to the real model, so that its answers can be recorded."""
    if callable(given):
        return given  # the cassette checks it
    if given is None:
        raise ValueError(
            "there is no real model to record from: set its base URL as triocept_upstream in pytest's configuration, "
            "in the variable TRIOCEPT_UPSTREAM, or as upstream= of the mark"
        )
    check_str("upstream, unless it is a handler,", given)
    url = str(given)
    spoken, host = known_dialects(), urlsplit(url).hostname or ""
    name = dialect or next((name for name, each in spoken.items() if host in each.hosts), "openai_chat")
    if name not in spoken:
        raise ValueError(f"there is no dialect {name!r}; the dialects are {', '.join(spoken)}")
    variable = api_key_env or spoken[name].key_variable
    key = os.environ.get(variable) or None
    if key is None and (api_key_env or not is_near(host)):
        raise ValueError(f"recording from {host} needs an API key: set the variable {variable}")
    return forward_to(url, dialect=name, api_key=key)
