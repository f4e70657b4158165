"""The quiet walk: one rollout without sockets, one thing at a time, so that what must come of it is known exactly.

Clients ask few questions, and so often the same one; they hang up, read late, and mark their calls as agents do. A
model of the rule of retries, written from the rule and not from the code, says for each call which exchange it must
share. The record is made with a redaction, while the clock of the computer is set now and then. At the end it is
replayed: each question gets the answers that it had, in their order.

`python -m tests.walk.quiet --seed N` plays one seed, and without `--seed` fresh ones, for some seconds.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import msgspec
import trio
import trio.testing

from tests.unserved import opened
from triocept import Exchange, Message, Request, Rollout, Text, Trace
from triocept._rollout.answer import Answer, ClientGone, Subscription
from triocept._rollout.asking import Asking
from triocept._rollout.exchange import core_of
from triocept._rollout.outcome import Answered, Outcome, Refused
from triocept._rollout.rollout import core_of_rollout
from triocept.handlers import Replay
from triocept.traces import Redaction

from .history import Steps
from .shrink import shrunk

CALLS = 50
"""Of one walk: fewer than answers that are kept for a retry."""
SECRET = "card-{}"
REDACTION = Redaction([r"card-\d+"])
MARK = "[redacted]"
COUNT = "x-stainless-retry-count"
HEADERS: dict[str, dict[str, str]] = {
    "": {},
    "first try": {COUNT: "0"},
    "second try": {COUNT: "1"},
    "session": {"x-session-id": "s"},
    "counted session": {"x-session-id": "s", COUNT: "0"},
    "Claude Code": {"x-claude-code-session-id": "c", COUNT: "0"},
}
"""What an agent says of a call. All of a session, and the second try, say that a call may be a retry; the sessions of
SDKs that count their tries do not."""
SESSIONS = {"session": "s", "counted session": "s", "Claude Code": "c"}
PROVEN = ("second try", "session", "Claude Code")


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client asks."""

    number: int
    question: int
    secret: int = 0
    """In a field beside the messages; 0: there is none."""
    says: str = ""
    """One of `HEADERS`."""
    late: bool = False
    """True if it reads nothing of its answer before its `Read`."""


class Leave(msgspec.Struct, frozen=True):
    """A client hangs up."""

    client: int


class Read(msgspec.Struct, frozen=True):
    """A client reads its answer."""

    client: int


class Settle(msgspec.Struct, frozen=True):
    """The exchange of a client's call gets its outcome."""

    client: int
    answers: bool = True


class SetClock(msgspec.Struct, frozen=True):
    """The clock of the computer is set."""

    by: float


Step: TypeAlias = Ask | Leave | Read | Settle | SetClock


class History(Steps[Step], frozen=True, kw_only=True):
    """A quiet walk."""

    on_hangup: str
    on_retry: str


def history_of(seed: int) -> History:
    """Make the history of a seed."""
    chance = random.Random(seed)
    steps: list[Step] = []
    asked = 0
    questions, secrets = chance.choice([1, 2, 4]), chance.choice([0, 0, 1, 2])
    orderly = chance.random() < 0.5
    headers = ["", "first try", "second try"] if orderly else list(HEADERS)
    while asked < CALLS:
        client = chance.randrange(max(0, asked - 5), asked) if asked else 0
        match chance.choices(["ask", "leave", "read", "settle", "clock"], [40, 20, 10, 30, 3])[0]:
            case "ask":
                says = chance.choice(headers)
                question, secret = chance.randrange(questions), chance.randint(0, secrets)
                steps.append(Ask(asked, question, secret, says, late=chance.random() < 0.2))
                if orderly:
                    steps += [Leave(asked)] * (chance.random() < 0.1) + [
                        Settle(asked, chance.random() < 0.85)
                    ]
                asked += 1
            case "leave":
                steps.append(Leave(client))
            case "read":
                steps.append(Read(client))
            case "settle":
                steps.append(Settle(client, answers=chance.random() < 0.85))
            case "clock" if sum(isinstance(step, SetClock) for step in steps) < 3:
                steps.append(SetClock(chance.choice([-3600, 3600])))
    on_hangup, on_retry = chance.choice(["cancel", "finish"]), chance.choice(["join", "join", "join", "new"])
    return History(seed=seed, steps=tuple(steps), on_hangup=on_hangup, on_retry=on_retry)


def play(history: History) -> list[str]:
    """Play a history; what does not hold of it."""
    with _clock() as clock:
        walk = _Walk(history, clock)
        try:
            trio.run(walk.run, clock=clock.trios)
        except Exception as exc:
            walk.violations.append(f"the walk itself: {exc!r}")
        return walk.violations


def report(history: History, violations: Sequence[str]) -> str:
    """Say what does not hold, and the shortest part of the history that was found to fail."""
    short = shrunk(history, lambda part: bool(play(part)), seconds=20)
    lines = [f"the quiet walk of seed {history.seed} fails:", *violations[:5]]
    lines += [
        f"shortest ({history.on_hangup}, {history.on_retry}):",
        *map(repr, short.steps),
        *play(short)[:5],
    ]
    return "\n".join(lines)


class _Clock:
    """The computer's clock, which goes as trio's does, and is set."""

    def __init__(self) -> None:
        self.trios = trio.testing.MockClock(autojump_threshold=0)
        self.ahead = 1e9

    def time(self) -> float:
        return self.trios.current_time() + self.ahead


@contextmanager
def _clock() -> Iterator[_Clock]:
    clock, before = _Clock(), time.time
    time.time = clock.time  # type: ignore[assignment]
    try:
        yield clock
    finally:
        time.time = before


class _Client(Asking):
    """A connection that waits for an answer."""

    def __init__(self, step: Ask) -> None:
        super().__init__()
        self.step = step
        self.request = _request(step)
        self.reads = trio.Event()
        self.scope = trio.CancelScope()
        self.answer: Answer | None = None
        """What it was given to wait for."""
        self.over = False
        if not step.late:
            self.reads.set()

    @property
    def proven(self) -> bool:
        return self.step.says in PROVEN

    def end(self, outcome: Outcome) -> bool:
        super().end(outcome)
        return self.reads.is_set()

    async def flush(self) -> None:
        await self.reads.wait()

    async def deliver(self, subscription: Subscription) -> None:
        self.answer = subscription.answer
        with self.scope:
            await subscription.follow(self)
            return
        raise ClientGone

    async def ask(self, rollout: Rollout) -> None:
        core = core_of_rollout(rollout)
        try:
            await core.answer_call(self.request, self.deliver, raw=None, headers=HEADERS[self.step.says])
        finally:
            self.over = True


class _Made:
    """An exchange, as the model knows it."""

    def __init__(self, client: _Client, answer: Answer) -> None:
        self.client = client
        self.answer = answer
        self.readers = {client}
        self.left = False
        """True if some client has left it while it was open."""
        self.delivered = False
        self.outcome = ""
        self.text = ""

    @property
    def is_lost(self) -> bool:
        return self.outcome == "answered" and not self.delivered and not self.readers


class _Walk:
    def __init__(self, history: History, clock: _Clock) -> None:
        self.history = history
        self.clock = clock
        self.violations: list[str] = []
        self.made: list[_Made] = []
        """In the order in which they began."""
        self.ended: list[_Made] = []
        """In the order in which they ended."""
        self.clients: dict[int, _Client] = {}
        self.handed: list[Exchange] = []
        self.overlapped = False
        """True once an exchange has begun while another was open: in which order a replay gives them then is another
        rule's business."""

    async def run(self) -> None:
        """Play the history, then replay its record."""
        options: dict[str, Any] = {name: getattr(self.history, name) for name in ("on_hangup", "on_retry")}
        async with opened(self.handle, within=1e6, redact=REDACTION, **options) as rollout:
            async with trio.open_nursery() as nursery:
                for step in self.history.steps:
                    await self.take(step, rollout, nursery)
                    await trio.sleep(0.1)  # until every task waits
                for one in self.made:
                    await self.settle(one, True, nursery)
                    await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
        sessions = any(SESSIONS.get(each.step.says) for each in self.clients.values())
        if not (self.violations or self.overlapped or sessions):
            await self.replay(rollout.trace)

    async def handle(self, exchange: Exchange) -> None:
        self.handed.append(exchange)
        await trio.sleep_forever()

    async def take(self, step: Step, rollout: Rollout, nursery: trio.Nursery) -> None:
        match step:
            case Ask():
                await self.ask(_Client(step), rollout, nursery)
            case Leave() | Read() | Settle() if (
                client := self.clients.get(step.client)
            ) is None or client.over:
                pass  # it was left out, or is gone
            case Leave():
                self.leave(client)
            case Read():
                client.reads.set()
                self.deliver(self.of(client))
            case Settle():
                await self.settle(self.of(client), step.answers, nursery)
            case SetClock() if not any(not one.outcome for one in self.made):
                self.clock.ahead += step.by
                # A record cannot tell how long nothing happened: gaps of one length might make up for each other.
                await trio.sleep(5 + 3 * trio.current_time())

    def of(self, client: _Client) -> _Made:
        """The exchange that a client waits for."""
        return next(one for one in self.made if one.answer is client.answer)

    async def ask(self, client: _Client, rollout: Rollout, nursery: trio.Nursery) -> None:
        expected = self.shared(client)
        nursery.start_soon(client.ask, rollout)
        await trio.sleep(0.01)
        self.clients[client.step.number] = client
        assert client.answer is not None
        found = next((one for one in self.made if one.answer is client.answer), None)
        if found not in (expected or [None]):
            numbers = [one.client.step.number for one in expected]
            got = "a new one" if found is None else f"that of call {found.client.step.number}"
            self.violations.append(f"retries: {client.step} got {got}, and not one of {numbers or 'its own'}")
        if found is None:
            self.overlapped = self.overlapped or any(not one.outcome for one in self.made)
            self.made.append(_Made(client, client.answer))
        else:
            found.readers.add(client)
            self.deliver(found)

    def shared(self, client: _Client) -> list[_Made]:
        """The exchanges of which a call must share one; none: it gets its own."""
        if self.history.on_retry == "new":
            return []
        like = [one for one in self.made if _key(one.client.step) == _key(client.step)]
        ended = [one for one in self.ended if one in like]
        running = [one for one in like if not one.outcome]
        undelivered = [one for one in ended if one.outcome == "answered" and not one.delivered]
        if lost := [one for one in undelivered if not one.readers]:
            return lost[:1]
        if left := [one for one in running if one.left and not one.readers]:
            return left
        if client.proven and (running or undelivered):
            return running or undelivered[:1]
        if client.step.says == "second try" and ended and ended[-1].outcome == "answered":
            return ended[-1:]
        return []

    def leave(self, client: _Client) -> None:
        client.scope.cancel()
        one = self.of(client)
        one.readers.discard(client)
        if not one.outcome:
            one.left = True
            if not one.readers and self.history.on_hangup == "cancel":
                self.end(one, "abandoned")

    def end(self, one: _Made, outcome: str) -> None:
        one.outcome = outcome
        self.ended.append(one)

    def deliver(self, one: _Made) -> None:
        """An answer that is there goes to those that read."""
        reading = {client for client in one.readers if client.reads.is_set()}
        if one.outcome in ("answered", "refused"):
            one.delivered = one.delivered or bool(reading)
            one.readers -= reading

    async def settle(self, one: _Made, answers: bool, nursery: trio.Nursery) -> None:
        if one.outcome:
            return
        exchange = next(each for each in self.handed if core_of(each).answer is one.answer)
        one.text = f"answer {self.made.index(one)} {SECRET.format(one.client.step.secret)}"
        if answers:
            nursery.start_soon(_settled, exchange.respond, one.text)
        else:
            nursery.start_soon(_settled, exchange.refuse, 400, one.text)
        self.end(one, "answered" if answers else "refused")
        self.deliver(one)

    async def replay(self, trace: Trace) -> None:
        """Ask what was answered, one call after the other: each gets what it had."""
        options: dict[str, Any] = {"redact": REDACTION, "on_retry": "new"}
        async with opened(Replay(trace), within=1e6, **options) as rollout:
            for one in self.made:
                if one.outcome not in ("answered", "refused"):
                    continue  # a hang-up: it is chosen only where there is nothing else
                step = one.client.step
                client = _Client(Ask(0, step.question, step.secret, step.says))
                await client.ask(rollout)
                text = _text_of(client.outcome)
                if text != one.text.replace(SECRET.format(step.secret), MARK):
                    self.violations.append(f"replay: {step} got {text!r}, and had {one.text!r}")


async def _settled(settle: Any, *arguments: object) -> None:
    with suppress(Exception):  # its client has left meanwhile
        await settle(*arguments)


def _request(step: Ask) -> Request:
    secret = {"card": SECRET.format(step.secret)} if step.secret else None
    messages = (Message("user", (Text(f"question {step.question}"),)),)
    return Request(dialect="openai_chat", model="m", messages=messages, extra=secret)


def _key(step: Ask) -> object:
    """Equal for calls of which one may repeat the other."""
    return step.question, step.secret, SESSIONS.get(step.says)


def _text_of(outcome: Outcome | None) -> str:
    if isinstance(outcome, Answered):
        return outcome.response.text
    if isinstance(outcome, Refused):
        return outcome.refusal.message
    return "" if outcome is None else repr(outcome)


def main() -> int:
    """Walk; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.walk.quiet", description=__doc__)
    parser.add_argument("--seed", type=int, help="walk this one, and no other")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    begun, count = time.monotonic(), 0
    while True:
        if violations := play(history := history_of(seed + count)):
            print(report(history, violations))
            return 1
        count += 1
        if options.seed is not None or time.monotonic() - begun > options.seconds:
            break
    print(f"{count} quiet walks from seed {seed} on hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
