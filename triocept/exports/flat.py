"""Write traces as flat rows, one for each turn, as JSONL (for jq, pandas and `datasets`) or as Parquet.

The reference documentation describes each column. Each number and each word has a column of its own. Messages have the
form of chat completions (see `_chat`). In addition, a message may have `reasoning_content`, and a tool result
`is_error`.

Rules of Parquet, which needs `pip install 'triocept[parquet]'`:

1. The schema is fixed and not inferred from rows. In an inferred schema, the JSON Schema of each tool would contain the
   keys of all other tools, too.
2. Values without a fixed shape are JSON texts: `tools`, `notes`, `scores`, `metadata`.
3. Every message has all fields in every row. A field without a value is empty, not null, because readers drop null
   fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

from .._canonical.content import Json
from .._trace.trace import Trace
from ..dialects.kit import encode_json
from ._chat import Chat, answer_of
from ._shared import Losses, Lost, count_lost, json_line, optional

_SETTINGS = ("max_output_tokens", "temperature", "top_p", "top_k", "seed")


def flat_rows(trace: Trace, losses: Losses | None = None) -> Iterator[dict[str, Json]]:
    """Yield a flat row for each turn of a trace, in the order in which the turns ended.

    Args:
        trace: the trace.
        losses: counter of content that has no column; None means that such content is not counted.
    """
    losses = losses if losses is not None else Losses()
    count_lost(losses, trace, Lost.SERVICE_CALLS, Lost.INCREMENTS, Lost.WIRE, settings=_SETTINGS)
    chat = Chat(losses)
    parents, conversations = trace.parents, trace.conversations
    for turn in trace:
        tokens, conversation = turn.tokens, conversations[turn.id]
        response, error = turn.response, turn.error
        usage = response.usage if response is not None else None
        yield {
            **_fields(trace, "rollout", "run"),
            "parent_rollout": trace.branch.rollout if trace.branch is not None else None,
            **_fields(trace, "sealed", "stopped"),
            "scores": dict(trace.scores) or None,
            "metadata": dict(trace.metadata) or None,
            "turn": turn.id,
            "number": turn.number,
            "parent": parents[turn.id],
            "conversation": conversation.id,
            "parent_conversation": conversation.parent,
            "kind": conversation.kind,
            **_fields(turn, "dialect", "agent", "attempt", "attended", "rewritten"),
            **_fields(turn, "started_at", "first_event", "duration", "outcome"),
            "error": error.type if error is not None else None,
            "error_message": error.message if error is not None else None,
            "status": error.status if error is not None else None,
            "model": turn.request.model,
            "answered_by": response.model or None if response is not None else None,
            "response": response.id or None if response is not None else None,
            "stop_reason": response.stopped if response is not None and turn.outcome == "answered" else None,
            **_fields(usage, "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
            **_fields(usage, "reasoning_tokens", "estimated"),
            **_fields(turn.request.sampling, "max_output_tokens", "temperature"),
            "sampled_temperature": turn.temperature,
            **_fields(turn.request.sampling, "top_p", "top_k", "seed"),
            "stream": turn.request.stream,
            "messages": chat.messages(turn.request.messages),
            "tools": chat.tools(turn.request.tools),
            "answer": chat.message(answer_of(response))[0] if response is not None else None,
            "prompt_ids": list(tokens.prompt_ids) if tokens is not None else None,
            "completion_ids": list(tokens.completion_ids) if tokens is not None else None,
            "logprobs": list(tokens.logprobs) if tokens is not None else None,
            "engine": tokens.engine or None if tokens is not None else None,
            **_fields(tokens, "policy_version", "stop_included"),
            **_fields(turn, "policy_start", "policy_end"),
            "token_gaps": list(tokens.gaps) if tokens is not None else None,
            "notes": turn.notes or None,
        }


def write_flat(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    for trace in traces:
        for row in flat_rows(trace, losses):
            file.write(json_line(row))


def _fields(source: object, *names: str) -> dict[str, Json]:
    return {name: getattr(source, name, None) for name in names}


GROUP = 256
"""Maximum number of rows of a Parquet file in memory. The number is small: each row holds a complete conversation."""
_TEXTS = (
    *("rollout", "run", "parent_rollout", "stopped", "turn", "parent", "conversation", "parent_conversation"),
    *(
        "kind",
        "dialect",
        "outcome",
        "error",
        "error_message",
        "model",
        "answered_by",
        "response",
        "stop_reason",
    ),
    *("tools", "notes", "scores", "metadata", "agent", "engine", "policy_version"),
    *("policy_start", "policy_end"),
)
_NUMBERS = (
    *("number", "attempt", "status", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
    *("reasoning_tokens", "max_output_tokens", "top_k", "seed"),
)
_FLOATS = ("started_at", "first_event", "duration", "temperature", "sampled_temperature", "top_p")
_FLAGS = ("sealed", "attended", "rewritten", "estimated", "stream", "stop_included")
_JSON = ("tools", "notes", "scores", "metadata")


def write_parquet(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    """Write one row for each turn of the traces.

    Raise ModuleNotFoundError if pyarrow is not installed; the message names the extra of triocept to install.
    """
    pyarrow, schema = _imported("pyarrow"), parquet_schema()
    rows = (row for trace in traces for row in flat_rows(trace, losses))
    with _imported("pyarrow.parquet").ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP)):
            for row in group:
                row |= {name: encode_json(row[name]).decode() for name in _JSON if row[name] is not None}
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def parquet_schema() -> Any:
    """Return the names and types of the Parquet columns as a `pyarrow.Schema`.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message names the extra of triocept to install.
    """
    pa = _imported("pyarrow")
    text = pa.string()
    function = pa.struct([("name", text), ("arguments", text)])
    call = pa.struct([("id", text), ("type", text), ("function", function)])
    texts = [(name, text) for name in ("role", "content", "reasoning_content")]
    result = [("tool_call_id", text), ("name", text), ("is_error", pa.bool_())]
    message = pa.struct([*texts, ("tool_calls", pa.list_(call)), *result])
    columns = {
        **dict.fromkeys(_TEXTS, text),
        **dict.fromkeys(_NUMBERS, pa.int64()),
        **dict.fromkeys(_FLOATS, pa.float64()),
        **dict.fromkeys(_FLAGS, pa.bool_()),
        "messages": pa.list_(message),
        "answer": message,
        "prompt_ids": pa.list_(pa.int32()),
        "completion_ids": pa.list_(pa.int32()),
        "logprobs": pa.list_(pa.float32()),
        "token_gaps": pa.list_(text),
    }
    return pa.schema([*columns.items()])


def _imported(module: str) -> Any:
    return optional(module, "Parquet files", "parquet")
