"""Episodes, as verifiers has them: read by its own reader of saved runs; their branches and links."""

import json
import sys
from pathlib import Path

from verifiers.v1.configs.agent import WireAgentConfig
from verifiers.v1.state import State
from verifiers.v1.task import WireTaskData
from verifiers.v1.trace import Trace
from verifiers.v1.utils.trace_store import read_episodes


def branch(each):
    return {
        "messages": [node.message.model_dump(mode="json", exclude_none=True) for node in each.nodes],
        "sampled": [node.sampled for node in each.nodes],
        "tools": [tool.name for tool in each.tools], "token_ids": each.token_ids, "mask": each.sampled_mask,
        "logprobs": each.logprobs,
    }  # fmt: skip


def trace(each):
    links = [(number, link) for number, node in enumerate(each.nodes) for link in node.semantic_parents]
    return {
        "branches": [branch(one) for one in each.branches],
        "links": [[number, link.node, link.type] for number, link in links],
        "calls": [
            [call.node, call.finish_reason, call.usage and call.usage.input_tokens] for call in each.calls
        ],
        "reward": each.reward,
        "is_completed": each.is_completed,
        "errors": [error.type for error in each.errors],
    }


folder = Path(sys.argv[1])
episodes = read_episodes(folder, Trace[WireTaskData, State, WireAgentConfig])
print(json.dumps([{"ok": each.ok, "traces": [trace(one) for one in each.traces]} for each in episodes]))
