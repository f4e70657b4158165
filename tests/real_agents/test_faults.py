"""Each agent met by a fault on its first call: what it does was measured, and is held here.

No fault lets a command run twice (it appends to a file), and none puts a turn into the trace but its own.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path

import pytest
import trio

from tests.real_agents.cases import CASES, Case, cases
from tests.real_agents.play import Calls, Played, check_done, check_turns, play
from tests.upstream.provider import serve_provider
from tests.upstream.test_continuing import Server, streamed
from triocept import Exchange, Refusal, ToolCall, open_upstream
from triocept._server import delivery
from triocept.dialects._failures import aborted
from triocept.types import PartDelta, PartStart, ResponseStart

Executables = Callable[[str], Path]
RETRY_AFTER = 2.0
FAILURE = {"aider": 0, "mistral_vibe": 2}
"""What an agent ends with where its model failed; all others with 1."""


async def refuse(exchange: Exchange, status: int, retry_after: float | None = None) -> None:
    await exchange.refuse(status, "out of order", retry_after=retry_after)


async def break_text(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("I shall")
        raise Refusal(503, "the stream broke")


async def break_call(exchange: Exchange, call: ToolCall) -> None:
    """All of a tool call's arguments but the last letters, and no end of it."""
    async with exchange.open_stream() as stream:
        await stream.send(ResponseStart())
        await stream.send(PartStart(0, ToolCall(call.name, "")))
        await stream.send(PartDelta(0, call.arguments[:-4]))
        raise Refusal(503, "the stream broke")


async def break_before_end(exchange: Exchange, call: ToolCall) -> None:
    """A whole tool call, then time enough to run it, and no end of the answer."""
    async with exchange.open_stream() as stream:
        await stream.send(call)
        await trio.sleep(3)
        raise Refusal(503, "the stream broke")


ENDS_AT_A_REFUSAL = ("continue_cli-anthropic_messages",)


@cases(*ENDS_AT_A_REFUSAL)
async def test_after_a_429_it_waits_as_long_as_it_was_told_and_finishes(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    fault = partial(refuse, status=429, retry_after=RETRY_AFTER)
    played = await play(case, executable_of(case.agent), tmp_path, fault=fault)
    check_turns(played, "refused")
    assert calls.main == len(case.replies) + 1
    # gemini-cli does not read Retry-After; its own patience is 5 s
    assert calls.times[1] - calls.times[0] >= RETRY_AFTER - 0.1


@cases(*ENDS_AT_A_REFUSAL)
async def test_after_a_500_it_asks_again_and_finishes(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    played = await play(case, executable_of(case.agent), tmp_path, fault=partial(refuse, status=500))
    check_turns(played, "refused")
    assert calls.main == len(case.replies) + 1


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ENDS_AT_A_REFUSAL], ids=lambda case: case.name
)
@pytest.mark.parametrize("status", [429, 500])
async def test_one_that_never_asks_again_ends_at_the_first_refusal(
    case: Case, status: int, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    fault = partial(refuse, status=status, retry_after=RETRY_AFTER)
    played = await play(case, executable_of(case.agent), tmp_path, fault=fault)
    check_ended(played, calls, "out of order")


ENDS = {
    # A stream that breaks, by an error in it and then by its connection: who does not ask again, and what it says.
    "pi-openai_chat": "the stream broke",
    "pi-openai_responses": "the stream broke",
    "qwen_code": "the stream broke",
    "llm": "the stream broke",
    "mistral_vibe-anthropic_messages": "the stream broke",
    "continue_cli-anthropic_messages": "the stream broke",
}
EITHER = ("cline", "kilo")
"""They ask again where they read the error in the stream, and end where its connection's end comes first to them."""
ENDS_IN_TEXT = {**ENDS, "gemini_cli": "other side closed"}
"""gemini-cli asks again as long as it has seen no part of the answer: a tool call reaches it whole or not at all."""


@cases()
async def test_a_text_that_breaks_off_is_asked_for_again_or_ends_it(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    played = await play(case, executable_of(case.agent), tmp_path, fault=break_text)
    check_broken(played, calls, ENDS_IN_TEXT)
    if (
        case.agent == "claude_code"
    ):  # 2.1.197 asks once more, without a stream, where some of the answer had come
        assert [request.stream for request in calls.requests[:2]] == [True, False]


async def abort(exchange: Exchange) -> None:
    """As an upstream does whose server another program pauses: the agent has read a part of the answer before."""
    async with exchange.open_stream() as stream:
        await stream.send("I shall")
        await trio.sleep(0.5)
        raise aborted('finish_reason "abort"')


SURVIVES = (
    *("claude_code", "codex", "opencode-openai_chat", "gemini_cli", "pi-openai_chat", "pi-openai_responses"),
    *(
        "continue_cli-anthropic_messages",
        "copilot-openai_chat",
        "kimi_code-openai_chat",
        "mistral_vibe-openai_chat",
    ),
)


@cases(*(case.name for case in CASES if case.name not in SURVIVES))
async def test_an_aborted_stream_is_asked_for_again(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    played = await play(case, executable_of(case.agent), tmp_path, fault=abort)
    check_turns(played, "refused")
    assert calls.main == len(case.replies) + 1


@cases("aider", *(case.name for case in CASES if case.agent == "mini_swe_agent"))
async def test_an_aborted_stream_of_a_server_that_continues_it_is_no_fault_for_the_agent(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    call = call_of(case)
    function = {"name": call.name, "arguments": call.arguments}
    delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    server = Server(
        streamed("I shall", " wri", finish="abort"),
        streamed("te it.", delta, finish="tool_calls", usage=(14, 9)),
    )
    async with (
        serve_provider(server) as provider,
        open_upstream(f"{provider.url}/v1", dialect="openai_chat", model="m") as upstream,
    ):
        rest = replace(case, replies=case.replies[1:])
        played = await play(rest, executable_of(case.agent), tmp_path, fault=upstream)
    check_done(played)
    assert [turn.outcome for turn in played.main] == ["answered"] * len(case.replies)
    assert calls.main == len(case.replies)
    assert len(server.documents) == 2
    assert played.main[0].response.text == "I shall write it."


async def keep_silent(_: Exchange, seconds: float) -> None:
    await trio.sleep(seconds)


@cases("aider")
async def test_a_tool_call_that_breaks_off_is_never_run(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    fault = partial(break_call, call=call_of(case))
    played = await play(case, executable_of(case.agent), tmp_path, fault=fault)
    check_broken(played, calls, ENDS)


def call_of(case: Case) -> ToolCall:
    return next(reply for reply in case.replies if isinstance(reply, ToolCall))


@cases("aider", *ENDS)
async def test_a_tool_call_of_an_answer_without_end_is_never_run(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    fault = partial(break_before_end, call=call_of(case))
    played = await play(case, executable_of(case.agent), tmp_path, fault=fault)
    if case.agent in EITHER and played.result.returncode == 1:
        check_ended(played, calls)
        return
    check_done(played)  # once: opencode tells of the call that broke, too, as one that was aborted
    assert [turn.outcome for turn in played.main] == ["refused", *["answered"] * len(case.replies)]


def check_broken(played: Played, calls: Calls, ends: Mapping[str, str]) -> None:
    case = played.case
    if case.name in ends or (case.agent in EITHER and played.result.returncode == 1):
        check_ended(played, calls, ends.get(case.name, ""))
        return
    check_turns(played, "refused")
    assert calls.main == len(case.replies) + 1


def check_ended(played: Played, calls: Calls, text: str = "") -> None:
    """It gave up at its first call, and did nothing."""
    assert played.result.returncode == FAILURE.get(played.case.agent, 1)
    assert text in played.result.stdout_text + played.result.stderr_text
    assert not (played.work / "proof.txt").exists()
    assert [turn.outcome for turn in played.trace] == ["refused"]
    assert calls.main == 1


@dataclass(frozen=True)
class Patience:
    """How an agent's patience with a silent call is cut short."""

    what: str
    """Its setting, and what that is by default."""
    limit: float
    """Seconds, to which it is cut."""
    for_head: bool = True
    """Whether it is the wait for the head of an answer; else that for the next event."""
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


def _opencode(setting: str) -> dict[str, str]:
    config = {"provider": {"triocept": {"options": {setting: 4000}}}}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config)}


_CODEX = ("-c", "model_providers.triocept.stream_idle_timeout_ms=4000")
PATIENCE = {
    # What Claude Code 2.1.197 waits between two events has a floor of 300 s: it cannot be cut short here.
    "claude_code": Patience("API_TIMEOUT_MS: 600 s", 4, env={"API_TIMEOUT_MS": "4000"}),
    "codex": Patience("stream_idle_timeout_ms: 300 s", 4, for_head=False, arguments=_CODEX),
    "codex-websocket": Patience("stream_idle_timeout_ms: 300 s", 4, for_head=False, arguments=_CODEX),
    "codex-websocket-no_websocket": Patience("stream_idle_timeout_ms: 300 s", 4, for_head=False,
     arguments=_CODEX),
    "opencode-openai_chat": Patience("chunkTimeout: 300 s", 4, for_head=False, env=_opencode("chunkTimeout")),
    "opencode-openai_responses": Patience("chunkTimeout: 300 s", 4, for_head=False,
     env=_opencode("chunkTimeout")),
    "opencode-anthropic_messages": Patience("headerTimeout: 300 s", 4, env=_opencode("headerTimeout")),
    "mini_swe_agent": Patience("timeout: 600 s", 4,
     arguments=("-c", "mini.yaml", "-c", "model.model_kwargs.timeout=4")),
    "qwen_code": Patience("model.generationConfig.timeout: 120 s", 4,
     files={".qwen/settings.json": '{"model": {"generationConfig": {"timeout": 4000}}}'}),
    "aider": Patience("--timeout: 600 s", 4, arguments=("--timeout", "4")),
}  # fmt: skip
ANY = Patience("no setting: the silence is one that it would bear anyhow", 10)
"""gemini-cli (60 s to the head, by its HTTP client), pi and llm (600 s, by OpenAI's SDK)."""


@cases()
async def test_a_silence_longer_than_its_patience_is_filled_so_that_it_waits(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = PATIENCE.get(case.name, ANY)
    print(f"{case.name}: {patience.what}, cut to {patience.limit} s")
    monkeypatch.setattr(delivery, "HEAD_AFTER", 1.0)  # 30 s and
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", 1.0)  # 10 s otherwise
    played = await play_silent(case, executable_of, tmp_path, patience, patience.limit + 4)
    check_turns(played)
    assert calls.main == len(case.replies)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in PATIENCE], ids=lambda case: case.name
)
async def test_without_what_fills_it_the_same_silence_is_given_up(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = PATIENCE[case.name]
    monkeypatch.setattr(delivery, "HEAD_AFTER", inf if patience.for_head else 1.0)
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", inf)
    played = await play_silent(case, executable_of, tmp_path, patience, 60)
    check_turns(played, "abandoned")
    assert calls.main == len(case.replies) + 1
    assert calls.times[1] - calls.times[0] >= patience.limit - 0.1


async def play_silent(
    case: Case, executable_of: Executables, folder: Path, patience: Patience, silence: float
) -> Played:
    return await play(
        case,
        executable_of(case.agent),
        folder,
        fault=partial(keep_silent, seconds=silence),
        env=patience.env,
        arguments=patience.arguments,
        files=patience.files,
    )


@pytest.mark.slow
async def test_a_silence_of_90_seconds_is_nothing_to_claude_code_and_codex(
    tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    """With their own limits and ours, both at once, each in an endpoint and a rollout of its own."""
    chosen = [case for case in CASES if case.name in ("claude_code", "codex")]
    ended: list[Played] = []

    async def run(case: Case) -> None:
        folder = tmp_path / case.name
        silent = Patience("as it is", 90)
        ended.append(await play_silent(case, executable_of, folder, silent, 90))

    async with trio.open_nursery() as nursery:
        for case in chosen:
            nursery.start_soon(run, case)
    for played in ended:
        check_turns(played)
    assert len(ended) == 2
    assert calls.main == sum(len(case.replies) for case in chosen)


async def stop(exchange: Exchange) -> None:
    await exchange.rollout.stop("enough")


async def stop_late(exchange: Exchange) -> None:
    await trio.sleep(2)
    await stop(exchange)


@cases()
async def test_a_stop_ends_it_with_no_further_call(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    played = await play(case, executable_of(case.agent), tmp_path, fault=stop)
    check_stopped(played)
    # Claude Code may ask once more, without a stream, and Copilot in its websocket: no trace has these calls
    twice = case.name in ("claude_code", "copilot-openai_responses-websocket")
    assert calls.main == 1 or (calls.main == 2 and twice)
    assert calls.side == 0


@cases()
async def test_a_stop_in_a_silence_that_was_being_filled_ends_it_too(
    case: Case, tmp_path: Path, executable_of: Executables, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of the answer is out, and with it the status 404: some ask once more, and are told then."""
    monkeypatch.setattr(delivery, "HEAD_AFTER", 0.5)
    played = await play(case, executable_of(case.agent), tmp_path, fault=stop_late)
    check_stopped(played)
    assert calls.main <= 2, [
        (when - calls.times[0], len(r.messages)) for when, r in zip(calls.times, calls.requests, strict=True)
    ]


def check_stopped(played: Played) -> None:
    assert played.result.returncode == FAILURE.get(played.case.agent, 1)
    assert not (played.work / "proof.txt").exists()
    (turn,) = played.main
    assert (turn.outcome, turn.error.message) == ("refused", "enough")
