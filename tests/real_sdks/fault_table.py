"""`python -m tests.real_sdks.fault_table`: write the table of what SDKs make of faults anew, by asking them.

The SDKs of Python must be installed here; those of JavaScript are installed as for `nox -s sdks`
(`TRIOCEPT_SDKS_DIR`).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import trio

from triocept import Endpoint, Rollout, serve_endpoint
from triocept.handlers import Fault

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "faults.md"

FAULTS: tuple[Fault, ...] = (
    Fault.close(),
    Fault.reset(),
    Fault.stall(),
    Fault.stalled_head(),
    Fault.noise(),
    Fault.status(429, retry_after=0),
    Fault.status(529),
    Fault.context_length(),
    Fault.too_large(),
    Fault.html(),
    Fault.html(401),
    Fault.html(429, retry_after=0),
    Fault.html(200),
    Fault.redirect(),
    Fault.empty(),
    Fault.error_body(),
    Fault.cut(),
    Fault.reset(after=2),
    Fault.stall(after=2),
    Fault.cut_json(),
    Fault.wrong_length(),
    Fault.wrong_length(-10),
    Fault.not_gzip(),
    Fault.unended(),
    Fault.unended(framing="chunked"),
    Fault.no_done(),
    Fault.no_finish(),
    Fault.no_start(),
    Fault.error_event(),
    Fault.error_event(after=2),
    Fault.garbage(),
    Fault.other_form(),
    Fault.finish("length"),
    Fault.finish("content_filter"),
    Fault.cut_arguments(),
    Fault.drip(),
    Fault.split_letters(),
    Fault.crlf(),
    Fault.comments(),
    Fault.double_end(),
)
DIALECTS = {"openai": "openai_chat", "anthropic": "anthropic_messages", "google": "gemini"}
FORMS = ("whole", "streamed")
LANGUAGES = ("Python", "JavaScript")
TIMEOUT = 1.5
"""Seconds that an SDK is told to wait for something that does not come."""
PATIENCE = 30.0
"""The same where something comes: so much that a busy machine makes no difference."""
GIVES_UP = {TIMEOUT: 12.0, PATIENCE: 100.0}
"""After how many seconds nobody believes in an end any more, by what the SDK was told: it may try three times."""
WAIT = 240
"""Seconds for all jobs of one program."""


class Column(NamedTuple):
    """One SDK."""

    language: str
    sdk: str


COLUMNS = tuple(Column(language, sdk) for language in LANGUAGES for sdk in DIALECTS)


class Table(NamedTuple):
    """What SDKs made of the faults."""

    versions: Mapping[Column, str]
    cells: Mapping[tuple[str, str, Column], str]
    """By the form of the call, the name of the fault, and the SDK."""
    runtimes: Mapping[str, str]
    """By language, what ran them: `Node 20.20`."""


def name_of(fault: Fault) -> str:
    return repr(fault).removeprefix("Fault.").replace("status=", "").replace("reason=", "")


# Asking


async def ask_all(programs: Mapping[str, Sequence[str | Path]]) -> Table:
    """Ask these SDKs, by language the command of the program that has them."""
    versions: dict[Column, str] = {}
    cells: dict[tuple[str, str, Column], str] = {}
    runtimes: dict[str, str] = {}
    async with serve_endpoint() as endpoint:
        for language, command in programs.items():
            head, told = await _ask(endpoint, language, command)
            versions |= {Column(language, sdk): version for sdk, version in head["versions"].items()}
            runtimes[language] = head["runtime"]
            cells |= told
    return Table(versions, cells, runtimes)


async def _ask(
    endpoint: Endpoint, language: str, command: Sequence[str | Path]
) -> tuple[dict[str, Any], dict[tuple[str, str, Column], str]]:
    jobs: list[dict[str, Any]] = []
    rollouts: list[tuple[str, Fault, Column, Rollout]] = []
    async with trio.open_nursery() as nursery:
        for form in FORMS:
            for fault in FAULTS:
                for sdk, dialect in DIALECTS.items():
                    rollout = await nursery.start(_held, endpoint, fault)
                    number = len(jobs)
                    url = rollout.base_url(dialect)
                    timeout = TIMEOUT if fault.name in ("stall", "stalled_head") else PATIENCE
                    call = {"call": f"{sdk} {form}", "url": url, "key": rollout.api_key}
                    jobs.append({"job": number, **call, "timeout": timeout, "gives_up": GIVES_UP[timeout]})
                    rollouts.append((form, fault, Column(language, sdk), rollout))
        printed = await trio.to_thread.run_sync(_run, command, jobs)
        nursery.cancel_scope.cancel()
    head, *lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    outcomes = {line["job"]: line for line in lines}
    missing = [(form, name_of(fault), column.sdk) for form, fault, column, _ in rollouts]
    missing = [each for number, each in enumerate(missing) if number not in outcomes]
    assert not missing, f"{language}: nothing came of {missing} in {WAIT} seconds"
    cells = {
        (form, name_of(fault), column): _cell(outcomes[number], rollout, fault)
        for number, (form, fault, column, rollout) in enumerate(rollouts)
    }
    return head, cells


def _run(command: Sequence[str | Path], jobs: Sequence[Mapping[str, Any]]) -> str:
    """What a program prints of its jobs, as far as it gets."""
    run = partial(subprocess.run, stdout=subprocess.PIPE, check=True, timeout=WAIT)
    try:
        printed: bytes = run([str(part) for part in command], input=json.dumps(jobs).encode()).stdout
    except subprocess.TimeoutExpired as exc:
        printed = exc.stdout or b""
    return printed.decode()


async def _held(endpoint: Endpoint, fault: Fault, *, task_status: trio.TaskStatus[Rollout]) -> None:
    async with endpoint.open_rollout(fault) as rollout:
        task_status.started(rollout)
        await trio.sleep_forever()


# What is said of it


def _cell(outcome: Mapping[str, Any], rollout: Rollout, fault: Fault) -> str:
    calls = len(rollout.trace)
    return f"{calls}: {_said(outcome, rollout, fault)}"


def _said(outcome: Mapping[str, Any], rollout: Rollout, fault: Fault) -> str:
    if outcome.get("waits"):
        return "hangs"
    if "raised" in outcome:
        return f"`{outcome['raised']}`{'' if outcome['own'] else ' †'}"
    if "type" in outcome:
        return f"**`{outcome['type']}`**"
    meant = rollout.trace[-1].response
    if any(_is_cut(arguments) for arguments in outcome["arguments"]):
        return "**cut arguments**"
    if outcome["arguments"]:
        return "a call"
    text, whole = outcome["text"], _WHOLE if fault.name != "split_letters" else meant and meant.text
    reason = f", `{outcome['reason']}`" if outcome["reason"] not in _USUAL else ""
    if text == whole:
        return f"the answer{reason}{', no reason' if outcome['reason'] is None else ''}"
    if text and whole and whole.startswith(text):
        return f"**half an answer**{reason}"
    return f"**another answer**{reason}" if text else f"**nothing**{reason}"


_USUAL = ("stop", "end_turn", "STOP", None)
_WHOLE = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all."


def _is_cut(arguments: str) -> bool:
    try:
        found = json.loads(arguments)
    except ValueError:
        return True
    return not isinstance(found, dict) or "limit" not in found


def same_columns(table: Table, page: Table) -> list[Column]:
    """The SDKs that were asked in the very versions that the page is of; with another one, any cell may be another."""
    return [
        column
        for column in table.versions
        if table.versions[column] == page.versions[column]
        and table.runtimes[column.language] == page.runtimes[column.language]
    ]


def differing(table: Table, page: Table) -> dict[tuple[str, str, Column], tuple[str, str]]:
    """What was found, and what the page says, where they are not the same, of the SDKs that are."""
    columns = same_columns(table, page)
    return {
        key: (cell, page.cells[key])
        for key, cell in table.cells.items()
        if key[2] in columns and page.cells[key] != cell
    }


def changed(table: Table, page: Table) -> list[str]:
    """The SDKs that are no more those of the page, in words."""
    same = same_columns(table, page)
    return [
        f"{_head(column)} {table.versions[column]} on {table.runtimes[column.language]} "
        f"(the page: {page.versions[column]} on {page.runtimes[column.language]})"
        for column in table.versions
        if column not in same
    ]


# The page

_ABOVE = """\
# Faults: how the official SDKs react

<!-- Written by `python -m tests.real_sdks.fault_table`, which calls them. `nox -s sdks` checks that the page is still
true, for the SDKs that it finds in these versions. -->

A {class}`~triocept.handlers.Fault` is a handler that answers with an error of a provider or of a connection. This page
shows how the official SDKs react to each fault; see also [how to use faults](../how-to/faults.md). For the tests with
the faults `stall` and `stalled_head`, the timeout of the SDKs was set to 1.5 seconds, and for the tests with all other
faults to 30 seconds. All other settings were the defaults of the SDKs.

The number before the colon in a cell is the number of HTTP requests that the SDK sent for one call of its method. The
text after the colon is the exception that the SDK raised, or the result that it returned. Marks and words in the cells
have the following meanings:

- **Bold** means that the fault passes as success: the SDK raised no exception, but its result is not the answer.
- † means that the exception is not a subclass of the SDK's own exceptions. For example, `except openai.OpenAIError`
  does not catch it.
- *The answer* means that the SDK returned the whole answer. If the stop reason of this answer is unusual, the cell also
  contains the stop reason; *no reason* means that the answer has no stop reason.
- *Hangs* means that the SDK's method did not return within 12 seconds although its timeout was 1.5 seconds, or within
  100 seconds although its timeout was 30 seconds.

"""
_SHORT = "## Faults that pass as success"
_FORMS = {"whole": "Whole calls", "streamed": "Streams"}
_READ = {
    "whole": (
        "The table shows the results of the SDKs' methods `chat.completions.create`, `messages.create` and "
        "`generate_content`."
    ),
    "streamed": (
        "The table shows the results of the SDKs' methods `chat.completions.create(stream=True)`, `messages.stream` "
        "(with its final message) and `generate_content_stream`."
    ),
}
_HEADS = {"openai": "openai", "anthropic": "anthropic", "google": "google-genai"}
_JAVASCRIPT = {"openai": "openai", "anthropic": "@anthropic-ai/sdk", "google": "@google/genai"}


def _head(column: Column) -> str:
    names = _HEADS if column.language == "Python" else _JAVASCRIPT
    return f"{names[column.sdk]} ({'Python' if column.language == 'Python' else 'JS'})"


def render(table: Table) -> str:
    """The page of a table."""
    versions = [f"{_head(column)} {version}" for column, version in table.versions.items()]
    runtimes = [table.runtimes[language] for language in LANGUAGES]
    parts = [_ABOVE, f"Tested versions: {', '.join(versions)}.\n\nRuntimes: {', '.join(runtimes)}.\n"]
    for form in FORMS:
        parts.append(f"\n## {_FORMS[form]}\n\n{_READ[form]}\n\n")
        parts.append(_row(["fault", *map(_head, COLUMNS)]))
        parts.append("|" + "---|" * (len(COLUMNS) + 1) + "\n")
        for fault in FAULTS:
            name = name_of(fault)
            parts.append(_row([f"`{name}`", *(table.cells[form, name, column] for column in COLUMNS)]))
    parts.append(f"\n{_SHORT}\n\n")
    parts += [_passing(table, column) for column in COLUMNS]
    return "".join(parts)


def _passing(table: Table, column: Column) -> str:
    """Return the line of the faults that pass as success with one SDK."""
    said = []
    for form in FORMS:
        names = [name_of(fault) for fault in FAULTS if "**" in table.cells[form, name_of(fault), column]]
        said.append(f"{_FORMS[form].lower()}: {', '.join(f'`{name}`' for name in names) or 'nothing'}")
    return f"* {_head(column)}: {'; '.join(said)}.\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def parse(page: str) -> Table:
    """The table on a page."""
    asked = re.search(r"^Tested versions: (.*)\.$", page, re.MULTILINE)
    ran = re.search(r"^Runtimes: (.*)\.$", page, re.MULTILINE)
    assert ran is not None
    by_head = {_head(column): column for column in COLUMNS}
    pairs = [each.rpartition(" ") for each in asked[1].split(", ")]
    versions = {by_head[head]: version for head, _, version in pairs}
    cells = {}
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    for form, section in zip(FORMS, sections, strict=False):
        for line in re.findall(r"^\| `.*$", section, re.MULTILINE):
            name, *said = [cell.strip() for cell in line.strip("| ").split(" | ")]
            for column, cell in zip(COLUMNS, said, strict=True):
                cells[form, name.strip("`"), column] = cell
    return Table(versions, cells, dict(zip(LANGUAGES, ran[1].split(", "), strict=True)))


def main() -> None:
    from tests.real_sdks.conftest import install_javascript, sdks_folder

    javascript = install_javascript(sdks_folder())
    assert javascript is not None, "there is no npm here"
    node, folder = javascript
    programs = {
        "Python": [sys.executable, HERE / "fault_calls.py"],
        "JavaScript": [node, folder / "fault_calls.mjs"],
    }
    PAGE.write_text(render(trio.run(ask_all, programs)))


if __name__ == "__main__":
    main()
