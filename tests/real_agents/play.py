"""An agent's run in a rollout of this program: its model's replies are written down, its first call may fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.real_agents.cases import PROMPT, Case, Reply
from triocept import AgentResult, Exchange, Handler, Limits, Trace, Turn, serve_endpoint
from triocept._canonical.request import Request
from triocept._rollout.rollout_state import RolloutState
from triocept._trace.conversation import is_side_call


class Model:
    """Says its replies to the main calls, one after the other, and a title to side calls."""

    def __init__(self, replies: Sequence[Reply], fault: Handler | None = None) -> None:
        self._replies = list(replies)
        self._fault = fault
        self.extra = 0
        """Main calls for which there was no reply left."""

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.conversation.kind == "side":
            await exchange.respond("A title")
        elif self._fault is not None:
            fault, self._fault = self._fault, None
            await fault(exchange)
        if exchange.settled:
            return
        if not self._replies:
            self.extra += 1
        await exchange.respond(self._replies.pop(0) if self._replies else "Nothing more.")


@dataclass
class Calls:
    """Every model call that reached a rollout, whatever became of it: one refused after a stop is in no trace."""

    requests: list[Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    side: int = 0

    @property
    def main(self) -> int:
        return len(self.requests)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> Calls:
        """Count from here on."""
        original = RolloutState.answer_call

        async def counted(rollout: RolloutState, request: Request, deliver: Any, **rest: Any) -> None:
            if is_side_call(request, rest["raw"]):
                self.side += 1
            else:
                self.requests.append(request)
                self.times.append(trio.current_time())
            await original(rollout, request, deliver, **rest)

        monkeypatch.setattr(RolloutState, "answer_call", counted)
        return self


@dataclass
class Played:
    """How it went."""

    case: Case
    result: AgentResult
    trace: Trace
    work: Path
    model: Model

    @property
    def main(self) -> list[Turn]:
        """The turns of the main conversation."""
        return [turn for turn in self.trace if self.trace.conversations[turn.id].kind == "main"]

    @property
    def side(self) -> list[Turn]:
        return [turn for turn in self.trace if self.trace.conversations[turn.id].kind == "side"]


async def play(
    case: Case,
    executable: Path,
    folder: Path,
    *,
    fault: Handler | None = None,
    env: Mapping[str, str | None] | None = None,
    arguments: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    limit: float = 120,
) -> Played:
    """Run an agent of this case to its end, in its home (`folder`), where it works in `work`; `limit` is in seconds."""
    work = folder / "work"
    work.mkdir(parents=True)
    for name, text in (files or {}).items():
        (folder / "config" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "config" / name).write_text(text)
    model = Model(case.replies, fault)
    with trio.fail_after(limit):
        async with (
            serve_endpoint(**case.endpoint) as endpoint,
            endpoint.open_rollout(model, limits=limits) as rollout,
        ):
            launch = case.prepare(rollout, folder / "config", PROMPT, executable=str(executable))
            environ = {"HOME": str(folder), **launch.env, **(env or {})}
            command = (launch.argv[0], *arguments, *launch.argv[1:])
            result = await rollout.run_agent(command, env=environ, cwd=work)
    print(result.stdout_text[-2000:], result.stderr_text[-2000:], rollout.trace, sep="\n")
    return Played(case, result, rollout.trace, work, model)


def check_turns(played: Played, *faults: str) -> None:
    """Check that it did its task once, in exactly the expected turns; `faults` are the outcomes before them."""
    check_done(played)
    main, replies = played.main, played.case.replies
    assert [turn.outcome for turn in main] == [*faults, *["answered"] * len(replies)]
    assert len(main) + len(played.side) == len(played.trace), "no call is a sub-agent's"
    assert {turn.dialect for turn in played.trace} == {played.case.speaks}
    assert played.model.extra == 0
    for turn in main[: len(faults)]:
        assert not turn.request.tool_results, "what was not answered is the first call"
    for turn, reply in zip(main[len(faults) :], replies, strict=True):
        if isinstance(reply, str):
            assert turn.response.text == reply
        else:
            (call,) = turn.response.tool_calls
            assert (call.name, call.parsed()) == (reply.name, reply.parsed())
    for turn, after in pairwise(main[len(faults) :]):
        calls, results = turn.response.tool_calls, after.request.tool_results
        assert len(results) == len(calls)
        assert [result.id for result in results] == [call.id for call in calls]
        assert played.trace.parents[after.id] == turn.id


def check_done(played: Played) -> None:
    """It ended well, and what it was told to do was done once: its command appends."""
    assert played.result.returncode == 0
    assert (played.work / "proof.txt").read_text() == "hello\n"
