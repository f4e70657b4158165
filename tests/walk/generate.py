"""The history of a seed.

Plain chance, with a thumb on the scales: calls meet rollouts that are open, most of the time; some turns lie between
two steps, or none; and what ends things comes rarely, so that there is something to be ended.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec

from .history import (
    QUIET,
    Call,
    Clash,
    Crash,
    CutLine,
    EndEndpoint,
    History,
    Leave,
    OpenEndpoint,
    OpenPool,
    OpenRollout,
    Plan,
    RunAgent,
    Serve,
    Step,
    Stop,
    Visit,
)
from .services import VISITS

CHAT, COMPLETIONS, RESPONSES = "openai_chat", "openai_completions", "openai_responses"
DIALECTS = (CHAT, COMPLETIONS, RESPONSES, "anthropic_messages", "gemini", "ollama")


def history_of(seed: int, exchanges: int) -> History:
    """The history of `seed`, with about so many calls."""
    return _Generator(seed, exchanges).history()


class _Generator:
    def __init__(self, seed: int, exchanges: int) -> None:
        self.seed = seed
        self.exchanges = exchanges
        self.chance = random.Random(seed)
        self.steps: list[Step] = []
        self.endpoints: list[int] = []
        self.pools: list[int] = []
        self.open: dict[int, OpenRollout] = {}
        self.all: dict[int, OpenRollout] = {}
        self.asked: dict[int, list[Call]] = {}
        """By rollout: calls that others may repeat."""
        self.calls = 0
        self.numbers = 0
        self.calm = self.chance.random() < 0.3
        """Whether nothing ends what is on its way, so that much is on it."""

    def history(self) -> History:
        for _ in range(self.chance.choice([1, 1, 2, 3])):
            self.open_place()
        self.open_rollout()
        while self.calls < self.exchanges:
            self.step()
        return History(
            seed=self.seed, exchanges=self.exchanges, steps=tuple(self.steps), abrupt=self.maybe(0.2)
        )

    def step(self) -> None:
        chance, most = self.chance, max(2, self.exchanges // 15)
        rare = 0.3 if self.calm else 1.0
        choices: list[tuple[float, Callable[[], None]]] = [
            (60, self.call), (8, self.clash), (2, self.serve), (2, self.hand_over), (1, self.reach_limit),
            (2, self.work_together),
            (5 if len(self.open) < most else 0, self.open_rollout),
            (2 if self.open else 0, self.open_child), (1.5 * rare, self.stop), (1.5 * rare, self.leave),
            (3, self.visit), (0.8, self.cut_line), (0.4 * rare, self.end_endpoint),
            (0.4 * rare if self.pools else 0, self.crash),
            (0.3 if len(self.endpoints) < 4 else 0, self.open_place),
            (0.15, self.run_agent),
        ]  # fmt: skip
        weights = [weight for weight, _ in choices]
        chance.choices([do for _, do in choices], weights)[0]()
        if not self.endpoints:
            self.open_place()
        if not self.open:
            self.open_rollout()

    def maybe(self, likelihood: float) -> bool:
        return self.chance.random() < likelihood

    def turns(self) -> int:
        """Between two steps, or before something: mostly few."""
        return self.chance.choice([0, 0, 0, 0, 1, 1, 2, 3, 5, 8, 13, 30])

    def pause(self) -> int:
        if self.maybe(0.03):
            return QUIET
        return self.turns() if self.maybe(0.5) else 0

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    # Places

    def open_place(self) -> None:
        number, own_http1 = self.number(), self.maybe(0.7)
        self.endpoints.append(number)
        if self.maybe(0.15):
            self.pools.append(number)
            self.steps.append(
                OpenPool(number=number, moves=self.maybe(0.7), own_http1=own_http1, pause=self.pause())
            )
        else:
            self.steps.append(OpenEndpoint(number=number, own_http1=own_http1, pause=self.pause()))

    def end_endpoint(self) -> None:
        endpoint = self.chance.choice(self.endpoints)
        self.endpoints.remove(endpoint)
        if endpoint in self.pools:
            self.pools.remove(endpoint)
        self.steps.append(EndEndpoint(endpoint=endpoint, cancelled=self.maybe(0.2), pause=self.pause()))
        for number, rollout in tuple(self.open.items()):
            if rollout.endpoint == endpoint:
                del self.open[number]
                if self.maybe(0.7):
                    self.steps.append(Leave(rollout=number, pause=self.pause()))

    def crash(self) -> None:
        self.steps.append(
            Crash(
                endpoint=self.chance.choice(self.pools), member=self.chance.randrange(2), pause=self.pause()
            )
        )

    # Rollouts

    def open_rollout(self, parent: OpenRollout | None = None, **given: Any) -> OpenRollout:
        chance = self.chance
        rollout = OpenRollout(
            number=self.number(),
            endpoint=parent.endpoint if parent is not None else chance.choice(self.endpoints),
            parent=parent.number if parent is not None else None,
            form=chance.choice(["handler", "handler", "handler", "serve", "serve", "loop", "tasks"]),
            on_hangup=chance.choice(["cancel", "cancel", "finish"]),
            on_retry=chance.choice(["join", "join", "new"]),
            concurrency=chance.choice([None, None, None, 1, 2, 5]),
            recorder=chance.choice(_RECORDERS),
            name=chance.choice(["", "", "", "twin"]) if parent is None else "",
            on_fault="stay" if self.maybe(0.15) else "cancel",
            limits=chance.choice(_LIMITS) if self.maybe(0.12) else {},
            redacts=self.maybe(0.2),
            unwinds=chance.choice([0, 0, 3, 20, QUIET, QUIET]),
            pause=self.pause(),
        )
        rollout = msgspec.structs.replace(rollout, **given)
        self.open[rollout.number] = self.all[rollout.number] = rollout
        self.steps.append(rollout)
        return rollout

    def open_child(self) -> None:
        self.open_rollout(self.chance.choice(list(self.open.values())))

    def stop(self) -> None:
        rollout = self.chance.choice(list(self.open))
        self.steps.append(Stop(rollout=rollout, pause=self.pause()))
        if self.maybe(0.7):
            self.forget(rollout)

    def leave(self) -> None:
        rollout = self.chance.choice(list(self.open))
        how = self.chance.choice(["returns", "returns", "raises", "cancelled"])
        self.steps.append(Leave(rollout=rollout, how=how, pause=self.pause()))
        self.forget(rollout)

    def forget(self, rollout: int) -> None:
        """It and its children are as good as ended."""
        self.open.pop(rollout, None)
        for child in [number for number, each in self.open.items() if each.parent == rollout]:
            self.forget(child)

    def rollout(self) -> OpenRollout:
        """An open one, and sometimes one that has ended."""
        if self.maybe(0.03) or not self.open:
            return self.chance.choice(list(self.all.values()))
        return self.chance.choice(list(self.open.values()))

    # Calls

    def call(self) -> None:
        chance, rollout = self.chance, self.rollout()
        self.calls += 1
        way = chance.choices(["http1", "websocket"], [94, 6])[0]
        dialect = RESPONSES if way == "websocket" else chance.choice(DIALECTS)
        plan = self.plan(rollout, dialect)
        asked = self.asked.setdefault(rollout.number, [])
        again = chance.choice(asked[-8:]) if asked and way != "websocket" and self.maybe(0.25) else None
        if again is not None:
            dialect, plan = again.dialect, again.plan
        leaves = self.leaves(plan)
        call = Call(
            number=self.number(),
            rollout=rollout.number,
            like=again.number if again is not None else 0,
            secret=again.secret if again is not None else self.maybe(0.3),
            depth=again.depth if again is not None else chance.choice([1, 400]) if self.maybe(0.05) else 0,
            dialect=dialect,
            stream=way == "websocket" or self.maybe(0.55),
            way=way,
            connection=chance.choice([0, 0, 1, 2, 3]) if way != "websocket" else 0,
            prefix=self.maybe(0.7),
            chunked=self.maybe(0.1),
            cut=self.turns() if self.maybe(0.2) else 0,
            leaves=leaves,
            turns=self.turns(),
            how=chance.choice(["close", "close", "reset", "half"]),
            retries=chance.choice([0, 0, 1, 2]) if leaves else 0,
            bad=chance.choice(["key", "json", "document", "path"]) if self.maybe(0.02) else "",
            plan=plan,
            pause=self.pause(),
        )
        self.steps.append(call)
        if again is None and not call.bad:
            asked.append(call)
        if self.ends(rollout, plan) and self.maybe(0.85):
            self.forget(rollout.number)

    def ends(self, rollout: OpenRollout, plan: Plan) -> bool:
        """Whether an answer takes its rollout along, mostly."""
        failed = plan.unrecorded and rollout.recorder == "failing"
        return failed or "fault" in (plan.fails, plan.after) or plan.does in _LAST

    def leaves(self, plan: Plan) -> str:
        if plan.does == "hold" or plan.provider == "waits":
            return self.chance.choice(["waiting", "waiting", "waiting", ""])
        if self.maybe(0.82):
            return ""
        return self.chance.choice(["sending", "waiting", "waiting", "streaming", "streaming"])

    def plan(self, rollout: OpenRollout, dialect: str) -> Plan:
        chance = self.chance
        does = chance.choices(list(_DOES), list(_DOES.values()))[0]
        if does in ("fault", "group", "return", "twice") and self.maybe(0.6 if self.calm else 0.2):
            does = "stream"
        if does == "call" and dialect == COMPLETIONS:
            does = "stream"
        if rollout.form in ("loop", "tasks"):
            does = "refuse" if does in _NO_LOOP_DOES else does
        fails = ""
        if does == "stream" and self.maybe(0.15):
            fails = chance.choice(["raise Refusal", "raise UpstreamError", "fault"])
            if rollout.form in ("loop", "tasks"):
                fails = ""
        return Plan(
            does=does,
            turns=self.turns(),
            shielded=does not in ("hold", "forward") and self.maybe(0.2),
            pieces=chance.choice([1, 2, 3, 6]),
            size=chance.choices([1, 200, 3_000, 90_000, 1_000_000], [70, 20, 8, 3, 0.3])[0],
            fails=fails,
            after=chance.choice(["fault", "wait", "wait"]) if self.maybe(0.03) else "",
            status=chance.choice([400, 403, 404, 429, 500, 503]),
            unrecorded=self.maybe(0.5 if fails == "fault" else 0.02 if self.calm else 0.08),
            speaks=dialect if self.maybe(0.6) else chance.choice(DIALECTS),
            provider=chance.choices(list(_PROVIDER), list(_PROVIDER.values()))[0]
            if does == "forward"
            else "answers",
        )

    def clash(self) -> None:
        """An answer that breaks while its client hangs up, and others that come at that moment."""
        chance = self.chance
        rollout = self.rollout()
        self.calls += 1
        number = self.number()
        broken = "raise Refusal" if rollout.form in ("handler", "serve") else ""
        self.steps.append(
            Call(
                number=number,
                rollout=rollout.number,
                dialect=chance.choice(DIALECTS),
                stream=True,
                leaves="at signal",
                how=chance.choice(["close", "reset"]),
                plan=Plan(does="stream", pieces=2, fails=chance.choice([broken, broken, ""]), at_signal=True),
                pause=chance.choice([QUIET, 20, 40]),
            )
        )
        gap = chance.choice([0, 0, 1, 1, 2, 3, 4, 5])
        self.steps.append(
            Clash(call=number, client_first=self.maybe(0.5), gap=gap, pause=chance.choice([0, 0, 1, 2, 3, 4]))
        )
        for _ in range(chance.choice([1, 1, 2])):
            self.call()

    # Services beside services

    def serve(self, concurrency: int | None = None, *, of: OpenRollout | None = None) -> None:
        rollout = of or self.rollout()
        if rollout.form in ("handler", "serve"):
            self.steps.append(Serve(rollout=rollout.number, concurrency=concurrency, pause=self.pause()))

    def hand_over(self) -> None:
        """A handler that fails, and a service that begins while that is being recorded."""
        recorder = self.chance.choice(["awaiting", "slow"])
        rollout = self.open_rollout(form="serve", recorder=recorder, unwinds=QUIET)
        self.simple_call(rollout, Plan(does="fault"), pause=self.chance.randrange(6, 30))
        self.serve(self.chance.choice([None, 1]), of=rollout)
        for _ in range(3):
            self.simple_call(rollout, Plan(does="hold"), pause=self.turns())
        self.forget(rollout.number)

    def reach_limit(self) -> None:
        """A call that is refused by a limit while the last one within it is being recorded."""
        rollout = self.open_rollout(recorder="awaiting", limits={"turns": 1})
        self.simple_call(rollout, Plan(), pause=self.chance.randrange(4))
        self.simple_call(rollout, Plan(), pause=self.pause())
        self.forget(rollout.number)

    def work_together(self) -> None:
        """A handler at work on a call that waits, and another service that fails; perhaps at a limit."""
        limits = self.chance.choice([{}, {"turns": 2}])
        rollout = self.open_rollout(
            form="serve",
            concurrency=1,
            recorder=self.chance.choice(["memory", "slow"]),
            unwinds=QUIET,
            limits=limits,
        )
        self.simple_call(rollout, Plan(does="hold"), pause=QUIET)
        self.serve(of=rollout)
        self.simple_call(rollout, Plan(does="fault", turns=30), pause=13)
        self.simple_call(rollout, Plan(), pause=self.turns())
        self.forget(rollout.number)

    def simple_call(self, rollout: OpenRollout, plan: Plan, *, pause: int) -> None:
        """One whose client waits for its answer."""
        self.calls += 1
        self.steps.append(Call(number=self.number(), rollout=rollout.number, plan=plan, pause=pause))

    # The rest

    def visit(self) -> None:
        rollout = self.rollout()
        self.steps.append(
            Visit(
                rollout=rollout.number,
                path=self.chance.choice(list(VISITS)),
                key=self.maybe(0.8),
                prefix=self.maybe(0.7),
                connection=self.chance.choice([0, 0, 1, 2, 3]),
                leaves=self.chance.choice([None, 0, 1, 2, 3, 4, 5, 6, 8, 10]),
                pause=self.pause(),
            )
        )

    def cut_line(self) -> None:
        self.steps.append(CutLine(size=self.chance.choice([1, 20, 60, 200]), pause=self.pause()))

    def run_agent(self) -> None:
        rollout = self.rollout()
        self.calls += 1
        self.steps.append(
            RunAgent(
                number=self.number(),
                rollout=rollout.number,
                plan=self.plan(rollout, CHAT),
                pause=self.pause(),
            )
        )


_DOES = {
    "respond": 26,
    "stream": 28,
    "call": 6,
    "refuse": 6,
    "raise Refusal": 4,
    "raise UpstreamError": 3,
    "fault": 1.2,
    "group": 0.5,
    "return": 0.6,
    "hold": 7,
    "wait": 4,
    "forward": 12,
    "stop": 0.4,
    "twice": 0.4,
    "thread": 0.6,
    "cancel": 0.3,
    "deadline": 3,
    "deadline in a stream": 0.4,
    "nested": 3,
}
_LAST = ("fault", "group", "return", "stop", "twice", "cancel", "deadline in a stream")
_NO_LOOP_DOES = ("raise Refusal", "raise UpstreamError", "return", "cancel", "deadline in a stream", "nested")
_LIMITS: tuple[dict[str, float], ...] = (
    {"turns": 1},
    {"turns": 3},
    {"turns": 10},
    {"input_tokens": 100},
    {"output_tokens": 100},
    {"total_tokens": 200},
    {"cost": 2.0},
    {"seconds": 0.1},
)
_PROVIDER = {
    "answers": 60,
    "refuses": 10,
    "fails": 6,
    "breaks off": 8,
    "hangs up": 6,
    "is cut": 4,
    "waits": 8,
}
_RECORDERS = (
    *("none", "memory", "memory", "awaiting", "awaiting", "slow", "failing", "failing"),
    *("jsonl", "jsonl", "other jsonl"),
)
