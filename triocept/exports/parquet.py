"""Parquet: the rows of `flat`, with a fixed schema. Needs `pip install 'triocept[parquet]'`.

Rules:

1. The schema is given, never inferred: a schema inferred from rows gives every tool's JSON Schema the keys of all other
   tools.
2. Values without a fixed shape are JSON texts: `tools`, `notes`, `scores`, `metadata`.
3. A message has all its fields in every row, with empty values where it has none: a reader drops null fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

from .._canonical.content import Json
from .._trace.trace import Trace
from ..dialects.kit import encode_json
from ._losses import Losses
from ._optional import optional
from .flat import flat_rows

GROUP = 256
"""Maximum rows in memory: each holds a complete conversation."""
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
)
_NUMBERS = (
    *("number", "attempt", "status", "input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
    *("reasoning_tokens", "max_output_tokens", "top_k", "seed"),
)
_FLOATS = ("started_at", "first_event", "duration", "temperature", "sampled_temperature", "top_p")
_FLAGS = ("sealed", "attended", "rewritten", "estimated", "stream", "stop_included")
_JSON = ("tools", "notes", "scores", "metadata")


def write_parquet(traces: Iterable[Trace], file: IO[bytes], losses: Losses) -> None:
    """Write a row for each turn of these traces.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message names the extra to install.
    """
    pyarrow, schema = _imported("pyarrow"), parquet_schema()
    rows = (_row(row) for trace in traces for row in flat_rows(trace, losses))
    with _imported("pyarrow.parquet").ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def parquet_schema() -> Any:
    """Return the columns and their types, a `pyarrow.Schema`.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; the message names the extra to install.
    """
    pyarrow = _imported("pyarrow")
    return pyarrow.schema(list(_columns(pyarrow).items()))


def _imported(module: str) -> Any:
    return optional(module, "Parquet files", "parquet")


def _columns(pa: Any) -> dict[str, Any]:
    text = pa.string()
    function = pa.struct([("name", text), ("arguments", text)])
    call = pa.struct([("id", text), ("type", text), ("function", function)])
    message = pa.struct(
        [
            ("role", text),
            ("content", text),
            ("reasoning_content", text),
            ("tool_calls", pa.list_(call)),
            ("tool_call_id", text),
            ("name", text),
            ("is_error", pa.bool_()),
        ]
    )
    return {
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


def _row(row: dict[str, Json]) -> dict[str, Json]:
    return {**row, **{name: _as_text(row[name]) for name in _JSON}}


def _as_text(value: Json) -> str | None:
    return encode_json(value).decode() if value is not None else None


def _groups(rows: Iterator[dict[str, Json]]) -> Iterator[list[dict[str, Json]]]:
    while group := list(islice(rows, GROUP)):
        yield group
