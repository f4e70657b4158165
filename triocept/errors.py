"""Every error that triocept raises.

By situation::

    TrioceptError
    ├── DialectError             a wire document that its dialect cannot read
    ├── Refusal                  a call is refused: the agent gets the error's status and message
    │   └── LimitReached         a budget or a stop condition ended the rollout
    ├── UpstreamError            the provider of a forwarded exchange failed
    │   ├── UpstreamTruncated    the provider's stream ended before the terminal event
    │   └── ContextLengthError   the prompt is too long for the provider's model
    ├── ExchangeError
    │   ├── AlreadySettled       the exchange already has its outcome
    │   ├── Unanswered           a handler returned without an outcome for its exchange
    │   └── ExchangeAbandoned    the agent disconnected
    ├── MissingPrice             a rollout has a cost limit, and the price of a requested model is unknown
    ├── ScriptExhausted          a script has no reply for a request
    ├── ReplayMiss               no recorded turn matches the call
    ├── RecordingFailed          a cassette must not record a response
    ├── RolloutClosed            the rollout has ended
    ├── GateBypassed             an agent ran a tool without a decision of its rollout's gate
    ├── EndpointCrashed          the server crashed
    ├── TunnelError              other machines cannot reach the endpoint through its tunnel
    ├── AgentFailed              the agent could not be started, or ended with an unaccepted return code
    ├── StoreError               a fleet's store cannot be used, or cannot store a task
    ├── FleetLost                no worker of a fleet is left, and tasks have no outcome
    ├── GroupStopped             a sample has no value, because its group was stopped before the sample had a value
    └── RemoteError              replaces an exception of a worker that cannot be pickled

If a handler raises a `Refusal` or an `UpstreamError`, the error is an answer: the agent gets the error's status and
message, and the rollout stays open. Any other exception of a handler ends the rollout, and the agent gets a 500.

Closed channels raise trio's own errors: `trio.ClosedResourceError`, `trio.EndOfChannel`, `trio.BrokenResourceError`.
For a port that is in use, a plain `OSError` is raised. For a host that does not resolve, a plain `socket.gaierror` is
raised. No message of these errors contains a key.

Each error can be pickled and copied. The copy has the same attributes and text as the original, even in another
process.
"""

from __future__ import annotations

import copyreg
import re
from collections.abc import Mapping
from typing import Any

from ._util.checks import check_bool, check_count, check_number, check_str, check_type
from ._util.figures import counted
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
    "GateBypassed",
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
    """The base class of all triocept errors."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ calls the class with `args`. Here `args` is the text, not the arguments of `__init__`.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class DialectError(TrioceptError):
    """A document (such as the JSON body of a request) that its dialect cannot read.

    Attributes:
        path: the place in the document, e.g. `messages[3].content[0].type`; empty for the document itself.
        problem: description of the problem, without the path.
    """

    def __init__(self, problem: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class Refusal(TrioceptError):
    """A refusal of a call. If a handler raises a `Refusal`, the agent gets an error in the agent's own dialect.

    Attributes:
        status: the HTTP status, 400 to 599.
        message: the text that the agent receives, and may write to its log.
        retry_after: seconds after which the agent may retry. None means no header `retry-after`.
        should_retry: value of the header `x-should-retry`, which SDKs read. None means no such header.
        code: the dialect's own error code or type. If None, the code is derived from the status.
        headers: further response headers, such as rate limits; names in lower case, values of visible ASCII
            characters, spaces and tabs.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the status is outside 400 to 599, `retry_after` is not a duration, or a header cannot be sent.
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
        given: object = status
        if isinstance(given, str) and not given.isdecimal():
            raise TypeError(f"a refusal's status comes first, and then its message: pass 429, {given!r}")
        check_count("a refusal's status", status)
        if not 400 <= status <= 599:
            raise ValueError(f"the status of a refusal must be 400 to 599, not {status}")
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
_VALUE = re.compile(r"[\t\x20-\x7e]*")  # clients differ in how they decode any other octet, and some fail
_FRAMING = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "transfer-encoding"}
)


def can_be_sent(name: str, value: object) -> bool:
    """Return True if a header is valid (RFC 9110, 5.5), and does not frame the body.

    The server itself sets the headers that frame the body, such as `content-length`.
    """
    if not isinstance(value, str):
        return False
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value)) and name.lower() not in _FRAMING


def _checked(name: str, value: str) -> tuple[str, str]:
    check_str("the name of a refusal's header", name)
    if not can_be_sent(name, value):
        raise ValueError(
            f"a refusal cannot have the header {name!r} with the value {value!r}: a value may contain only visible "
            "ASCII characters, spaces and tabs, and the server itself sets the connection and content headers"
        )
    return name.lower(), value


def _mended_code(code: str | None) -> str | None:
    if code is not None and not isinstance(code, str):
        raise TypeError(f"a refusal's code must be a str, not {type(code).__name__}: {code!r}")
    return code and mended_text(code)


class LimitReached(Refusal):
    """A refusal because a limit or a stop condition was reached.

    `rollout.stop` and some handlers refuse calls with this error. Default status: 404, after which no known agent
    retries (except Claude Code, which retries once, without a stream).
    """

    def __init__(self, message: str, *, status: int = 404) -> None:
        super().__init__(status, message, should_retry=False)


class UpstreamError(TrioceptError):
    """A failure of the provider of a forwarded exchange. The agent gets the status and the message.

    The exception's text also contains `upstream` and `rollout`.

    Attributes:
        message: the provider's message, or a description of the fault in the provider's answer. The agent receives this
            text.
        status: the provider's HTTP status, 502 if the provider sent no status, or 504 after a timeout.
        body: the provider's body, as text.
        headers: the provider's response headers that are passed on (request ids, rate limits, `retry-after`), names in
            lower case.
        code: the provider's own error code or type. None if the provider sent no code.
        dialect: the dialect of `body` and `code`; empty if the body is not a document of a dialect.
        upstream: the name of the upstream; empty if no upstream was involved.
        rollout: the id of the rollout that sent the call; empty if no rollout was involved.
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
    """A provider's stream that ended before its terminal event. Such a stream never counts as a success."""


class ContextLengthError(UpstreamError):
    """A prompt that is too long for the model."""


class ExchangeError(TrioceptError):
    """An operation that the current state of an exchange does not allow."""


class AlreadySettled(ExchangeError):
    """An attempt to answer or refuse an exchange that already has its outcome."""


class Unanswered(ExchangeError):
    """A handler that returned without an outcome for its exchange. The agent gets a 500."""


class ExchangeAbandoned(ExchangeError):
    """An exchange that cannot be answered, because its agent has disconnected."""


class MissingPrice(TrioceptError):
    """A request for a model whose price is unknown, in a rollout with a cost limit.

    The agent got no part of an answer.
    """


class ScriptExhausted(TrioceptError):
    """A request for which a script has no reply.

    The error's text shows the request, and the rules of the script that are closest to a match.
    """


class ReplayMiss(TrioceptError):
    """A call for which a recording has no answer.

    The error's text shows the differences to the most similar recorded call.

    Attributes:
        closest: the id of the most similar recorded turn. None if no turn is similar.
        difference: the differences between the recorded turn (`-`) and the live call (`+`), line by line.
    """

    def __init__(self, message: str, *, closest: str | None = None, difference: str = "") -> None:
        super().__init__(mended_text(message))
        self.closest = closest
        self.difference = difference


class RecordingFailed(TrioceptError):
    """A response that a cassette cannot record.

    The reason: the provider refused the key or could not be reached, or the response is raw bytes. The cassette's file
    is not written in this run.
    """


class RolloutClosed(TrioceptError):
    """An operation on a rollout that has ended."""


class GateBypassed(TrioceptError):
    """A tool that the agent ran without a decision of its rollout's gate. The agent's hooks are missing or failed."""


class EndpointCrashed(TrioceptError):
    """A crash of the endpoint's server. `__cause__` is the error that caused it."""


class TunnelError(TrioceptError):
    """An endpoint that other machines cannot reach through its tunnel."""


class AgentFailed(TrioceptError):
    """An agent that could not be started, or that ended with a return code that the caller does not accept.

    Attributes:
        argv: the command, without the environment.
        returncode: the return code. None if the agent could not be started.
    """

    def __init__(self, message: str, *, argv: tuple[str, ...], returncode: int | None = None) -> None:
        super().__init__(message)
        self.argv = argv
        self.returncode = returncode


class FleetLost(TrioceptError):
    """The loss of a fleet's last worker without a replacement, so that some tasks have no outcome.

    Attributes:
        unfinished: the started tasks without an outcome. Tasks that `map` has not read from its input yet are not
            included.
    """

    def __init__(self, message: str, *, unfinished: tuple[Any, ...]) -> None:
        shown = ", ".join(f"{task!r:.60}" for task in unfinished[:5]) + (", …" if len(unfinished) > 5 else "")
        super().__init__(
            f"{message}; {counted(len(unfinished), 'task has', 'tasks have')} no outcome ({shown})"
        )
        self.unfinished = unfinished


class GroupStopped(TrioceptError):
    """Access to the value of a sample whose group was stopped before it had a value (`fleet.map(stop_group=…)`)."""


class StoreError(TrioceptError):
    """A fleet's store that cannot be used as requested, or an item that cannot be stored.

    Attributes:
        path: the path of the store, or the path and line of a file in it. None if the error concerns a task.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.args[0]}" if self.path is not None else str(self.args[0])


class RemoteError(TrioceptError):
    """Replacement for an exception in a worker that cannot be pickled, or that cannot be unpickled in this process.

    Attributes:
        type: the full name of the exception's class, for example `myproject.errors.Odd`.
    """

    def __init__(self, message: str, *, type: str) -> None:  # noqa: A002 - the field's own word
        super().__init__(mended_text(f"{type}: {message}"))
        self.type = type
