"""Steps, branches and drift of what real agents send back, with sub-agents and a compaction.

Their model is a script, and its tokens are made here: the bytes of each message, as a template without a fault would
write it. So whatever does not come back is the agent's doing.
"""

from pathlib import Path

import msgspec
import pytest

from tests.real_exports.recorded import RUNS, record
from tests.trace.tokenized import tokens, trace_of
from triocept import Message, Text, ToolCall, ToolResult, Turn, read_traces
from triocept.traces import Trace, branches, drift
from triocept.types import Part

WANTED = {
    "begins": "new_root",
    "sub_agent": "new_root",
    "side": "new_root",
    "continues": "extends",
    "compaction": "history_rewrite",
}
"""By how a turn stands to those before it: what becomes of the tokens."""


def written(part: Part) -> str:
    match part:
        case Text(text=text):
            return text
        case ToolCall(name=name, arguments=arguments):
            return f"<{name} {arguments}>"
        case ToolResult(content=content):
            return f"[{''.join(map(written, content))}]"
        case _:
            return ""


def templated(message: Message) -> str:
    return f"<|{message.role}|>{''.join(map(written, message.content))}<|end|>"


def tokenized(turn: Turn) -> Turn:
    """The turn, with its bytes for tokens."""
    tools = " ".join(tool.name for tool in turn.request.tools)
    prompt = tools + "".join(map(templated, turn.request.messages)) + "<|assistant|>"
    answer = templated(Message("assistant", tuple(turn.response.content))).removeprefix("<|assistant|>")
    return msgspec.structs.replace(turn, tokens=tokens(list(prompt.encode()), list(answer.encode())))


def recorded(name: str, folder: Path) -> Trace:
    (trace,) = read_traces(record(RUNS[name], folder))
    return trace_of(map(tokenized, trace))


@pytest.mark.parametrize("name", RUNS)
def test_what_comes_back_from_a_real_agent_is_named_by_what_it_did(name: str, tmp_path: Path) -> None:
    trace = recorded(name, tmp_path)
    report = drift(trace)
    relations = [trace.relations[pair.turn].kind for pair in report.pairs]
    assert [pair.name for pair in report.pairs] == [WANTED[kind] for kind in relations]
    assert relations.count("sub_agent") == RUNS[name].sub_agents
    assert relations.count("compaction") == RUNS[name].compactions
    assert report.alarms == ()
    assert (report.drifted, report.delivered_fraction) == (0, 1.0)
    assert sum(sum(branch.mask) for branch in branches(trace)) == report.sampled
