"""pytest plugin of triocept: the fixtures `triocept_model` and `triocept_endpoint`, the marker `triocept`, options.

Rules:

1. The plugin is a module beside the package, and loads no module of the package before a test needs it. The reason:
   pytest loads the plugin in every project where triocept is installed.
2. This module contains only the code that pytest needs at its start; `triocept.testing._plugin` contains the
   implementation.

PYTEST_DONT_REWRITE: this module has no assertions.
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
    """Serve the models of all tests, with one endpoint for the session, which runs in its own thread.

    Use this fixture for models that outlive a test: `with triocept_endpoint.open_rollout(handler) as model`. To set
    options, define a fixture of this name in a conftest.py: `with triocept.testing.serve(…) as endpoint: yield
    endpoint`.
    """
    _load(request.config)
    from triocept.testing import serve

    with serve() as endpoint:
        yield endpoint


@pytest.fixture
def triocept_model(request: pytest.FixtureRequest, triocept_endpoint: SyncEndpoint) -> Iterator[ModelFactory]:
    """Act as the model: `model = triocept_model("hello", ToolCall.of("search", q="x"), "done")`, or `handler=…`.

    The environment variables of the test point to the model, and `model.client("openai_chat")` returns a client that
    calls the model. The test fails after a handler's exception, with an unused reply, and with an unanswered call. The
    fixture works in sync, asyncio, anyio, trio and unittest tests.
    """
    factory = _load(request.config).open_factory(request, triocept_endpoint)
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def triocept_cassette_options() -> Mapping[str, Any]:
    """Return options of `use_cassette` for all cassettes; override this fixture in a conftest.py.

    Example: `return {"normalise_text": triocept.testing.normalize(tmp_path)}`. Options of a test's mark have priority.
    """
    return {}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("triocept")
    group.addoption(
        "--triocept-record",
        choices=("none", "once", "new", "rewrite"),
        help="when to record cassettes. none (the default): never, so a call that the cassette does not contain fails "
        "the test; once: if there is no file; new: calls that the file does not contain; rewrite: all calls again",
    )
    parser.addini("triocept_record", "default of --triocept-record", default="none")
    parser.addini(
        "triocept_cassettes", "the folder of the cassettes, next to the test's file", default="cassettes"
    )
    parser.addini(
        "triocept_upstream", "the base URL of the real model from which cassettes are recorded", default=""
    )
    parser.addini(
        "triocept_dialect", "the dialect of triocept_upstream: openai_chat, anthropic_messages, …", default=""
    )
    parser.addini(
        "triocept_api_key_env", "the environment variable with the API key of triocept_upstream", default=""
    )
    parser.addini(
        "triocept_environ", "true if environment variables lead clients to the test's model", "bool", True
    )
    parser.addini("triocept_must_be_used", "true if an unused reply of a model fails the test", "bool", True)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Install the import finder before any module of the project is imported."""
    finder = _AsItIs()
    sys.meta_path.insert(0, finder)
    early_config.add_cleanup(lambda: sys.meta_path.remove(finder) if finder in sys.meta_path else None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "triocept(cassette=…, environ=…, must_be_used=…, …): options of the models of a test; the reference of "
        "triocept.testing in the documentation describes all of them",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load triocept before the time limit of any test starts.

    Loading takes half a second, and some tests have less than one.
    """
    used = [item for item in session.items if _uses(item)]
    if used and not session.config.option.collectonly:
        try:
            _load(session.config, used)
        except ImportError:  # the tests that need triocept raise the error, and no others
            pass


def _uses(item: pytest.Item) -> bool:
    """Return True if a test uses a fixture of triocept; a cassette in a mark counts as use."""
    names: list[str] = getattr(item, "fixturenames", [])
    marks = [mark for mark in item.iter_markers("triocept") if mark.args or mark.kwargs]
    if marks and _MODEL not in names and (any(m.kwargs.get("cassette") for m in marks) or _is_mistaken(item)):
        names.append(_MODEL)
    return _MODEL in names or _ENDPOINT in names


def _is_mistaken(item: pytest.Item) -> bool:
    """Return True if a mark of the test contains a mistake, so that the fixture is loaded and reports it.

    Without the report, a misspelt `cassette` would not be noticed, and the test would call the real model.
    """
    try:
        from triocept.testing._plugin.options import options_of

        options_of(item)
    except pytest.fail.Exception:
        return True
    except ImportError:  # no test with a fixture of triocept could run
        return False
    return False


def _load(config: pytest.Config, items: Iterable[pytest.Item] = ()) -> Hooks:
    """Return the hooks that the fixtures need, and load triocept for them."""
    from triocept.testing._plugin.hooks import Hooks

    found = config.pluginmanager.get_plugin(_HOOKS)
    if not isinstance(found, Hooks):
        found = Hooks(items)
        config.pluginmanager.register(found, _HOOKS)
    return found


class _AsItIs:
    """Finder that imports triocept as installed.

    If a distribution has a plugin, pytest rewrites the asserts of all its modules, and compiles each module again. That
    would take 0.85 s in the first run after an installation, and in every run if the modules' directory is not
    writable.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "triocept" and not name.startswith("triocept."):
            return None
        return PathFinder.find_spec(name, path, target)
