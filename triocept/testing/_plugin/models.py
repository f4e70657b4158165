"""The fixture `triocept_model`: a call opens a model for the test, and the end of the test closes all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Unpack, cast, final

from ..._rollout.options import RolloutOptions
from ..._util.checks import check_bool, check_keywords
from ..._util.failures import keeping, raise_all
from ...handlers.script import Reply, Rule
from .._endpoint import SyncEndpoint
from .._environment import environment
from .._exchange import AnyHandler
from .._leaving import is_mistake
from .._model import fake_model
from .._rollout import SyncRollout, news_of, target_of

if TYPE_CHECKING:
    import pytest

    from ..._recording.cassettes.cassette import Cassette
    from .options import ModelOptions


@final
class ModelFactory:
    """Opens models for one test. Made by the fixture `triocept_model` only.

    Each call opens one: an agent run with a key and a trace of its own, which ends with the test. The environment of
    the test points at the one that was opened last.
    """

    def __init__(
        self,
        endpoint: SyncEndpoint,
        options: ModelOptions,
        cassette: Cassette | None,
        test: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.endpoint = endpoint
        """The endpoint that they live in: that of the whole session."""
        self.cassette = cassette
        """That of the test; None: it has none."""
        self.passed = False
        """Whether pytest has said so."""
        self.failed = False
        """Whether it has said that of a part of the test."""
        self._options = options
        self._test = test
        self._monkeypatch = monkeypatch
        self._models: list[SyncRollout] = []
        self._closers: list[Callable[[], object]] = []
        self._problems: list[BaseException] = []
        self._ended = False
        self.asked_for: bool = False
        """Whether the test has asked for a model, with whatever arguments."""
        self._of_cassette: SyncRollout | None = None
        if cassette is not None:  # from the first line of the test on, whether or not it asks for a model
            own = options.environ, options.must_be_used, RolloutOptions()
            self._of_cassette = self._open((), cassette, *own)

    @property
    def models(self) -> tuple[SyncRollout, ...]:
        """Those that were opened, oldest first."""
        return tuple(self._models)

    @property
    def problems(self) -> tuple[BaseException, ...]:
        """What was found to be wrong with them."""
        return tuple(self._problems)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """What is looked for is a model's: this is what opens one."""
            what = f"triocept_model has no {name!r}"
            if not name.startswith("_") and hasattr(SyncRollout, name):
                what += f": it opens a model, `model = triocept_model(…)`, and that has `model.{name}`"
            raise AttributeError(what, name=name, obj=self)

    def __call__(
        self,
        *replies: Reply | Rule,
        handler: AnyHandler | None = None,
        environ: bool | None = None,
        must_be_used: bool | None = None,
        **options: Unpack[RolloutOptions],
    ) -> SyncRollout:
        """Open a model.

        Args:
            replies: what it answers, in order, as a `ScriptedModel` does: texts, tool calls, faults, …. One that is
                left when the test ends fails the test, and so does a call that finds none.
            handler: answers instead: an async function of an `Exchange`, or a plain one of a `SyncExchange`, which may
                block. What it raises fails the test. None, and no replies: the test answers, with `model.next()` or
                `for exchange in model`; but in a test that has a cassette this gives the cassette's model, which is
                open already, with the options of the mark.
            environ: whether the environment points at it: `OPENAI_BASE_URL`, `OPENAI_API_KEY` and all that are like
                them. None: as the mark says, and otherwise True.
            must_be_used: whether a reply that is left fails the test. None: likewise.
            options: those of `Endpoint.open_rollout`; they win over the mark's.

        Raises:
            TypeError, ValueError: an argument is not what it should be.
            RuntimeError: the test has ended.
        """
        self._check_running()
        self.asked_for = True
        own = self._options
        environ = own.environ if environ is None else environ
        must_be_used = own.must_be_used if must_be_used is None else must_be_used
        check_bool("environ", environ)
        check_bool("must_be_used", must_be_used)
        check_keywords("triocept_model", options, ("handler", *_OWN, *RolloutOptions.__annotations__))
        if replies and handler is not None:
            raise ValueError("triocept_model is given replies, or a handler which makes them: not both")
        if self._of_cassette is not None and not replies and handler is None:
            return self._of_cassette
        return self._open(replies, handler, environ, must_be_used, options)

    def _open(
        self,
        replies: tuple[Reply | Rule, ...],
        handler: AnyHandler | None,
        environ: bool,
        must_be_used: bool,
        options: RolloutOptions,
    ) -> SyncRollout:
        stack = ExitStack()
        model = stack.enter_context(
            fake_model(
                *replies,
                handler=handler,
                endpoint=self.endpoint,
                environ=False,
                must_be_used=must_be_used,
                **cast(RolloutOptions, {**self._options.rollout, **options}),
            )
        )
        target = target_of(model)
        target.name = f"model {len(self._models)}"  # as the report has it
        self._models.append(model)
        self._closers.append(stack.close)
        if environ:
            self._point(environment(model.environ()))
            target.lead()
        return model

    def _point(self, changes: Mapping[str, str | None]) -> None:
        """By the test's own `monkeypatch`: where that changes the same variables, all is undone in the right order."""
        for name, value in changes.items():
            if value is None:
                self._monkeypatch.delenv(name, raising=False)
            else:
                self._monkeypatch.setenv(name, value)

    def check(self, own: BaseException | None = None) -> list[BaseException]:
        """What is wrong with the models so far that was not found before: what handlers raised; if that is nothing,
        replies that are left over, calls without an answer, and recorded ones that nobody asked for, as
        `AssertionError`; but for a test that failed by a mistake in a call of ours (`own`) the handlers' errors alone.
        """
        found: list[BaseException] = []
        for model in self._models:
            try:
                found += news_of(model)  # one that is a group is one
            except BaseException as exc:
                found.append(exc)
        if is_mistake(own):
            found = [each for each in found if self.is_fault(each)]
        elif not found and not self._problems:
            found += map(AssertionError, self._left_in_cassette())
        for each in found:
            each.__traceback__ = _from_the_handler_on(each.__traceback__)
        self._problems += found
        return found

    def _left_in_cassette(self) -> Iterator[str]:
        if self.cassette is None or self._of_cassette is None or not self._options.must_be_used:
            return
        why_no_call = target_of(self._of_cassette).why_no_call()
        if self.cassette.mode == "rewrite" and not self.cassette.recorded and self.cassette.path.exists():
            yield f"nothing was asked, and {self.cassette.path} was to be recorded anew; {why_no_call}"
        if not (left := self.cassette.unused):
            return
        called = any(model.calls for model in self._models)
        hint = "" if called else f"; {why_no_call}"
        what = "not asked, and recorded (record it anew with --triocept-record=rewrite, or let it be with "
        yield "\n".join([f"{what}must_be_used=False{hint}):", *map(str, left)])

    def is_fault(self, problem: BaseException) -> bool:
        """Whether a handler has raised it."""
        return any(problem is fault for model in self._models for fault in model.faults)

    def close(self) -> None:
        """Close all models.

        Raises:
            BaseException: what has gone wrong with them since the last `check`; several as a group.
        """
        self._ended = True
        errors: list[BaseException] = []
        while self._closers:
            with keeping(errors):
                self._closers.pop()()
        raise_all(errors)

    def _check_running(self) -> None:
        if self._ended:
            raise RuntimeError(
                f"no test runs that this triocept_model is of: {self._test} has ended, and its models with it"
            )

    def __repr__(self) -> str:
        return f"<triocept_model of {self._test}: {len(self._models)} opened>"


_OWN = ("environ", "must_be_used")
_OUR_CODE = {"triocept", "trio", "outcome", "contextlib", "threading"}
"""Whose lines stand before those of a handler: nobody looks for a mistake there."""


def _from_the_handler_on(traceback: TracebackType | None) -> TracebackType | None:
    """Without the lines of whoever called it; None where all are such."""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _OUR_CODE:
            break
        traceback = traceback.tb_next
    return traceback
