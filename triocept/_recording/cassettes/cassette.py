"""A cassette: calls of a real model and their outcomes, in a file, and answered from there.

Rules:

1. Matching is by content: a call gets the answer of the recorded call with an equal form (`normal`), in any dialect.
   Equal recorded calls are used in order; between different calls no order is kept.
2. Nothing is made up: a call that is not recorded is an error, unless this run records.
3. Only `write` writes, all at once. A run that fails leaves the file unchanged, and so does a run with an outcome that
   no cassette keeps (`unrecordable`).
"""

from __future__ import annotations

import os
from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, final

import msgspec
import trio

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..._rollout.exchange import Exchange, core_of
from ..._rollout.handler import Handler, awaiting, check_handler
from ..._trace.redaction import Redaction, Redactor
from ..._util.checks import check_bool, check_choice
from ..._util.secrets import environment_keys
from ...errors import DialectError, ReplayMiss
from ..miss import no_answer
from ..play import StillThere, Timing, give, pace_of
from .document import Read, Recorded, document_of
from .files import alone, check_place, read_file, text_of, write_file
from .forwarding import ForwardTo
from .hooks import Normalise, NormaliseText, by_request, by_text, check_hook
from .merge import added, merged
from .miss import miss, place, used_up
from .normal import key_of, normal_form
from .restored import restored_form
from .unrecordable import unrecordable
from .view import RecordedCall, seen
from .watching import answer_given, outcome_given

RecordMode: TypeAlias = Literal["none", "once", "new", "rewrite"]
"""Calls to record: none; all, if there is no file; calls that the file lacks; all, from scratch."""


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
        elif record in ("new", "rewrite"):
            raise TypeError(f"record={record!r} needs a real model to record from: upstream=handler")
        if normalise is not None:
            check_hook("normalise", normalise, "a function of a Request, that gives one")
        if normalise_text is not None:
            check_hook("normalise_text", normalise_text, "a function of a text, that gives one")
        check_bool("compare_model", compare_model)
        check_bool("compare_sampling", compare_sampling)
        check_bool("repeats", repeats)
        check_bool("record_auth_errors", record_auth_errors)
        self.path: Path = Path(path)
        """Path of the file."""
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
        """Recorded calls that this run has not used yet, by their keys."""
        for call in self._old:
            self._waiting[self._key(call)].append(call)
        if self._may_record:
            check_place(self._file)
        self._new: list[Recorded | None] = []
        """Calls recorded in this run, in order of arrival; None: the call had nothing to record."""
        self._failed = False
        """True if there was an outcome that no cassette keeps."""

    def __repr__(self) -> str:
        left = sum(map(len, self._waiting.values()))
        return f"<Cassette {self.path}: {len(self._old)} calls, {left} not asked; {len(self._recorded)} new>"

    @property
    def calls(self) -> tuple[RecordedCall, ...]:
        """Recorded calls: in the file, and in this run."""
        return tuple([seen(call, self.path) for call in (*self._old, *self._recorded)])

    @property
    def recorded(self) -> tuple[RecordedCall, ...]:
        """Calls recorded in this run."""
        return tuple([seen(call, self.path) for call in self._recorded])

    @property
    def unused(self) -> tuple[RecordedCall, ...]:
        """Calls in the file that this run has not used, in the order of the file."""
        left = {id(call) for calls in self._waiting.values() for call in calls}
        return tuple([seen(call, self.path) for call in self._old if id(call) in left])

    async def __call__(self, exchange: Exchange) -> None:
        form = self._form(core_of(exchange).recorded_request())
        key = key_of(form, model=self._compare_model)
        if self._waiting[key]:
            await self._give(exchange, key)
        elif self._may_record:
            await self._record(exchange, form)
        elif self._repeats and (same := [call for call in self._old if self._key(call) == key]):
            await give(exchange, same[-1].answer, self._pace)
        else:
            await trio.lowlevel.checkpoint()
            raise self._miss(exchange, form, key)

    # Answering

    async def _give(self, exchange: Exchange, key: bytes) -> None:
        call = self._waiting[key].pop(0)
        exchange.annotate(cassette={"file": str(self.path), "call": call.number})
        try:
            await give(exchange, call.answer, self._pace)
        except trio.Cancelled:
            if not call.answer.hung_up:  # the application has no answer, and will send the call again
                insort(self._waiting[key], call, key=self._place)
            raise
        except StillThere:
            raise no_answer(
                _asker(exchange), place(call, str(self.path)), self._advice(), str(call.number)
            ) from None

    def _place(self, call: Recorded) -> int:
        return next(place for place, each in enumerate(self._old) if each is call)

    def _miss(self, exchange: Exchange, form: dict[str, Json], key: bytes) -> ReplayMiss:
        asker, advice, file = _asker(exchange), self._advice(), str(self.path)
        if same := [call for call in self._old if self._key(call) == key]:
            return used_up(asker, same, file, advice)
        if not self._was_there and not self._old:
            return ReplayMiss(f"{asker} is not recorded: there is no file {file}.\n{advice}")
        shown = [msgspec.structs.replace(call, form=self._counted(call.form)) for call in self._old]
        return miss(asker, self._counted(form), shown, file, advice)

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
        self._check_steady(form)
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
        if failure := unrecordable(outcome, _asker(exchange), self._redactor, auth_errors=keeps):
            self._failed = True
            if error is None or isinstance(error, Exception):
                raise failure from error
        elif answer := answer_given(core, outcome, self._redactor):
            self._new[place] = Recorded(number=0, form=form, answer=answer)

    def _check_steady(self, form: dict[str, Json]) -> None:
        """Raise if the program's functions change a form again: they are applied again when the file is read."""
        if (self._normalise or self._normalise_text) and self._form(restored_form(form)) != form:
            raise ValueError(
                "normalise and normalise_text must leave alone what they have given: it is written, and they get it "
                "again when it is read"
            )

    def write(self, *, keep: bool = False) -> bool:
        """Write the file and return True, or return False if there is nothing to write.

        After a `RecordingFailed` nothing is written.

        For programs that use `Cassette` directly, to call at the end of a successful run; `open_cassette` calls it. It
        may be called in any thread while no call is in progress.

        Args:
            keep: True: the current content of the file also stays if everything is recorded anew. For several recorders
                of one file, each of which records a part.

        Raises:
            OSError: the file cannot be written.
            DialectError: calls were to be added, and the current content of the file is not a cassette.
        """
        check_bool("keep", keep)
        is_news = self._recorded or (self._was_there and self.mode == "rewrite")
        if self._failed or not self._may_record or not is_news:
            return False
        with alone(Path(os.path.realpath(self._file)).parent):
            text = text_of(document_of(self._final(keep=keep)))
            try:
                if self._file.read_bytes() == text.encode():
                    return False
            except OSError:
                pass
            write_file(self._file, text)
        return True

    def _final(self, *, keep: bool) -> list[Recorded]:
        """Return the new content of the file; other processes may have written it meanwhile."""
        if self.mode == "rewrite" and not keep:
            return merged(self._before(), self._recorded, self._key)
        there = self._read_file() if self._file.exists() else self._old
        return added(there, self._old, self._recorded, self._key)

    def _before(self) -> Sequence[Recorded]:
        """Return the previous content of a file that is recorded anew, if it can be read."""
        try:
            return self._read_file() if self._file.exists() else ()
        except DialectError:
            return ()

    # What is compared

    def _read_file(self) -> tuple[Recorded, ...]:
        return tuple(map(self._as_compared, read_file(self._file, str(self.path))))

    def _as_compared(self, call: Read) -> Recorded:
        form = self._form(call.request)
        return Recorded(number=call.number, form=form, answer=call.answer, line=call.line)

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
        """Return the part of a form that counts."""
        return form if self._compare_model else {name: part for name, part in form.items() if name != "model"}

    def _advice(self) -> str:
        said = [_CHANGED if self._was_there else _NOT_RECORDED]
        if self.mode == "once" and self._was_there:
            said.append("record='once' records nothing where there is a file.")
        if self.mode != "none" and self._upstream is None:
            said.append("There is no `upstream=` to record from.")
        return " ".join(said)


_CHANGED = (
    "If what it asks has changed, record it: with --triocept-record=new what is there stays, and what is new "
    "is recorded; with --triocept-record=rewrite all is recorded anew (without the pytest plugin: `record=` of "
    "the cassette, and its `upstream=`). What differs from run to run, such as dates, ids and temporary "
    "directories, is taken out by `normalise_text=normalize(tmp_path)` or a function of your own."
)
_NOT_RECORDED = (
    "Record it, with --triocept-record=once (without the pytest plugin: record='once' of the cassette, and its "
    "`upstream=`)."
)


def _asker(exchange: Exchange) -> str:
    return f"a call of rollout {exchange.rollout.id} ({exchange.dialect}, model {exchange.request.model!r})"
