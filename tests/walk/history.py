"""The steps of a walk, as data.

Each can be played by itself: one whose rollout, endpoint or connection is not there does nothing. Times are turns of
the event loop.
"""

from typing import Generic, Self, TypeAlias, TypeVar

import msgspec

S = TypeVar("S")
QUIET = -1
"""In the place of a number of turns: until every task waits."""
SECRET = "card-4111-1111"
"""What is taken out of some records."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What whoever answers a call does."""

    does: str = "respond"
    """`respond`, `stream`, `call`, `refuse`, `raise Refusal`, `raise UpstreamError`, `fault`, `group`, `return`,
    `hold`, `wait`, `forward`, `stop`, `twice`, `thread`, `cancel`, `deadline`, `deadline in a stream`, `nested`."""
    turns: int = 0
    """Before it, and between the pieces of a stream."""
    shielded: bool = False
    """Whether no cancellation ends these turns: whoever answers is busy, and acts on what it finds then."""
    pieces: int = 3
    size: int = 1
    """Characters of filler in the answer."""
    fails: str = ""
    """How a stream breaks before its last piece: ``, `fault`, `raise Refusal`, `raise UpstreamError`."""
    at_signal: bool = False
    """Whether a stream waits for its `Clash` before its last piece."""
    after: str = ""
    """Behind the answer: ``, `fault`, `wait`."""
    status: int = 429
    unrecorded: bool = False
    """Whether a recorder that can fail fails with its turn."""
    speaks: str = "openai_chat"
    provider: str = "answers"
    """`answers`, `refuses`, `fails`, `breaks off`, `hangs up`, `is cut`, `waits`."""


class OpenEndpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="endpoint"):
    number: int
    own_http1: bool = True
    pause: int = 0


class OpenPool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="pool"):
    """A pool of two endpoints; a rollout in it has its number as its endpoint."""

    number: int
    moves: bool = True
    own_http1: bool = True
    pause: int = 0


class OpenRollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="rollout"):
    number: int
    endpoint: int
    parent: int | None = None
    form: str = "handler"
    """Whoever answers: `handler`, `serve`, `loop`, `tasks` (a loop with a task for each)."""
    on_hangup: str = "cancel"
    on_retry: str = "join"
    on_fault: str = "cancel"
    concurrency: int | None = None
    recorder: str = "memory"
    """`none`, `memory`, `awaiting`, `slow`, `failing`, `jsonl`, `other jsonl`."""
    name: str = ""
    """Its id; none is one of its own."""
    limits: dict[str, float] = {}
    """Its limits, by their names."""
    redacts: bool = False
    """True if `SECRET` is taken out of its record."""
    unwinds: int = 0
    """Turns that its body takes to end, shielded. `QUIET`: after a fault, until its clients have answers."""
    pause: int = 0


class Serve(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="serve"):
    """One more service of a rollout begins, beside its handler or its other services."""

    rollout: int
    concurrency: int | None = None
    pause: int = 0


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="call"):
    number: int
    rollout: int
    like: int = 0
    """The number of the call whose very words it repeats, for another client; 0: its words are its own."""
    secret: bool = False
    """True if `SECRET` is in its words, and in those of its answer."""
    depth: int = 0
    """Levels of a field of its document that its dialect does not know; `SECRET` is in the innermost."""
    dialect: str = "openai_chat"
    stream: bool = False
    way: str = "http1"
    """`http1`, `websocket`."""
    connection: int = 0
    """Calls of one number and way share a connection, one behind the other; 0 is one of its own."""
    prefix: bool = True
    """Whether the path names the rollout."""
    chunked: bool = False
    cut: int = 0
    """Turns of a pause in the middle of the request."""
    leaves: str = ""
    """When its client hangs up: ``, `sending`, `waiting`, `streaming`, `at signal`."""
    turns: int = 0
    """Before that; `QUIET` is until every task waits."""
    how: str = "close"
    """`close`, `reset`, `half`."""
    retries: int = 0
    bad: str = ""
    """``, `key`, `json`, `document`, `path`."""
    plan: Plan = Plan()
    pause: int = 0


class Clash(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="clash"):
    """The answer of a call goes on, and its client hangs up, in turns that are next to each other."""

    call: int
    client_first: bool = False
    gap: int = 0
    pause: int = 0


class Stop(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="stop"):
    rollout: int
    pause: int = 0


class Leave(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="leave"):
    rollout: int
    how: str = "returns"
    """`returns`, `raises`, `cancelled`."""
    pause: int = 0


class EndEndpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="end"):
    endpoint: int
    cancelled: bool = False
    pause: int = 0


class Crash(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="crash"):
    """A member of a pool dies; or the endpoint of that number does."""

    endpoint: int
    member: int = 0
    pause: int = 0


class CutLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="cut line"):
    """Another program that writes to the file of turns dies in the middle of a line."""

    size: int = 60
    pause: int = 0


class Visit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="visit"):
    """Something else is asked of a rollout, or of nobody: one of `VISITS`."""

    rollout: int
    path: str = "/v1/models"
    key: bool = True
    prefix: bool = True
    connection: int = 0
    leaves: int | None = None
    """Turns after which its client hangs up; None: it reads its answer."""
    pause: int = 0


class RunAgent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="agent"):
    """A process that makes one call."""

    number: int
    rollout: int
    plan: Plan = Plan()
    pause: int = 0


Step: TypeAlias = (
    OpenEndpoint
    | OpenPool
    | OpenRollout
    | Serve
    | Call
    | Clash
    | Stop
    | Leave
    | EndEndpoint
    | Crash
    | CutLine
    | Visit
    | RunAgent
)


class Steps(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """What a seed is, of any machine that plays steps."""

    seed: int
    steps: tuple[S, ...]
    kept: tuple[int, ...] | None = None
    """Which steps of its seed these are; None: all."""

    def only(self, kept: tuple[int, ...]) -> Self:
        """A part of it: these of its steps."""
        numbers = self.kept if self.kept is not None else tuple(range(len(self.steps)))
        steps = dict(zip(numbers, self.steps, strict=True))
        return msgspec.structs.replace(self, kept=kept, steps=tuple([steps[number] for number in kept]))


class History(Steps[Step], frozen=True, kw_only=True):
    """A walk."""

    exchanges: int
    abrupt: bool = False
    """Whether the endpoints end while calls are on their way."""

    @property
    def command(self) -> str:
        """What plays it again."""
        command = f"python -m tests.walk --seed {self.seed} --exchanges {self.exchanges}"
        return command if self.kept is None else f"{command} --steps {_ranges(self.kept)}"


def told(history: History) -> str:
    """A history as text, a line for each step."""
    numbers = history.kept if history.kept is not None else range(len(history.steps))
    lines = [f"{number:4} {_line(step)}" for number, step in zip(numbers, history.steps, strict=True)]
    return "\n".join(lines + (["     the endpoints end at once"] if history.abrupt else []))


def _line(step: Step) -> str:
    """A step, without what is as always."""
    kind, *fields = msgspec.to_builtins(step).items()
    return f"{kind[1]}: " + ", ".join(f"{name}={value!r}" for name, value in fields)


def _ranges(numbers: tuple[int, ...]) -> str:
    """`1-3,7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
