"""Record calls to a real model in a file (a cassette), and answer later calls from this file.

Rules:

1. Matching is by content: a call gets the answer of the recorded call with an equal form (`request_form`), in any
   dialect. Each recorded call is used once; if several are equal, they are used in order. Calls with different content
   may come in any order.
2. No answer is invented. If a call is not in the file and this run does not record calls, the call is an error.
3. Only `write` writes the file, and always the whole file. If a run fails, the file stays unchanged. It also stays
   unchanged if a call had an outcome that cannot be recorded (`recorder.unrecordable`).
"""

from __future__ import annotations

import os
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from reprlib import repr as short
from typing import Literal, TypeAlias, TypedDict, Unpack, final

import msgspec
import trio

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.handler import Handler, awaiting, check_handler
from ..._trace.redaction import Redaction, Redactor
from ..._util.checks import check_bool, check_choice
from ..._util.secrets import environment_keys
from ...errors import DialectError, ReplayMiss
from ..miss import Closest, lines_of, no_answer, not_recorded
from ..play import StillThere, Timing, give, pace_of
from .document import (
    Recorded,
    added,
    alone,
    check_place,
    document_of,
    merged,
    read_file,
    text_of,
    write_file,
)
from .hooks import ForwardTo, Normalise, NormaliseText, by_request, by_text, check_hook
from .recorder import answer_given, outcome_given, unrecordable
from .request_form import key_of, normal_form, restored_form


class RecordedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in a cassette, with the outcome of the call."""

    number: int
    """Number of the call in the file; 0 if the call was recorded in this run and is not yet written."""
    file: str
    line: int | None
    """Line number of the call in the file; None if the call was recorded in this run."""
    request: Request
    """The dialect-neutral request that is compared. Numbers replace its ids, and hashes replace its images."""
    response: Response | None
    """The answer; if the stream of the answer broke off, the part that was sent. None if nothing was sent."""
    error: str | None
    """Reason why the call got no answer, or only a part of an answer; None if the call was answered completely."""

    def __str__(self) -> str:
        last = self.request.last
        said = f": {last.role} {short(last.text)}" if last is not None and last.text else ""
        place = f"{self.file}:{self.line}" if self.line is not None else "recorded in this run"
        return f"call {self.number} ({place}){said}"


def seen(call: Recorded, path: Path) -> RecordedCall:
    failure = call.answer.failure
    error = f"{failure.status}: {failure.message}" if failure is not None else None
    return RecordedCall(
        number=call.number,
        file=str(path),
        line=call.line,
        request=restored_form(call.form),
        response=call.answer.response,
        error="the application hung up" if call.answer.hung_up else error,
    )


RecordMode: TypeAlias = Literal["none", "once", "new", "rewrite"]
"""Calls that are recorded. `none`: no calls. `once`: all calls, if there is no file. `new`: calls not in the file.
`rewrite`: all calls; they replace the calls in the file."""


@final
class Cassette:
    """A handler that answers from a file, and records calls. See `open_cassette` for the arguments."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        record: RecordMode = "none",
        upstream: Handler | None = None,
        normalise: Normalise | None = None,
        normalise_text: NormaliseText | None = None,
        timing: Timing = "none",
        compare_model: bool = True,
        compare_sampling: bool = False,
        repeats: bool = False,
        record_auth_errors: bool = False,
    ) -> None:
        check_choice("record", record, RecordMode)
        if upstream is not None:
            check_handler(upstream)
        elif record in ("new", "rewrite") or (record == "once" and not Path(path).exists()):
            why = f", because there is no file {path}" if record == "once" else ""
            raise TypeError(
                f"record={record!r} needs a real model to record from{why}: pass upstream=handler"
            )
        if normalise is not None:
            check_hook("normalise", normalise, "a function that takes a Request and returns one")
        if normalise_text is not None:
            check_hook("normalise_text", normalise_text, "a function that takes a str and returns one")
        check_bool("compare_model", compare_model)
        check_bool("compare_sampling", compare_sampling)
        check_bool("repeats", repeats)
        check_bool("record_auth_errors", record_auth_errors)
        self.path: Path = Path(path)
        """Path of the cassette's file."""
        self._file = self.path.absolute()  # independent of later changes of the working directory
        self.mode: RecordMode = record
        """Record mode of this run."""
        self._upstream = awaiting(upstream) if upstream is not None else None
        self._normalise, self._normalise_text = normalise, normalise_text
        self._pace = pace_of(timing)
        self._compare_model, self._compare_sampling, self._repeats = compare_model, compare_sampling, repeats
        self._keeps_auth_errors = record_auth_errors
        secrets = upstream.secrets if isinstance(upstream, ForwardTo) else ()
        self._redactor = Redactor(Redaction(known_keys=True), keys=environment_keys(secrets))
        self._was_there = self._file.exists()
        self._old: tuple[Recorded, ...] = ()
        if self._was_there and not self._records_all:
            self._old = self._read_file()
        self._waiting: defaultdict[bytes, list[Recorded]] = defaultdict(list)
        """For each key of a request's form (`key_of`): the recorded calls with this form that have not yet answered a
        call of this run."""
        for call in self._old:
            self._waiting[self._key(call)].append(call)
        if self._may_record:
            check_place(self._file)
        self._new: list[Recorded | None] = []
        """Calls recorded in this run, in the order of their arrival. An item is None if its call has no outcome yet, or
        if the outcome cannot be recorded."""
        self._failed = False
        """True if a call had an outcome that cannot be recorded. The file is then not written."""

    def __repr__(self) -> str:
        left = sum(map(len, self._waiting.values()))
        return f"<Cassette {self.path}: {len(self._old)} calls, {left} unused; {len(self._recorded)} new>"

    @property
    def calls(self) -> tuple[RecordedCall, ...]:
        """All recorded calls: the calls in the file, and the calls recorded in this run."""
        return tuple([seen(call, self.path) for call in (*self._old, *self._recorded)])

    @property
    def recorded(self) -> tuple[RecordedCall, ...]:
        """Calls recorded in this run."""
        return tuple([seen(call, self.path) for call in self._recorded])

    @property
    def unused(self) -> tuple[RecordedCall, ...]:
        """Calls in the file that have not answered any call of this run, in the order of the file."""
        left = {id(call) for calls in self._waiting.values() for call in calls}
        return tuple([seen(call, self.path) for call in self._old if id(call) in left])

    async def __call__(self, exchange: Exchange) -> None:
        form = self._form(core_of(exchange).recorded_request())
        key = key_of(form, model=self._compare_model)
        if self._waiting[key]:
            call = self._waiting[key].pop(0)
            exchange.annotate(cassette={"file": str(self.path), "call": call.number})
            try:
                await give(exchange, call.answer, self._pace)
            except trio.Cancelled:
                if not call.answer.hung_up:  # the application has no answer, and will send the call again
                    order = {id(each): place for place, each in enumerate(self._old)}
                    insort(self._waiting[key], call, key=lambda each: order[id(each)])
                raise
            except StillThere:
                words, place = _words(exchange), self._place(call)
                raise no_answer(words, place, self._advice(), str(call.number)) from None
        elif self._may_record:
            await self._record(exchange, form)
        elif self._repeats and (same := [call for call in self._old if self._key(call) == key]):
            await give(exchange, same[-1].answer, self._pace)
        else:
            await trio.lowlevel.checkpoint()
            raise self._miss(exchange, form, key)

    def _place(self, call: Recorded) -> str:
        return f"call {call.number} ({self.path}:{call.line})"

    def _miss(self, exchange: Exchange, form: dict[str, Json], key: bytes) -> ReplayMiss:
        words, advice = _words(exchange), self._advice()
        if same := [call for call in self._old if self._key(call) == key]:
            times = {1: "once", 2: "twice"}.get(len(same), f"{len(same)} times")
            return ReplayMiss(
                f"{words} was sent more often than it was recorded: {self.path} contains it {times}, the last time as "
                f"{self._place(same[-1])}. To use the last answer again, pass repeats=True.\n{advice}",
                closest=str(same[-1].number),
            )
        if not self._was_there and not self._old:
            return ReplayMiss(f"{words} is not recorded: there is no file {self.path}.\n{advice}")
        form, forms = self._counted(form), [self._counted(call.form) for call in self._old]
        lines = Counter(lines_of(form))

        def share(number: int) -> float:
            """Return the share of lines, from 0 to 1, that the live call and the recorded call `number` have in common.

            The order of the lines is ignored to save time.
            """
            other = Counter(lines_of(forms[number]))
            return 2 * (lines & other).total() / (lines.total() + other.total())

        closest = None
        if forms:
            number = max(range(len(forms)), key=share)
            call = self._old[number]
            closest = Closest(str(call.number), self._place(call), forms[number])
        return not_recorded(words, str(self.path), advice, form=form, count=len(forms), closest=closest)

    # Recording

    @property
    def _recorded(self) -> list[Recorded]:
        return [call for call in self._new if call is not None]

    @property
    def _records_all(self) -> bool:
        return self.mode == "rewrite" or (self.mode == "once" and not self._was_there)

    @property
    def _may_record(self) -> bool:
        return self._upstream is not None and (self._records_all or self.mode == "new")

    async def _record(self, exchange: Exchange, form: dict[str, Json]) -> None:
        core, place = core_of(exchange), len(self._new)
        self._new.append(None)
        if (self._normalise or self._normalise_text) and self._form(restored_form(form)) != form:
            raise ValueError(
                "normalise and normalise_text must return their own results unchanged, because the cassette holds "
                "these results and passes them to the functions again when it is read"
            )
        core.keep_increments()
        exchange.annotate(cassette={"file": str(self.path), "recorded": True})
        assert self._upstream is not None
        try:
            await self._upstream(exchange)
        except BaseException as exc:
            self._keep(exchange, place, form, exc)
            raise
        self._keep(exchange, place, form, None)

    def _keep(
        self, exchange: Exchange, place: int, form: dict[str, Json], error: BaseException | None
    ) -> None:
        core = core_of(exchange)
        outcome, keeps = outcome_given(core, error), self._keeps_auth_errors
        if failure := unrecordable(outcome, _words(exchange), self._redactor, auth_errors=keeps):
            self._failed = True
            if error is None or isinstance(error, Exception):
                raise failure from error
        elif answer := answer_given(core, outcome, self._redactor):
            self._new[place] = Recorded(number=0, form=form, answer=answer)

    def write(self, *, keep: bool = False) -> bool:
        """Write the file and return True; return False if there is nothing to write.

        Nothing is written if a call raised a `RecordingFailed`.

        `open_cassette` calls this method itself. A program that uses `Cassette` directly calls it at the end of a
        successful run. It may be called in any thread, while no call is in progress.

        Args:
            keep: if True, the calls in the file are kept even with `record="rewrite"`. This is needed if several
                cassettes each record a part of one file.

        Raises:
            OSError: the file cannot be written.
            DialectError: calls must be added to the file, but its current content is not a cassette.
        """
        check_bool("keep", keep)
        is_news = self._recorded or (self._was_there and self.mode == "rewrite")
        if self._failed or not self._may_record or not is_news:
            return False
        with alone(Path(os.path.realpath(self._file)).parent):
            # Other processes may have written the file meanwhile.
            is_new = self.mode == "rewrite" and not keep
            there: Sequence[Recorded] = () if is_new else self._old
            try:
                there = self._read_file() if self._file.exists() else there
            except DialectError:  # a file that cannot be read is recorded anew, too
                if not is_new:
                    raise
            calls = (
                merged(there, self._recorded, self._key)
                if is_new
                else added(there, self._old, self._recorded, self._key)
            )
            text = text_of(document_of(calls))
            try:
                if self._file.read_bytes() == text.encode():
                    return False
            except OSError:
                pass
            write_file(self._file, text)
        return True

    # What is compared

    def _read_file(self) -> tuple[Recorded, ...]:
        return tuple(read_file(self._file, str(self.path), self._form))

    def _form(self, request: Request) -> dict[str, Json]:
        form: dict[str, Json] = self._redactor.json(normal_form(request, sampling=self._compare_sampling))
        if self._normalise_text is not None:
            form = by_text(form, self._normalise_text)
        if self._normalise or self._normalise_text:
            request = restored_form(form)
            if self._normalise is not None:
                request = by_request(request, self._normalise)
            form = normal_form(request, sampling=self._compare_sampling)
        return form

    def _key(self, call: Recorded) -> bytes:
        return key_of(call.form, model=self._compare_model)

    def _counted(self, form: dict[str, Json]) -> dict[str, Json]:
        return form if self._compare_model else {name: part for name, part in form.items() if name != "model"}

    def _advice(self) -> str:
        said = [_CHANGED if self._was_there else _NOT_RECORDED]
        if self.mode == "once" and self._was_there:
            said.append("record='once' records nothing if the file exists.")
        if self.mode != "none" and self._upstream is None:
            said.append("Without `upstream=`, no call can be recorded.")
        return " ".join(said)


_CHANGED = (
    "If the application has changed, record the call: --triocept-record=new keeps the recorded calls and adds new "
    "ones; --triocept-record=rewrite records all calls anew. (Without the pytest plugin, set `record=` and `upstream=` "
    "of the cassette.) Parts that differ from run to run, such as dates, ids and temporary directories, are removed by "
    "`normalise_text=normalize(tmp_path)` or a function of your own."
)
_NOT_RECORDED = (
    "Record the call with --triocept-record=once. (Without the pytest plugin, set record='once' and `upstream=` of the "
    "cassette.)"
)


def _words(exchange: Exchange) -> str:
    return f"a call of rollout {exchange.rollout.id} ({exchange.dialect}, model {exchange.request.model!r})"


class CassetteOptions(TypedDict, total=False):
    """Options of `open_cassette` and `use_cassette`."""

    record: RecordMode
    upstream: Handler | None
    normalise: Normalise | None
    normalise_text: NormaliseText | None
    timing: Timing
    compare_model: bool
    compare_sampling: bool
    repeats: bool
    record_auth_errors: bool


@asynccontextmanager
async def open_cassette(
    path: str | os.PathLike[str], **options: Unpack[CassetteOptions]
) -> AsyncIterator[Cassette]:
    """Open a handler that answers from a file of recorded calls: `async with open_cassette("run.yaml") as cassette`.

    Args:
        path: the cassette's file, in readable YAML.
        record: `none` (default): answer from the file; a call that is not in the file is an error. `once`: record all
            calls if there is no file; otherwise like `none`. `new`: answer from the file, and record calls that are not
            in the file. `rewrite`: record all calls; they replace the calls in the file.
        upstream: the handler that answers calls while they are recorded: an open upstream, `forward_to(…)`, or any
            other handler.
        normalise: a function that returns a `Request` without the parts that differ from run to run. It is called with
            the dialect-neutral requests that are compared: the requests of this run, and the requests in the file.
        normalise_text: a function that is called with each text in these requests, and returns the text that is
            compared; `normalize(tmp_path)` returns such a function.
        timing: `none`: answer immediately. `recorded`: answer after the recorded time. A number: answer after the
            recorded time multiplied by this number.
        compare_model: if True, the model's name must be equal, except for the date of the model's version.
        compare_sampling: if True, temperature, token limits, effort and similar settings must be equal.
        repeats: if True, the last of several equal recorded calls may answer any number of calls.
        record_auth_errors: if True, a refusal of the API key (401, 403, Google's 400) is recorded like any other error.
            If False, the exchange raises `RecordingFailed`, and the file is not written.

    Closing: if the block ends normally, the recorded calls are written. If an exception or a cancellation ends the
    block, the file is left unchanged.

    Raises:
        ReplayMiss: raised in an exchange whose call is not recorded. The agent gets a response with status 500.
        RecordingFailed: raised in an exchange whose outcome cannot be recorded (a refusal of the key, raw bytes).
        DialectError: the file is not a cassette; the text names the line.
        OSError: the file cannot be read, or written.
        TypeError, ValueError: an argument is invalid.
    """
    await trio.lowlevel.checkpoint()
    with use_cassette(path, **options) as cassette:
        yield cassette


@contextmanager
def use_cassette(path: str | os.PathLike[str], **options: Unpack[CassetteOptions]) -> Iterator[Cassette]:
    """Open a cassette in a program that does not run in trio: `with use_cassette("run.yaml") as cassette`.

    Use `fake_model(handler=cassette)` within the block. The options are those of `open_cassette`. To record calls, pass
    `upstream=forward_to("https://…", dialect=…)`, because an open upstream needs trio.
    """
    cassette = Cassette(path, **options)
    yield cassette
    cassette.write()
