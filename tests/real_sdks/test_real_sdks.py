"""SDKs and libraries that call models, unchanged: what they make of an endpoint's answers is what was answered.

Each program plays its scenarios one after another, in a rollout of its own, and prints one line of JSON for each.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.real_sdks.model import HELLO, TOWN, asked
from tests.real_sdks.playing import Plays
from tests.real_sdks.scenarios import PIXEL, STATUSES
from triocept.traces import Conversation
from triocept.types import Media

BOTH = {"text": "sun in Oslo and sun in Rome"}
EXPECTED: dict[str, Any] = {
    "whole": HELLO,
    "stream": HELLO,
    "helper": HELLO,
    "image": HELLO,
    "reasoning": {"reasoning": "hm", "text": "hello"},
    "reasoning streamed": {"reasoning": "hm", "text": "hello"},
    "tools": BOTH,
    "tools streamed": BOTH,
    "tools run": BOTH,
    "object": TOWN,
    "object streamed": TOWN,
    "stored": {"texts": ["hello", "hello"], "items": 1},
    "count": True,
    "errors": list(STATUSES),
    "broken": {"raised": True, "reason": True},
    "retry": HELLO,
    "abort": {"text": "half"},
    "agent": {"text": "It is sunny."},
    "silence": HELLO,
    "embeddings": {"size": 1536, "nearer": True},
}

CORE = "whole stream errors broken retry abort silence"
OPENAI = f"{CORE} helper image tools 'tools streamed' object 'object streamed'"


def listed(names: str) -> tuple[str, ...]:
    """`a 'b c'` is a list of two."""
    return tuple(
        part for n, piece in enumerate(names.split("'")) for part in ([piece] if n % 2 else piece.split())
    )


SDK_NAMES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
}
OPENAI_ERRORS = [[SDK_NAMES.get(status, "InternalServerError"), status] for status in STATUSES]
ANTHROPIC_NAMES = {**SDK_NAMES, 503: "ServiceUnavailableError", 529: "OverloadedError"}
ANTHROPIC_ERRORS = [[ANTHROPIC_NAMES[status], status] for status in STATUSES]
LITELLM_ERRORS = [min(status, 500) for status in STATUSES]  # it has one class for all of Anthropic's 5xx
AI = f"{CORE} image reasoning 'reasoning streamed' tools 'tools streamed' object 'object streamed'"
LITELLM = "whole stream reasoning image tools 'tools streamed' object errors broken silence"
PYDANTIC = "whole stream image tools 'tools streamed' object errors broken retry silence"
LANGCHAIN = "whole stream image tools object errors broken embeddings retry silence"

# Program, its arguments, its scenarios, and what it makes otherwise than the others.
PROGRAMS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("openai_sdk.mjs", "chat", OPENAI, {"errors": OPENAI_ERRORS}),
    ("openai_sdk.mjs", "responses", f"{OPENAI} stored", {"errors": OPENAI_ERRORS}),
    ("openai_sdk.mjs", "completions", CORE, {"errors": OPENAI_ERRORS}),
    *(
        (
            "anthropic_sdk.mjs",
            api,
            f"{CORE} helper image tools 'tools streamed' 'tools run' object count",
            {"errors": ANTHROPIC_ERRORS},
        )
        for api in ("messages", "beta")
    ),
    # OpenAI's chat completions have no reasoning, and this provider reads none.
    ("ai_sdk.mjs", "chat", AI, {"reasoning": {"text": "hello"}, "reasoning streamed": {"text": "hello"}}),
    ("ai_sdk.mjs", "responses", AI, {}),
    ("ai_sdk.mjs", "anthropic", AI, {}),
    ("ai_sdk.mjs", "compatible", AI, {}),
    # It knows no error inside a stream: it is told by the broken connection, without the reason.
    ("ai_sdk.mjs", "google", AI, {"broken": {"raised": True, "reason": False}}),
    *(("litellm_sdk.py", f"chat {mode}", f"{LITELLM} retry", {}) for mode in ("sync", "async")),
    *(("litellm_sdk.py", f"anthropic {mode}", LITELLM, {"errors": LITELLM_ERRORS}) for mode in ("sync",
      "async")),
    *(("litellm_sdk.py", f"responses {mode}", "whole stream tools errors silence", {}) for mode in ("sync",
      "async")),
    *(("pydantic_ai_agent.py", api, PYDANTIC, {}) for api in ("chat", "responses", "anthropic")),
    *(("langchain_chat.py", api, LANGCHAIN, {}) for api in ("chat", "responses")),
    *(
     ("agent_frameworks.py", name, "agent", {}) for name in ("langchain", "langchain_gemini", "openai_agents",
      "smolagents")),
    # What its agent says is all that its model said.
    *(("agent_frameworks.py", name, "agent", {"agent": {"text": "I look.It is sunny."}}) for name in ("agno",
      "agno_claude")),
]  # fmt: skip
SCENARIOS = {(program, arguments): listed(scenarios) for program, arguments, scenarios, _ in PROGRAMS}
CASES = [
    pytest.param(
        program,
        arguments,
        scenario,
        other.get(scenario, EXPECTED[scenario]),
        id=f"{program} {arguments} {scenario}",
    )
    for program, arguments, scenarios, other in PROGRAMS
    for scenario in listed(scenarios)
]


@pytest.mark.parametrize(("program", "arguments", "scenario", "expected"), CASES)
def test_an_sdk_makes_of_each_answer_what_it_says(
    program: str, arguments: str, scenario: str, expected: Any, plays: Plays
) -> None:
    played = plays.played.get((program, arguments))
    if played is None:
        pytest.skip("npm is not on this machine")
    assert played.returncode == 0, played.stderr
    assert set(played.lines) == set(SCENARIOS[program, arguments]), "no line that nobody looks at"
    line = played.lines[scenario]
    assert "error" not in line, line["error"]
    assert line["result"] == expected
    turns = played.turns(scenario)
    outcomes = [turn.outcome for turn in turns]
    match scenario.split()[0]:
        case "errors":
            refused = [turn for turn in played.trace if asked(turn).startswith("error ")]
            assert [turn.outcome for turn in refused] == ["refused"] * len(STATUSES), "one request for each"
        case "retry":
            assert outcomes == ["refused", "refused", "answered"]
        case "broken":
            assert set(outcomes) == {"refused"}
        case "abort":
            assert outcomes == ["abandoned"]
            assert turns[0].response.text == "half"
            assert turns[0].number < played.turns("silence")[0].number, "at once, not with the program's end"
        case "tools":
            assert outcomes == ["answered"] * 2
            assert played.trace.parents[turns[1].id] == turns[0].id
            assert [result.text for result in turns[1].request.tool_results] == ["sun in Oslo", "sun in Rome"]
        case "agent":
            assert outcomes == ["answered"] * 2
            assert played.trace.threads == (tuple(turns),)
            assert set(played.trace.conversations.values()) == {Conversation(id=turns[0].id)}
        case "image":
            media = [part for m in turns[0].request.messages for part in m.content if isinstance(part, Media)]
            assert [(part.kind, part.media_type, part.data) for part in media] == [
                ("image", "image/png", PIXEL)
            ]
        case "count":
            assert not turns
        case "embeddings":
            assert not turns
            assert [call.kind for call in played.trace.services] == ["embeddings"] * 2
        case _:
            assert outcomes == ["answered"]
    if scenario in ("stream", "helper") or scenario.endswith("streamed"):
        assert all(turn.request.stream for turn in turns)
