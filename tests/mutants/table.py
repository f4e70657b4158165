"""Which files are mutated, and which tests belong to each: the quick ones first, as the first that fails ends a run."""

from __future__ import annotations

from pathlib import Path

AREAS = (
    "triocept/_rollout",
    "triocept/_process",
    "triocept/_server/intake.py",
    "triocept/_server/keys.py",
    "triocept/_trace",
    "triocept/_canonical",
)
"""What is mutated: the heart, the agents' processes, the way in, what is recorded, and the nouns."""

_ROLLOUT = ("tests/rollout/test_rollout.py", "tests/rollout/test_outcomes.py", "tests/test_invariants.py")
_CALLS = (
    "tests/rollout/test_retries.py",
    "tests/server/test_hangup.py",
    "tests/server/test_early_answers.py",
)
_AGENT = (
    "tests/agent/test_searches.py",
    "tests/agent/test_process.py",
    "tests/agent/test_ending.py",
    "tests/rollout/test_agents.py",
)
_SERVICES = ("tests/services/test_tools.py", "tests/services/test_http.py", "tests/services/test_mcp.py")
_TRACE = (
    "tests/trace/test_trace.py", "tests/trace/test_graph.py", "tests/trace/test_conversation.py",
    "tests/trace/test_held.py", "tests/trace/test_head.py", "tests/trace/test_pickling.py",
)  # fmt: skip
_FILE = ("tests/trace/test_proof.py", "tests/trace/test_file.py", "tests/rollout/test_recorders.py")
_NOUNS = (
    "tests/rollout/test_given.py",
    "tests/rollout/test_given_request.py",
    "tests/trace/test_held.py",
    "tests/dialects/test_requests.py",
    "tests/dialects/test_responses.py",
)
_WRONG = ("tests/rollout/test_wrong_arguments.py", "tests/rollout/test_first_use.py")
_LIMITS = ("tests/rollout/test_children.py", "tests/rollout/test_budget.py")
_RECORDS = ("tests/rollout/test_recorders.py",)
_RELAY = ("tests/upstream/test_held_calls.py", "tests/upstream/test_relay.py")

TESTS: dict[str, tuple[str, ...]] = {
    "triocept/_rollout": (*_WRONG, *_ROLLOUT, *_CALLS),
    "triocept/_rollout/collecting.py": ("tests/fleets/test_store.py",),
    "triocept/_rollout/agent.py": (*_AGENT, *_WRONG),
    "triocept/_rollout/budget.py": ("tests/rollout/test_budget.py", *_WRONG, *_ROLLOUT),
    "triocept/_rollout/children.py": (*_LIMITS, *_ROLLOUT),
    "triocept/_rollout/decision.py": (
        "tests/handlers/test_approve.py",
        "tests/services/test_gate.py",
        *_WRONG,
    ),
    "triocept/_rollout/gate.py": (
        "tests/services/test_gate.py",
        "tests/services/test_gate_calls.py",
        "tests/handlers/test_approve.py",
    ),
    "triocept/_rollout/mistakes.py": (
        "tests/rollout/test_log_of_mistakes.py",
        "tests/handlers/test_approve.py",
        *_WRONG,
    ),
    "triocept/_rollout/rollout_state.py": (*_WRONG, *_RECORDS, *_LIMITS, *_ROLLOUT, *_CALLS),
    "triocept/_rollout/record_writer.py": (
        "tests/rollout/test_events.py",
        *_FILE,
        *_WRONG,
        *_ROLLOUT,
        *_CALLS,
    ),
    "triocept/_rollout/exchange_state.py": (
        "tests/rollout/test_given.py",
        *_RECORDS,
        *_WRONG,
        *_RELAY,
        *_ROLLOUT,
        *_CALLS,
    ),
    "triocept/_rollout/life.py": (*_RECORDS, *_LIMITS, *_WRONG, *_ROLLOUT, *_CALLS),
    "triocept/_rollout/asking.py": (
        "tests/rollout/test_given_request.py",
        "tests/rollout/test_children.py",
        *_SERVICES,
        *_WRONG,
        "tests/rollout/test_outcomes.py",
    ),
    "triocept/_rollout/clients.py": ("tests/sdk/test_ready_clients.py", *_WRONG),
    "triocept/_process": _AGENT,
    "triocept/_process/environment.py": ("tests/agent/test_environment.py", *_AGENT),
    "triocept/_process/command.py": (*_WRONG, *_AGENT, "tests/agent/test_environment.py"),
    "triocept/_rollout/environment.py": ("tests/agent/test_environment.py", *_AGENT),
    "triocept/_process/group.py": ("tests/agent/test_ending.py", *_AGENT, "tests/agent/test_watcher.py"),
    "triocept/_process/launch.py": (*_AGENT, *_WRONG),
    "triocept/_rollout/answer.py": (
        "tests/server/test_early.py",
        "tests/server/test_delivery.py",
        *_CALLS,
        *_ROLLOUT,
    ),
    "triocept/_process/output.py": ("tests/agent/test_output.py", *_AGENT),
    "triocept/_process/process.py": (
        *_AGENT,
        "tests/agent/test_output.py",
        "tests/cli/test_interactive.py",
    ),
    "triocept/_rollout/raw_stream.py": (
        "tests/server/test_raw_on_the_way.py",
        "tests/testing/test_raw_in_threads.py",
    ),
    "triocept/_rollout/calls.py": (
        "tests/rollout/test_retry_key.py",
        "tests/trace/test_conversation.py",
        *_WRONG,
        *_ROLLOUT,
        *_CALLS,
    ),
    "triocept/_rollout/retries.py": ("tests/rollout/test_retry_key.py", "tests/rollout/test_retries.py"),
    "triocept/_rollout/workers.py": (*_ROLLOUT, *_CALLS),
    "triocept/_rollout/service_calls.py": (*_SERVICES, *_RECORDS, *_LIMITS[:1], *_ROLLOUT),
    "triocept/_rollout/services.py": (*_SERVICES, "tests/beside/test_embeddings.py"),
    "triocept/_rollout/tools.py": (*_SERVICES,),
    "triocept/_rollout/embedding.py": ("tests/beside/test_embeddings.py",),
    "triocept/_rollout/moderation.py": ("tests/beside/test_moderations.py",),
    "triocept/_rollout/functions.py": ("tests/beside/test_embeddings.py", "tests/beside/test_moderations.py"),
    "triocept/_process/watcher.py": ("tests/agent/test_watcher.py", *_AGENT),
    "triocept/_server/intake.py": (
        "tests/server/test_bad_input.py",
        "tests/server/test_encoding.py",
        "tests/server/test_findings.py",
        "tests/server/test_strangers.py",
        "tests/server/test_documents.py",
        "tests/server/test_other_dialects.py",
        *_ROLLOUT,
        *_CALLS,
    ),
    "triocept/_server/keys.py": (
        "tests/server/test_keys.py",
        "tests/server/test_peers.py",
        "tests/dialects/test_outside.py",
        "tests/services/test_http.py",
    ),
    "triocept/_trace": (*_TRACE, *_FILE),
    "triocept/_trace/jsonl.py": (*_FILE, *_TRACE),
    **{
        f"triocept/_trace/{name}.py": _FILE
        for name in ("linefile", "runlines", "numbering", "chain", "proof", "check")
    },
    "triocept/_trace/views": (
        "tests/trace/test_drift.py",
        "tests/trace/test_steps.py",
        "tests/trace/test_token_branches.py",
        *_TRACE,
    ),
    "triocept/_trace/search.py": ("tests/trace/test_relations.py",),
    "triocept/_trace/increments.py": ("tests/handlers/test_replay.py", *_FILE, *_TRACE),
    "triocept/_trace/raw.py": ("tests/server/test_raw.py", "tests/handlers/test_faults_on_the_wire.py"),
    "triocept/_trace/redaction.py": ("tests/trace/test_redaction.py", "tests/trace/test_known_keys.py"),
    "triocept/_util/key_forms.py": ("tests/trace/test_known_keys.py", "tests/testing/test_cassette_miss.py"),
    "triocept/_trace/lines.py": (*_FILE, *_TRACE),
    "triocept/_trace/reader.py": (*_FILE, *_TRACE),
    "triocept/_trace/recorder.py": ("tests/rollout/test_recorders.py", *_FILE[:1], *_ROLLOUT),
    "triocept/_trace/cost.py": (*_TRACE, "tests/rollout/test_budget.py"),
    "triocept/_trace/tokens.py": (*_TRACE, "tests/upstream/test_tokens.py"),
    "triocept/_canonical": (*_NOUNS, *_TRACE, "tests/dialects/test_streams.py", *_ROLLOUT),
    "triocept/_canonical/agent_calls.py": (
        "tests/services/test_gate.py",
        "tests/services/test_gate_calls.py",
        "tests/handlers/test_approve.py",
    ),
    "triocept/_canonical/frozen.py": ("tests/trace/test_frozen.py", "tests/test_resent.py"),
    "triocept/_canonical/memory.py": ("tests/test_resent.py", *_NOUNS, *_TRACE),
    "triocept/_canonical/resent.py": ("tests/test_resent.py", *_NOUNS),
    "triocept/_canonical/vectors.py": ("tests/beside/test_embeddings.py",),
    "triocept/_canonical/verdict.py": ("tests/beside/test_moderations.py",),
    "triocept/_canonical/price.py": ("tests/rollout/test_budget.py", *_TRACE),
    "triocept/_canonical/tokens.py": (*_TRACE, "tests/upstream/test_tokens.py", *_NOUNS),
}
"""By file or folder; the longest that fits is taken."""


def files(root: Path) -> list[str]:
    """All files that are mutated, from the root on."""
    found: set[Path] = set()
    for area in AREAS:
        path = root / area
        found |= {path} if path.is_file() else set(path.rglob("*.py"))
    return sorted(str(path.relative_to(root)) for path in found)


def folder_of(file: str) -> str:
    """The area that a file is counted with."""
    return next(area for area in AREAS if file == area or file.startswith(f"{area}/"))


def tests_of(file: str) -> tuple[str, ...]:
    """The test files that belong to it, each once, in the order in which they are run."""
    fitting = [place for place in TESTS if file == place or file.startswith(f"{place}/")]
    return tuple(dict.fromkeys(TESTS[max(fitting, key=len)]))
