"""pytest's plugin of triocept: the fixtures `triocept_model` and `triocept_endpoint`, the marker `triocept`, options.

Rules:

1. It stands beside the package and loads nothing of it before a test asks: pytest loads it in every project where
   triocept is installed.
2. What pytest has to know at its start is here, and nothing else; what is done is in `triocept.testing._plugin`.

PYTEST_DONT_REWRITE: it asserts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from triocept.testing import ModelFactory, SyncEndpoint

__all__ = ["triocept_endpoint", "triocept_model"]

_FIXTURES = {"triocept_model", "triocept_endpoint"}
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
    _load(request.config)
    from triocept.testing._plugin.hooks import factory_of

    factory = factory_of(request, triocept_endpoint)
    try:
        yield factory
    finally:
        factory.close()


def pytest_addoption(parser: pytest.Parser) -> None:
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
        "triocept(environ=…, must_be_used=…, model=…, …): what the models of a test are like; all options are "
        "in the documentation of triocept, in the reference of its testing",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load triocept before any test's own clock runs: it takes half a second, and some tests have no more than one."""
    if session.config.option.collectonly:
        return
    if any(not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items):
        try:
            _load(session.config)
        except ImportError:  # the tests that need it say so, and no others
            pass


def _load(config: pytest.Config) -> None:
    """Have the hooks that the fixtures need."""
    if not config.pluginmanager.has_plugin(_HOOKS):
        from triocept.testing._plugin.hooks import Hooks

        config.pluginmanager.register(Hooks(), _HOOKS)


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
