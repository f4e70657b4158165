"""What happened in a walk, as whoever took part in it saw it."""

from dataclasses import dataclass, field
from math import inf

from triocept import Trace, Turn

from .history import Call, OpenRollout, Plan


@dataclass
class Seen:
    """One attempt at a call, as its client saw it."""

    step: Call
    nonce: str
    attempt: int
    phase: str = "begins"
    """What it is at: named when it hangs."""
    left: bool = False
    """Whether the client has hung up, on this call or on another of its connection."""
    asked: bool = False
    """Whether the whole request was sent."""
    status: int | None = None
    body: bytes = b""
    whole: bool = False
    broken: str = ""
    excused: str = ""
    recorded: bool = False
    """Whether its turn was recorded when the client had the whole answer."""
    done: bool = False
    place_shaky: bool = False
    """Whether its endpoint had begun to end, or had crashed."""
    rollout_over: bool = False
    """Whether there was a reason for its rollout to end."""

    def waits_in(self, rollout: int) -> bool:
        """Whether it has asked, on a connection of its own, and reads what comes."""
        reads = self.phase.startswith(("waits for the", "reads"))
        alone = self.step.connection == 0 or self.step.way == "websocket"
        return self.step.rollout == rollout and self.asked and reads and alone and not self.done

    def __str__(self) -> str:
        return f"call {self.step.number} ({self.nonce}, attempt {self.attempt + 1}): {self.phase}"


@dataclass
class Raised:
    """A fault that somebody must be told of."""

    error: BaseException
    rollout: int
    what: str
    anybody: bool = False
    """Whether it is enough that anybody was told: whoever stops a rollout hears of its recorder, too."""


@dataclass
class Kept:
    """A rollout's end."""

    step: OpenRollout
    trace: Trace
    recorder: str


@dataclass
class Account:
    """Everything that the ledger is drawn up from."""

    seen: list[Seen] = field(default_factory=list)
    plans: dict[str, Plan] = field(default_factory=dict)
    """By nonce."""
    taken: list[tuple[str, str, int]] = field(default_factory=list)
    """Exchanges that somebody took: id, nonce, number of the rollout."""
    working: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Those that somebody is at work on: id to nonce, and number of the rollout."""
    faults: list[Raised] = field(default_factory=list)
    told: dict[int, list[BaseException]] = field(default_factory=dict)
    """What left the block of each rollout, or its stop."""
    kept: list[Kept] = field(default_factory=list)
    records: dict[str, list[Turn]] = field(default_factory=dict)
    """What the recorders have, by run."""
    recorded: set[str] = field(default_factory=set)
    """The nonces of these, and the ids of their exchanges."""
    seals: dict[str, int] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    """Rollouts whose recorder has failed."""
    cut_lines: int = 0
    crashed: bool = False
    most_at_once: dict[int, int] = field(default_factory=dict)
    room: dict[int, float] = field(default_factory=dict)
    """By rollout: how many calls its services take at once, all together."""
    violations: list[str] = field(default_factory=list)

    def add_room(self, rollout: int, concurrency: int | None) -> None:
        """A service of a rollout begins."""
        self.room[rollout] = self.room.get(rollout, 0) + (concurrency or inf)

    def violate(self, line: str, text: object) -> None:
        """Something does not hold."""
        self.violations.append(f"{line}: {text}")
