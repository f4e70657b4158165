"""The value of the fixture `triocept_model`.

Each call of this value opens a fake model, which is closed at the end of the test.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from .._leaving import is_mistake, leave
from .._model import fake_model
from .._rollout import SyncRollout, news_of, on_unknown_tools, target_of

if TYPE_CHECKING:
    import pytest

    from ..._recording.cassettes.cassette import Cassette
    from .options import ModelOptions


@final
class ModelFactory:
    """Value of the fixture `triocept_model`. If a test calls this object like a function, it opens a fake model.

    Each call of this object opens a model: a rollout with its own key and trace, which closes at the end of the test.
    During the test, the environment variables point to the model that was opened last.
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
        """The endpoint of the session, which serves the models."""
        self.cassette = cassette
        """The cassette of the test; None if the test has no cassette."""
        self.passed = False
        """True if pytest reported that the test passed."""
        self.failed = False
        """True if pytest reported a failure of the test or of a subtest."""
        self._options = options
        self._test = test
        self._monkeypatch = monkeypatch
        self._models: list[SyncRollout] = []
        self._closers: list[ExitStack] = []
        self._problems: list[BaseException] = []
        self._ended = False
        self.asked_for: bool = False
        """True if the test has called this object, with any arguments."""
        self.warnings: list[str] = []
        """Texts of the warnings about replies that call a tool which the request does not offer."""
        self._of_cassette: SyncRollout | None = None
        if cassette is not None:  # open from the start, even if the test never calls the factory
            own = options.environ, options.must_be_used, RolloutOptions()
            self._of_cassette = self._open((), cassette, *own)

    @property
    def models(self) -> tuple[SyncRollout, ...]:
        """The models that the test has opened, oldest first."""
        return tuple(self._models)

    @property
    def problems(self) -> tuple[BaseException, ...]:
        """The problems found so far: exceptions of handlers, unused replies and unanswered calls of the models."""
        return tuple(self._problems)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            what = f"triocept_model has no {name!r}"
            if not name.startswith("_") and hasattr(SyncRollout, name):
                what += (
                    f": call it to open a model, `model = triocept_model(…)`; the model has `model.{name}`"
                )
            raise AttributeError(what, name=name, obj=self)

    def __call__(
        self,
        *replies: Reply | Rule,
        handler: AnyHandler | None = None,
        environ: bool | None = None,
        must_be_used: bool | None = None,
        **options: Unpack[RolloutOptions],
    ) -> SyncRollout:
        """Open a fake model for the rest of the test, and return it.

        Args:
            replies: answers in order, as for a `ScriptedModel`: texts, tool calls, faults, …. The test fails if a reply
                is unused when the test ends, or if no reply is left for a call.
            handler: handler that answers, if there are no replies: an async function with an `Exchange` as argument, or
                a plain function with a `SyncExchange` as argument, which may block. An exception of the handler fails
                the test. If there is neither a handler nor a reply, the test answers, with `model.next()` or `for
                exchange in model`. But in a test with a cassette, a call without replies and without a handler returns
                the cassette's model. This model is already open, with the options of the mark.
            environ: True to point the environment variables (`OPENAI_BASE_URL`, `OPENAI_API_KEY`, …) to the model. None
                means the value of the mark or of pytest's configuration (True).
            must_be_used: True if the test fails when a reply is unused. None means the value of the mark or of pytest's
                configuration (True).
            options: options of `Endpoint.open_rollout`; they override the options of the mark.

        Raises:
            TypeError, ValueError: an argument is invalid.
            RuntimeError: the test has ended.
        """
        if self._ended:
            raise RuntimeError(f"{self._test} has ended: its triocept_model cannot open a model any more")
        self.asked_for = True
        own = self._options
        environ = own.environ if environ is None else environ
        must_be_used = own.must_be_used if must_be_used is None else must_be_used
        check_bool("environ", environ)
        check_bool("must_be_used", must_be_used)
        if "replies" in options:
            raise TypeError("triocept_model takes each reply as an argument: write triocept_model(*replies)")
        check_keywords("triocept_model", options, ("handler", *_OWN, *RolloutOptions.__annotations__))
        if replies and handler is not None:
            raise ValueError("triocept_model takes replies or a handler, not both")
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
        on_unknown_tools(model, self.warnings.append)
        target = target_of(model)
        target.name = f"model {len(self._models)}"  # the name in the report
        self._models.append(model)
        self._closers.append(stack)
        if environ:
            # Through the test's own `monkeypatch`: if the test changes the same variables with it, all changes are
            # undone in the right order.
            for name, value in environment(model.environ()).items():
                if value is None:
                    self._monkeypatch.delenv(name, raising=False)
                else:
                    self._monkeypatch.setenv(name, value)
            target.lead()
        return model

    def check(self, own: BaseException | None = None) -> list[BaseException]:
        """Return the problems of the models that were found since the last check.

        If handlers have raised exceptions, return these exceptions. Otherwise return an `AssertionError` for each
        unused reply, unanswered call and unused recorded call. But if `own`, the exception of the test itself, was
        raised because of a wrong argument of a triocept function, return only exceptions of handlers.
        """
        found: list[BaseException] = []
        for model in self._models:
            try:
                found += news_of(model)  # a group counts as one error
            except KeyboardInterrupt as exc:  # pytest ends, and prints the notes of this exception
                leave(exc, found)
                self.close(exc)
                raise
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
            yield f"no call was made, so {self.cassette.path} was not recorded again; {why_no_call}"
        if not (left := self.cassette.unused):
            return
        called = any(model.calls for model in self._models)
        hint = "" if called else f"; {why_no_call}"
        what = "these recorded calls were not made again (record the cassette again with --triocept-record=rewrite, or "
        yield "\n".join([f"{what}allow unused calls with must_be_used=False{hint}):", *map(str, left)])

    def is_fault(self, problem: BaseException) -> bool:
        """Return True if `problem` is an exception that a handler raised."""
        return any(problem is fault for model in self._models for fault in model.faults)

    def close(self, interrupt: KeyboardInterrupt | None = None) -> None:
        """Close all models. If `interrupt` is given, add the models' problems to `interrupt` as notes.

        Raises:
            BaseException: a problem of a model since the last `check`; several problems are raised as a group.
        """
        self._ended = True
        errors: list[BaseException] = []
        kind = None if interrupt is None else KeyboardInterrupt
        while self._closers:
            with keeping(errors):
                self._closers.pop().__exit__(kind, interrupt, None)
        raise_all(errors)

    def __repr__(self) -> str:
        return f"<triocept_model of {self._test}: {len(self._models)} opened>"


_OWN = ("environ", "must_be_used")
_OUR_CODE = {"triocept", "trio", "outcome", "contextlib", "threading"}
"""Top-level modules whose frames are removed from the beginning of a traceback, so that it starts with the handler's
first frame."""


def _from_the_handler_on(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of `traceback` that begins with the handler's first frame.

    Return None if no frame belongs to the handler.
    """
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _OUR_CODE:
            break
        traceback = traceback.tb_next
    return traceback
