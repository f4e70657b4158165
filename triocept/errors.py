"""Every error that triocept raises, by situation::

    TrioceptError
    ├── DialectError             a wire document that its dialect cannot read
    ├── Refusal                  an answer that is a refusal: the agent gets its status and message
    │   └── LimitReached         a budget or a stop condition ended the rollout
    ├── UpstreamError            the provider of a forwarded exchange failed
    │   ├── UpstreamTruncated    its stream ended before the terminal event
    │   └── ContextLengthError   the prompt is too long for its model
    ├── ExchangeError
    │   ├── AlreadySettled       the exchange has its outcome already
    │   ├── Unanswered           a handler returned, and the exchange had none
    │   └── ExchangeAbandoned    the agent hung up
    ├── MissingPrice             a cost is limited, and nobody knows what a model costs
    ├── ScriptExhausted          a scripted model was asked what it has no reply for
    ├── ReplayMiss               a replay was asked what its record does not have
    ├── RecordingFailed          a cassette was to record what no cassette keeps
    ├── RolloutClosed            the rollout has ended
    ├── EndpointCrashed          the server died by itself
    ├── TunnelError              the endpoint cannot be reached from elsewhere
    ├── AgentFailed              the agent could not be started, or ended badly when asked to be checked
    ├── StoreError               a fleet's store that cannot be used, or that a task does not fit in
    ├── FleetLost                no worker of a fleet is left, and tasks have no outcome
    ├── GroupStopped             the value was asked for of a sample that its group's end cut short
    └── RemoteError              an error of a worker that cannot cross to this process: its class by name

A `Refusal` and an `UpstreamError` raised in a handler are answers: they are relayed to the agent with their
status, and the rollout lives on. Any other exception of a handler ends the rollout (and the agent gets a 500).

Channel states are trio's own: `trio.ClosedResourceError`, `trio.EndOfChannel`, `trio.BrokenResourceError`.
A port that is taken is a bare `OSError`, a host that does not resolve a bare `socket.gaierror`.
No message of these errors ever holds a key.

Each can be pickled and copied, whatever its arguments: a process pool hands it on with its attributes and its text.
"""

from __future__ import annotations

import copyreg
import re
from collections.abc import Mapping
from typing import Any

from ._util.checks import check_bool, check_count, check_number, check_str, check_type
from ._util.unicode import mended_text

__all__ = [
    "AgentFailed",
    "AlreadySettled",
    "ContextLengthError",
    "DialectError",
    "EndpointCrashed",
    "ExchangeAbandoned",
    "ExchangeError",
    "FleetLost",
    "GroupStopped",
    "LimitReached",
    "MissingPrice",
    "Refusal",
    "RecordingFailed",
    "RemoteError",
    "ReplayMiss",
    "RolloutClosed",
    "ScriptExhausted",
    "StoreError",
    "TrioceptError",
    "TunnelError",
    "Unanswered",
    "UpstreamError",
    "UpstreamTruncated",
]


class TrioceptError(Exception):
    """The root of every error of triocept."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Python's own calls the class with `args`, which are the text here and not what `__init__` takes.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class DialectError(TrioceptError):
    """A wire document that its dialect cannot read.

    Attributes:
        path: the place in the document, e.g. `messages[3].content[0].type`; empty for the document itself.
        problem: what is wrong there, without the path.
    """

    def __init__(self, problem: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class Refusal(TrioceptError):
    """An answer that is a refusal: raise it in a handler, and the agent gets it in its own dialect.

    Attributes:
        status: the HTTP status, 400 to 599.
        message: what the agent (and its log) reads.
        retry_after: seconds after which the agent may try again; None says nothing about that.
        should_retry: what `x-should-retry` tells the SDKs; None sends no such header.
        code: the dialect's own error code or type; None lets the dialect choose by status.
        headers: further response headers, such as rate limits; names in lower case, values of visible ASCII
            characters, spaces and tabs.

    Raises:
        TypeError: an argument is not of its type.
        ValueError: the status is none of a refusal, `retry_after` is no time, or a header cannot be sent.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_count("a refusal's status", status)
        if not 400 <= status <= 599:
            raise ValueError(f"a refusal has a status from 400 to 599, not {status}")
        if retry_after is not None:
            check_number("retry_after", retry_after)
        check_str("a refusal's message", message)
        if should_retry is not None:
            check_bool("a refusal's should_retry", should_retry)
        message = mended_text(message)
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.code: str | None = _mended_code(code)
        if headers is not None:
            check_type("a refusal's headers", headers, Mapping, "a mapping of names to values")
        self.headers: dict[str, str] = dict(_checked(name, value) for name, value in (headers or {}).items())


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")  # clients differ in what they take any other octet for, and some fail
_FRAMING = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "transfer-encoding"}
)


def can_be_sent(name: str, value: object) -> bool:
    """Whether a response can have this header beside those that frame it (RFC 9110, 5.5)."""
    if not isinstance(value, str):
        return False
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value)) and name.lower() not in _FRAMING


def _checked(name: str, value: str) -> tuple[str, str]:
    check_str("the name of a refusal's header", name)
    if not can_be_sent(name, value):
        raise ValueError(f"a refusal cannot have the header {name!r}: {value!r}")
    return name.lower(), value


def _mended_code(code: str | None) -> str | None:
    if code is not None and not isinstance(code, str):
        raise TypeError(f"a code is a str, not {type(code).__name__}: {code!r}")
    return code and mended_text(code)


class LimitReached(Refusal):
    """A budget or a stop condition was reached: `rollout.stop` refuses with it, and so can a handler.

    Its status is 404 unless said otherwise: the one that every known agent takes as final (Claude Code asks once
    more, without a stream).
    """

    def __init__(self, message: str, *, status: int = 404) -> None:
        super().__init__(status, message, should_retry=False)


class UpstreamError(TrioceptError):
    """The provider of a forwarded exchange failed; the agent gets its status and message.

    Attributes:
        message: what the provider says, or what is wrong with what it says: the agent reads it.
        status: the provider's HTTP status, or 502 where there was none; 504 where it took too long.
        body: the provider's body, as text.
        headers: those of the provider's response headers that are passed on (request ids, rate limits, `retry-after`),
            names in lower case.
        code: the provider's own error code or type; None where it says none.
        dialect: the dialect that `body` and `code` are in; empty where the body is not a document of it.
        upstream: which upstream it was; empty where no upstream was involved. Stands in the exception's text.
        rollout: the id of the rollout whose call it was; likewise.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        code: str | None = None,
        dialect: str = "",
        upstream: str = "",
        rollout: str = "",
    ) -> None:
        message = mended_text(str(message))
        super().__init__(message)
        self.message = message
        self.status = status
        self.body: str = mended_text(body)
        self.headers: dict[str, str] = dict(headers or {})
        self.code: str | None = _mended_code(code)
        self.dialect = dialect
        self.upstream = upstream
        self.rollout = rollout

    def __str__(self) -> str:
        where = [f"{self.status} from {self.upstream}"] if self.upstream else []
        where += [f"for rollout {self.rollout}"] if self.rollout else []
        return f"{' '.join(where)}: {self.message}" if where else self.message


class UpstreamTruncated(UpstreamError):
    """The provider's stream ended before its terminal event: never a success."""


class ContextLengthError(UpstreamError):
    """The prompt is too long for the model."""


class ExchangeError(TrioceptError):
    """Something was asked of an exchange that its state does not allow."""


class AlreadySettled(ExchangeError):
    """The exchange has its one outcome already."""


class Unanswered(ExchangeError):
    """A handler returned, and its exchange had no outcome. The agent gets a 500."""


class ExchangeAbandoned(ExchangeError):
    """The agent hung up: nobody is there to be answered."""


class MissingPrice(TrioceptError):
    """A cost is limited, and a model was asked for that has no price. Nothing of that call was answered."""


class ScriptExhausted(TrioceptError):
    """A scripted model was asked what it has no reply for; the message shows the request, and the closest rules."""


class ReplayMiss(TrioceptError):
    """A replay was asked what its record does not have; the message says where the two part, and what to do.

    Attributes:
        closest: the id of the recorded turn that is nearest; None where none is.
        difference: how that and the call differ, line by line: `-` is recorded, `+` live.
    """

    def __init__(self, message: str, *, closest: str | None = None, difference: str = "") -> None:
        super().__init__(mended_text(message))
        self.closest = closest
        self.difference = difference


class RecordingFailed(TrioceptError):
    """A cassette was to record what no cassette keeps: a provider's refusal of the key, a provider that was not
    reached, or raw bytes. Nothing of this run is written."""


class RolloutClosed(TrioceptError):
    """The rollout has ended; nothing can be asked of it any more."""


class EndpointCrashed(TrioceptError):
    """The server died by itself; `__cause__` says of what."""


class TunnelError(TrioceptError):
    """The endpoint cannot be reached through its tunnel."""


class AgentFailed(TrioceptError):
    """The agent could not be started, or it ended with a return code that the caller does not accept.

    Attributes:
        argv: the command, without the environment.
        returncode: None where the agent never started.
    """

    def __init__(self, message: str, *, argv: tuple[str, ...], returncode: int | None = None) -> None:
        super().__init__(message)
        self.argv = argv
        self.returncode = returncode


class FleetLost(TrioceptError):
    """No worker of a fleet is left, and none can be started: these tasks have no outcome.

    Attributes:
        unfinished: the tasks that were begun; of those that nobody had pulled yet nothing is known.
    """

    def __init__(self, message: str, *, unfinished: tuple[Any, ...]) -> None:
        shown = ", ".join(f"{task!r:.60}" for task in unfinished[:5]) + (", …" if len(unfinished) > 5 else "")
        super().__init__(f"{message}; unfinished: {len(unfinished)} ({shown})")
        self.unfinished = unfinished


class GroupStopped(TrioceptError):
    """The value was asked for of a sample that has none: its group was stopped before (`fleet.map(stop_group=…)`)."""


class StoreError(TrioceptError):
    """A fleet's store cannot be used as it is asked to be, or something does not fit in it.

    Attributes:
        path: the store, or its file and line; None where it is about a task.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.args[0]}" if self.path is not None else str(self.args[0])


class RemoteError(TrioceptError):
    """What a worker's function raised, which cannot be pickled, or not be made again here.

    Attributes:
        type: its class, by name: `myproject.errors.Odd`.
    """

    def __init__(self, message: str, *, type: str) -> None:  # noqa: A002 - the field's own word
        super().__init__(mended_text(f"{type}: {message}"))
        self.type = type
