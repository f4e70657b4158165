"""pytest's plugin of triocept: the fixtures `triocept_model` and `triocept_endpoint`, the marker `triocept`, options.

Rules:

1. It stands beside the package and loads nothing of it before a test asks: pytest loads it in every project where
   triocept is installed.
2. What pytest has to know at its start is here, and nothing else; what is done is in `triocept.testing._plugin`.

PYTEST_DONT_REWRITE: it asserts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from triocept.testing import ModelFactory, SyncEndpoint
    from triocept.testing._plugin.hooks import Hooks

__all__ = ["triocept_cassette_options", "triocept_endpoint", "triocept_model"]

_MODEL, _ENDPOINT = "triocept_model", "triocept_endpoint"
_HOOKS = "triocept-hooks"


@pytest.fixture(scope="session")
def triocept_endpoint(request: pytest.FixtureRequest) -> Iterator[SyncEndpoint]:
    """The endpoint of the session, in a thread of its own.

    For what lives longer than a test: `with triocept_endpoint.open_rollout(handler) as model`. A fixture of this name
    in a conftest.py takes its place, with options: `with triocept.testing.serve(…) as endpoint: yield endpoint`.
    """
    _load(request.config)
    from triocept.testing import serve

    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def triocept_model(request: pytest.FixtureRequest, triocept_endpoint: SyncEndpoint) -> Iterator[ModelFactory]:
    """Be the model: `model = triocept_model("hello", ToolCall.of("search", q="x"), "done")`, or `handler=…`.

    The environment of the test points at it, and `model.client("openai_chat")` is a client of it. The test fails with
    what a handler raised, with a reply that is left over, and with a call that nobody answered. The same for sync,
    asyncio, anyio, trio and unittest tests.
    """
    factory = _load(request.config).open_factory(request, triocept_endpoint)
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def triocept_cassette_options() -> Mapping[str, Any]:
    """What all cassettes are like, for a fixture of this name in a conftest.py: options of `use_cassette`.

    `return {"normalise_text": triocept.testing.normalize(tmp_path)}`, say. A test's own mark wins.
    """
    return {}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("triocept")
    group.addoption(
        "--triocept-record",
        choices=("none", "once", "new", "rewrite"),
        help="whether cassettes are recorded: never (none, the default: a call that the cassette has not fails the "
        "test); where there is no file (once); what the file has not (new); anew (rewrite)",
    )
    parser.addini("triocept_record", "as --triocept-record", default="none")
    parser.addini(
        "triocept_cassettes", "the folder of the cassettes, beside the test's file", default="cassettes"
    )
    parser.addini(
        "triocept_upstream", "the base URL of the real model that cassettes are recorded from", default=""
    )
    parser.addini("triocept_dialect", "what that speaks: openai_chat, anthropic_messages, …", default="")
    parser.addini("triocept_api_key_env", "the variable that holds its key", default="")
    parser.addini("triocept_environ", "whether the environment points at a test's model", "bool", True)
    parser.addini("triocept_must_be_used", "whether a reply that is left over fails its test", "bool", True)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before anything of the project is imported."""
    finder = _AsItIs()
    sys.meta_path.insert(0, finder)
    early_config.add_cleanup(lambda: sys.meta_path.remove(finder) if finder in sys.meta_path else None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "triocept(cassette=…, environ=…, must_be_used=…, …): what the models of a test are like; all options are "
        "in the documentation of triocept, in the reference of its testing",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load triocept before any test's own clock runs: it takes half a second, and some tests have no more than one."""
    used = [item for item in session.items if _uses(item)]
    if used and not session.config.option.collectonly:
        try:
            _load(session.config, used)
        except ImportError:  # the tests that need it say so, and no others
            pass


def _uses(item: pytest.Item) -> bool:
    """Whether a test uses a fixture of ours. One that has a cassette does, though it names none."""
    names: list[str] = getattr(item, "fixturenames", [])
    marks = [mark for mark in item.iter_markers("triocept") if mark.args or mark.kwargs]
    if marks and _MODEL not in names and (any(m.kwargs.get("cassette") for m in marks) or _is_mistaken(item)):
        names.append(_MODEL)
    return _MODEL in names or _ENDPOINT in names


def _is_mistaken(item: pytest.Item) -> bool:
    """Whether there is a mistake in its marks, which the fixture tells: a misspelt `cassette` would go unnoticed, and
    the test to the real model."""
    try:
        from triocept.testing._plugin.options import options_of

        options_of(item)
    except pytest.fail.Exception:
        return True
    except ImportError:  # no test of ours could run
        return False
    return False


def _load(config: pytest.Config, items: Iterable[pytest.Item] = ()) -> Hooks:
    """The hooks that the fixtures need, and all of triocept with them."""
    from triocept.testing._plugin.hooks import Hooks

    found = config.pluginmanager.get_plugin(_HOOKS)
    if not isinstance(found, Hooks):
        found = Hooks(items)
        config.pluginmanager.register(found, _HOOKS)
    return found


class _AsItIs:
    """Has triocept imported as it was installed.

    pytest rewrites the asserts of all modules of whoever brings a plugin, and compiles each of them anew for that: 0.85
    s of the first run after an installation, and of every run where nothing can be written beside them.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "triocept" and not name.startswith("triocept."):
            return None
        return PathFinder.find_spec(name, path, target)
