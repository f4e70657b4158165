"""Send model calls of the program itself (`Rollout.ask`), for example from its tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

import trio

from .._canonical.content import Message, Text
from .._canonical.given import fit
from .._canonical.given_request import given_messages, given_request
from .._canonical.request import Request
from .._canonical.response import Response
from .._trace.raw import RawResponse
from .._util.checks import described
from ..errors import Refusal
from .answer import Condition, Entry
from .outcome import Answered, Failed, Outcome, Raw, Refused, words_of_fault
from .rollout_state import RolloutState


class Asking:
    """A `Delivery` without a connection, for a call of `Rollout.ask`.

    The object stores the outcome, which `ask` then reads.
    """

    full = False
    due = keepalive_every = inf

    def __init__(self) -> None:
        self.outcome: Outcome | None = None

    def write(self, entry: Entry) -> bool:
        """Write nothing, because `ask` takes the whole answer from the outcome."""
        return True

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Render nothing, because no bytes are recorded."""

    def write_early(self, data: bytes) -> bool:
        return False

    def check_raw(self, raw: RawResponse) -> None:
        """Accept all raw bytes.

        `ask` returns the content of the bytes later. If the content is unknown, `ask` raises an error.
        """

    def end(self, outcome: Outcome) -> bool:
        self.outcome = outcome
        return True

    def break_silence(self, announce: Callable[[], str]) -> bool:
        """Send nothing: `Rollout.ask` has no time limit, so a long pause needs no keep-alive."""
        return True

    def fail(self, error: Exception) -> bool:
        """Send no error: no dialect renders the answer, so rendering cannot fail."""
        return True

    async def wait(self, news: Condition, until: float) -> None:
        await news.wait()

    async def flush(self) -> None:
        """Return at once, because no bytes are sent."""


def request_of(given: object, model: str) -> Request:
    """Convert `given`, the argument of `Rollout.ask`, to a request.

    Raise TypeError or ValueError if `given` is invalid.

    `model` is the model that is requested if `given` is a text or messages.
    """
    if isinstance(given, Request):
        return given_request("ask", given)
    if isinstance(given, str):
        given = (Message("user", (Text(given),)),)
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        hint = "; for a single message, write ask([message])" if isinstance(given, Message) else ""
        raise TypeError(f"ask takes a text, a Request or Messages, not {described(given)}{hint}")
    messages = given_messages("ask: messages", given)
    return fit(Request(dialect="openai_chat", model=model, messages=messages))


@trio.lowlevel.enable_ki_protection
async def ask(rollout: RolloutState, request: Request) -> Response:
    """See `Rollout.ask`."""
    asking = Asking()
    await rollout.answer_call(
        request, lambda subscription: subscription.follow(asking), raw=None, headers={}, kind="tool"
    )
    match asking.outcome:
        case Answered(response=response) | Raw(complete=True, response=Response() as response):
            return response
        case Raw(sent=sent):
            text = f"the handler answered the call with raw bytes, which cannot be returned as a Response: {sent}"
            raise Refusal(502, text, should_retry=False)
        case Refused(refusal=refusal):
            raise refusal
        case outcome:  # this caller does not disconnect: the end of its rollout is a refusal, too
            assert isinstance(outcome, Failed)
            raise Refusal(500, words_of_fault(outcome.error), should_retry=False)
