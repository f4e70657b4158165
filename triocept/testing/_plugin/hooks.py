"""What pytest asks of us while it runs tests, registered with the first test that uses a fixture of ours.

No other project pays for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterable
from typing import Any, NoReturn

import pytest

from ..._server import serve as serve  # half a second of Quart and hypercorn, which no test is to wait for
from .._endpoint import SyncEndpoint
from .models import ModelFactory
from .options import options_of
from .section import section_of
from .tapes import Tapes
from .verdict import verdict

_MODELS = pytest.StashKey[ModelFactory]()
"""Of a test that runs."""


class Hooks:
    """A plugin of pytest.

    Args:
        items: all tests of the session, as far as they are known.
    """

    def __init__(self, items: Iterable[pytest.Item]) -> None:
        self._tapes = Tapes(items)

    def open_factory(self, request: pytest.FixtureRequest, endpoint: SyncEndpoint) -> ModelFactory:
        """What the fixture `triocept_model` gives a test; errors as of `options_of`, and of `Tapes.open`."""
        item = request.node
        options = options_of(item)
        more = request.getfixturevalue("triocept_cassette_options") if options.cassette else {}
        cassette = self._tapes.open(item, options, more)
        # Several tests may record one that has a name, in any process.
        if cassette is not None and isinstance(options.cassette, str):
            self._tapes.share(item.config, request.getfixturevalue("tmp_path_factory").getbasetemp())
        monkeypatch = request.getfixturevalue("monkeypatch")
        factory = ModelFactory(endpoint, options, cassette, item.nodeid, monkeypatch)
        item.stash[_MODELS] = factory
        return factory

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """The models have the last word on a test, while it still is the test that fails."""
        __tracebackhide__ = True
        own: BaseException | None = None
        returned: object = None
        try:
            returned = yield
        except BaseException as exc:
            own = exc
        try:
            # Not in an `except`: that would put its own exception before what is raised.
            found = _found(item, own)
            if found is None:
                return returned
            if found is own:
                raise found
            _raise_at(item, found)
        finally:
            own = found = None  # they hold this frame

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A report of a failure has the calls of the models."""
        report = yield
        models = item.stash.get(_MODELS, None)
        if models is not None and report.failed:
            if report.when == "setup":
                models.check()  # what is wrong in it is told here, and not at the teardown once more
            if text := section_of(models, call.excinfo.value if call.excinfo is not None else None):
                report.sections.append(("triocept", text))
            elif report.when == "call" and not models.asked_for and _asks_for_models(item):
                report.sections.append(("triocept", _NOT_CALLED))
        if models is not None and report.when == "call":  # with subtests there are several
            models.passed = report.passed and not models.failed
            models.failed |= report.failed
        if models is not None and report.when == "teardown":
            # pytest keeps the test to the end of the session: not so what it recorded.
            del item.stash[_MODELS]
        if report.failed and _is_too_wide(call.excinfo):
            report.sections.append(("triocept", _TOO_WIDE))
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """What was recorded is written when all has ended, and well."""
        returned = yield
        models = item.stash.get(_MODELS, None)
        if models is not None and models.cassette is not None and models.passed:
            self._tapes.write(item, models.cassette)
        return returned

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: Any
    ) -> Generator[None, object, object]:
        """An endpoint that could not be started is tried again by the next test.

        pytest keeps the error of a fixture as it keeps its value: a time limit that one test runs into while the
        endpoint starts would be the error of all that come after it.
        """
        __tracebackhide__ = True
        try:
            return (yield)
        except BaseException as exc:
            if fixturedef.argname == "triocept_endpoint":
                fixturedef.finish(request)
                if "A test tried to use socket" in str(exc):  # pytest-socket, as an error or as a warning
                    raise pytest.fail.Exception(_BLOCKED, pytrace=False) from None
            raise


def _raise_at(item: pytest.Item, error: BaseException) -> NoReturn:
    """Raise `error`, as if the first line of the test had done it: the head of the test, for a report and an editor.

    pytest shows nothing of a traceback in which no line is a project's own, but a hint at an option.
    """
    path, line, name = item.reportinfo()
    code = compile("raise error", str(path), "exec")
    exec(code.replace(co_name=name, co_firstlineno=(line or 0) + 1), {"error": error})
    raise AssertionError("unreachable")


def _found(item: pytest.Item, own: BaseException | None) -> BaseException | None:
    models = item.stash.get(_MODELS, None)
    return own if models is None else verdict(models, own)


_NOT_CALLED = (
    'triocept_model was not called, so there was no model: `model = triocept_model("hello")` opens one'
)


def _asks_for_models(item: pytest.Item) -> bool:
    """Whether the test has the fixture itself, and not by another one, which may be there for all tests."""
    code = getattr(inspect.unwrap(getattr(item, "obj", None)), "__code__", None)  # type: ignore[arg-type]
    return (
        code is not None and "triocept_model" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    )


_BLOCKED = (
    "pytest-socket blocks the sockets of triocept_endpoint, which is a server on this machine: allow that with "
    "--disable-socket --allow-hosts=127.0.0.1"
)

_TOO_WIDE = (
    "triocept_model is of one test: what lives longer takes triocept_endpoint, and opens a model in it:\n\n"
    '    @pytest.fixture(scope="class")\n'
    "    def model(triocept_endpoint):\n"
    "        with triocept_endpoint.open_rollout(ScriptedModel([…])) as model:\n"
    "            yield model"
)


def _is_too_wide(excinfo: pytest.ExceptionInfo[BaseException] | None) -> bool:
    text = str(excinfo.value) if excinfo is not None else ""
    return "ScopeMismatch" in text and "triocept_model" in text
