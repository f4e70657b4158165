"""The table, as lines that a test compares, and the documentation page that is generated from it."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from .feature import Ask, Fault, Feature
from .walk import FEATURES, NAMES, STREAM_ONLY, UNSAID, walk

TABLE = Path(__file__).with_name("table.tsv")
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "translation.md"
Table: TypeAlias = dict[tuple[str, str, str], dict[str, str]]
"""Group, feature and sending dialect -> receiving dialect -> the form that the feature gets there."""

_NO_WORD = re.compile(r"[^a-z0-9]+")
_SHORT = {
    "openai_chat": "chat",
    "openai_completions": "completions",
    "openai_responses": "Responses",
    "anthropic_messages": "Messages",
    "gemini": "Gemini",
    "ollama": "Ollama",
}
_HEAD = """\
<!-- Made by `python -m tests.dialects.pairs`, and compared by the tests. Do not edit. -->

# Translation between dialects

If an agent and its provider use different dialects, triocept translates each request from the agent's dialect to the
provider's dialect, and each answer from the provider's dialect to the agent's dialect. Such a translation keeps some
features of a request or an answer, and changes or loses other features. The tables on this page show what happens to
each feature. If the agent and the provider use the same dialect, every feature is kept.

The test suite generates this page. A test translates every feature, as bytes, between every pair of dialects, in both
directions. The test fails if a cell of the tables is no longer true. The cells have these values:

- *kept*: triocept sends the feature to the other side, with the same meaning.
- *lost*: triocept sends the request or the answer without the feature, because the other dialect has no field for the
  feature, or because the other side would refuse the feature.
- *refused*: triocept sends an error with status 400 to the agent, because the request or the answer would have another
  meaning without the feature.
- Any other text describes how triocept writes the feature in the other dialect.

The tables use short names of the dialects: *chat* for `openai_chat`, *completions* for `openai_completions`,
*Responses* for `openai_responses`, *Messages* for `anthropic_messages`, *Gemini* for `gemini`, *Ollama* for `ollama`.
In every dialect, an agent can get only one answer to a request: triocept refuses a request for several answers (`n`
above 1).
"""
_REQUESTS = """
## From an agent to a provider

The following tables show the features of requests. The column *sent by* lists the dialects in which an agent can send
the feature. Each of the last six columns is a dialect of the provider.
"""
_ANSWERS = """
## From a provider to an agent

The following tables show the features of answers. The column *sent by* lists the dialects in which a provider can send
the feature. Each of the last six columns is a dialect of the agent. A row applies both to whole and to streamed
answers. If the two differ, the cell has separate values for *whole* and *streamed*.
"""


def compute() -> Table:
    """Every feature through every pair."""
    return {
        (feature.group, feature.name, start): {end: walk(feature, start, end) for end in NAMES}
        for feature in FEATURES
        for start in NAMES
    }


def table_of(table: Table) -> str:
    """The table as lines, tab-separated."""
    lines = [["group", "feature", "sent by", *NAMES]]
    lines += [[*key, *(cells[name] for name in NAMES)] for key, cells in table.items()]
    return "".join("\t".join(line) + "\n" for line in lines)


def read_table() -> Table:
    """The table as it is checked in."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return {(row[0], row[1], row[2]): dict(zip(NAMES, row[3:], strict=True)) for row in rows}


def write(table: Table) -> None:
    """Write the table and the page."""
    TABLE.write_text(table_of(table), encoding="utf-8")
    PAGE.write_text(page_of(table), encoding="utf-8")


def page_of(table: Table) -> str:
    """Return the page, made of the outward part of the table."""
    notes: list[str] = []
    text = _HEAD + _REQUESTS
    text += _section(table, [each for each in FEATURES if isinstance(each, Ask)], notes)
    text += _ANSWERS
    text += _section(table, [each for each in FEATURES if not isinstance(each, Ask | Fault)], notes)
    text += _section(table, [each for each in FEATURES if isinstance(each, Fault)], notes)
    return text + "\n" + "\n".join(notes) + "\n"


def _section(table: Table, features: list[Feature], notes: list[str]) -> str:
    return "".join(
        f"\n### {group}\n\n"
        + "\n".join(_rows(table, [each for each in features if each.group == group], notes))
        + "\n"
        for group in dict.fromkeys(feature.group for feature in features)
    )


def _rows(table: Table, features: list[Feature], notes: list[str]) -> Iterator[str]:
    yield f"| feature | sent by | {' | '.join(_SHORT.values())} |"
    yield "|---" * (len(NAMES) + 2) + "|"
    for feature in features:
        rows = {start: table[feature.group, feature.name, start] for start in NAMES}
        sent_by = [start for start in NAMES if set(rows[start].values()) != {UNSAID}]
        cells = {end: _cells(rows, sent_by, end) for end in NAMES}
        usual = {end: _usual(found) for end, found in cells.items()}
        exceptions = [
            f"From {_SHORT[start]} to {_SHORT[end]}: {found}."
            for end in NAMES
            for start, found in cells[end].items()
            if found != usual[end]
        ]
        note = " ".join([*([feature.note] if feature.note else []), *exceptions])
        name = feature.name
        if note:
            label = _NO_WORD.sub("-", f"{feature.group} {feature.name}".lower()).strip("-")
            notes.append(f"[^{label}]: {note}")
            name += f" [^{label}]"
        by = "all" if len(sent_by) == len(NAMES) else ", ".join(_SHORT[start] for start in sent_by)
        yield f"| {name} | {by} | {' | '.join(usual.values())} |"


def _cells(rows: dict[str, dict[str, str]], sent_by: list[str], end: str) -> dict[str, str]:
    """Return its form in `end`, for each dialect that sends it; `end` itself only if no other dialect does."""
    found = {start: rows[start][end].partition(" | ")[0].removeprefix(STREAM_ONLY) for start in sent_by}
    others = {start: verdict for start, verdict in found.items() if start != end and verdict != UNSAID}
    return others or found


def _usual(found: dict[str, str]) -> str:
    return Counter(found.values()).most_common(1)[0][0] if found else ""
