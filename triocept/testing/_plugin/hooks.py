"""Hooks of pytest, registered when the first test uses one of triocept's fixtures.

If no test of a project uses one of these fixtures, this module is not loaded.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Generator, Iterable
from typing import Any, NoReturn

import pytest

from ..._server import serve as serve  # importing Quart and hypercorn takes half a second: not within a test
from ...handlers import ScriptWarning
from .._endpoint import SyncEndpoint
from .models import ModelFactory
from .options import options_of
from .section import section_of
from .tapes import Tapes
from .verdict import verdict

_MODELS = pytest.StashKey[ModelFactory]()
"""Stash key for the models of a running test."""


class Hooks:
    """The hooks as a pytest plugin. `items` are the tests that pytest has collected so far."""

    def __init__(self, items: Iterable[pytest.Item]) -> None:
        self._tapes = Tapes(items)

    def open_factory(self, request: pytest.FixtureRequest, endpoint: SyncEndpoint) -> ModelFactory:
        """Return the value of a test's fixture `triocept_model`. Errors: see `options_of` and `Tapes.open`."""
        item = request.node
        options = options_of(item)
        more = request.getfixturevalue("triocept_cassette_options") if options.cassette else {}
        cassette = self._tapes.open(item, options, more)
        # Several tests may record a cassette with an explicit name, in any process.
        if cassette is not None and isinstance(options.cassette, str):
            self._tapes.share(item.config, request.getfixturevalue("tmp_path_factory").getbasetemp())
        monkeypatch = request.getfixturevalue("monkeypatch")
        factory = ModelFactory(endpoint, options, cassette, item.nodeid, monkeypatch)
        item.stash[_MODELS] = factory
        return factory

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Raise the errors of a test's models in its call phase, so that pytest reports a failure of the test."""
        __tracebackhide__ = True
        own: BaseException | None = None
        returned: object = None
        try:
            returned = yield
        except BaseException as exc:
            own = exc
        try:
            # Not in an `except`: the test's own exception would become the context of the raised one.
            models = item.stash.get(_MODELS, None)
            found = own if models is None else verdict(models, own)
            if models is not None:
                try:
                    _warn(item, models.warnings)
                except ScriptWarning as exc:  # the filters make errors of warnings
                    found = found or exc
            if found is None:
                return returned
            if found is own:
                raise found
            _raise_at(item, found)
        finally:
            own = found = None  # break reference cycles: the exceptions refer to this frame

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add, to the report of a failed test, a section that lists the calls of the test's models."""
        report = yield
        models = item.stash.get(_MODELS, None)
        if models is not None and report.failed:
            if report.when == "setup":
                models.check()  # report errors of the setup here, and not once more at the teardown
            if text := section_of(models, call.excinfo.value if call.excinfo is not None else None):
                report.sections.append(("triocept", text))
            elif (
                report.when == "call"
                and not models.asked_for
                and call.excinfo is not None
                and _asks_for_models(item, call.excinfo)
            ):
                report.sections.append(("triocept", _NOT_CALLED))
        if models is not None and report.when == "call":  # with subtests there are several
            models.passed = report.passed and not models.failed
            models.failed |= report.failed
        if models is not None and report.when == "teardown":
            # pytest keeps the test until the session ends; release the recorded data now.
            del item.stash[_MODELS]
        shown = str(call.excinfo.value) if report.failed and call.excinfo is not None else ""
        if "ScopeMismatch" in shown and "triocept_model" in shown:
            report.sections.append(("triocept", _TOO_WIDE))
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Write the test's newly recorded cassette, if there is one, after the teardown of a test that has passed."""
        returned = yield
        models = item.stash.get(_MODELS, None)
        if models is not None and models.cassette is not None and models.passed:
            self._tapes.write(item, models.cassette)
        return returned

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: Any
    ) -> Generator[None, object, object]:
        """If the fixture `triocept_endpoint` fails, discard its error, so that the next test starts the endpoint again.

        Otherwise pytest would keep the error. If the time limit of one test expired while the endpoint was starting,
        all later tests would fail with this error.
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
    """Raise `error` with a traceback that contains the first line of the test. Reports and editors show this line.

    If a traceback contains no line of the project's code, pytest shows only a hint to use `--full-trace`.
    """
    path, line, name = item.reportinfo()
    code = compile("raise error", str(path), "exec")
    exec(code.replace(co_name=name, co_firstlineno=(line or 0) + 1), {"error": error})
    raise AssertionError("unreachable")


_NOT_CALLED = (
    'triocept_model was not called, so there was no model: `model = triocept_model("hello")` opens one'
)


def _warn(item: pytest.Item, texts: list[str]) -> None:
    path, line, _ = item.reportinfo()
    while texts:
        warnings.warn_explicit(texts.pop(0), ScriptWarning, str(path), (line or 0) + 1)


def _asks_for_models(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Return True if the test itself uses the fixture `triocept_model`, and did not fail in a call of this fixture.

    An autouse fixture may request `triocept_model` for tests that do not use `triocept_model`.
    """
    with_source = [entry for entry in excinfo.traceback if entry.frame.code.fullsource is not None]
    if any("triocept_model(" in str(entry.statement) for entry in with_source):
        return False
    code = getattr(inspect.unwrap(getattr(item, "obj", None)), "__code__", None)  # type: ignore[arg-type]
    return (
        code is not None and "triocept_model" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    )


_BLOCKED = (
    "pytest-socket blocks the sockets of triocept_endpoint, which is a server on this machine: allow that with "
    "--disable-socket --allow-hosts=127.0.0.1"
)

_TOO_WIDE = (
    "triocept_model belongs to one test: a fixture with a wider scope must take triocept_endpoint, and open a model "
    "in it:\n\n"
    '    @pytest.fixture(scope="class")\n'
    "    def model(triocept_endpoint):\n"
    "        with triocept_endpoint.open_rollout(ScriptedModel([…])) as model:\n"
    "            yield model"
)
