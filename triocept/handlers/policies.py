"""Policies for `approve`: policies that are read from a file, and policies that ask a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import trio

from .._canonical.content import ToolCall
from .._rollout.decision import Decision, Policy, PolicyFunction, check_policy, decision_of, what_is_wrong
from .._rollout.exchange import Exchange, core_of
from .._rollout.questions import ASKED
from .._util.documents import Node
from .._util.failures import keeping_each, raise_all
from .._util.terminal import all_visible, visible
from ..errors import DialectError
from .script.file import read_document

_FORMS = (
    "approve, reject, ask, escalate, {reject: REASON}, {answer: TEXT}, {terminate: REASON} or {modify: {…}}"
)

_WORDS = ("approve", "reject", "ask", "escalate")
_OTHERS = {
    **dict.fromkeys(("allow", "allowed", "accept", "yes", "true", "run"), "approve"),
    **dict.fromkeys(("deny", "denied", "block", "forbid", "no", "false"), "reject"),
    **dict.fromkeys(("prompt", "confirm"), "ask"),
}
"""Words for decisions that other programs use, each with triocept's word for the same decision."""
_KEYS = ("reject", "answer", "terminate", "modify")


def read_policy(path: str | Path) -> Policy:
    """Read a policy from a YAML or JSON file: `approve(model, read_policy("policy.yaml"))`.

    The file is a mapping from tool patterns to decisions::

        Read: approve
        Bash: ask                      # a person, in the terminal
        "mcp__*": {reject: not allowed here}
        "*": {terminate: an unknown tool}

    A decision is `approve`, `reject`, `ask` or `escalate`; or a mapping with one key: `reject`, `answer` or `terminate`
    with a text, or `modify` with arguments.

    Raises:
        OSError: the file cannot be read.
        DialectError: the file does not contain a policy. The error's text names the file, the line and the invalid
            part.
    """
    path = Path(path)
    if path.suffix == ".py":
        problem = "a policy file is a YAML or JSON file; a policy in Python is an argument of approve(model, policy)"
        raise DialectError(problem, path=str(path))
    document = read_document(path)
    if document.value is None:
        raise document.error('the file is empty: write a decision for each tool, such as {"*": "ask"}')
    if not isinstance(document.value, dict):
        raise document.error(
            f'a policy must be a mapping from tools to decisions, such as {{"*": "ask"}}, not {_found(document)}'
        )
    if not document.value:
        raise document.error('a policy needs a decision for at least one tool, such as {"*": "ask"}')
    return {pattern: _decision(node) for pattern, node in document.value.items()}


def _decision(node: Node) -> Policy | Decision:
    match node.value:
        case "approve":
            return Decision.approve(by="policy file")
        case "reject":
            return Decision.reject(by="policy file")
        case "escalate":
            return Decision.escalate()
        case "ask":
            return ask_terminal
        case {"reject": reason, **rest} if not rest:
            return Decision.reject(reason.text(), by="policy file")
        case {"answer": text, **rest} if not rest:
            return Decision.answer(text.text(), by="policy file")
        case {"terminate": reason, **rest} if not rest:
            return Decision.terminate(reason.text(), by="policy file")
        case {"modify": arguments, **rest} if not rest:
            return Decision.modify(arguments.json, by="policy file")
        case str() as word:
            raise _unknown(node, word, _WORDS)
        case {**members} if wrong := [name for name in members if name not in _KEYS]:
            raise _unknown(node, str(wrong[0]), _KEYS)
        case {**members} if len(members) > 1:
            raise node.error(
                f"a decision has one key, not {len(members)}: give only one of {', '.join(map(str, members))}"
            )
        case bool() as word:
            raise _unknown(node, str(word).lower(), _WORDS)
        case [*names] if node.path in (*_WORDS, *_KEYS) and names:
            raise node.error(
                f"{node.path} is a decision, and not a tool: write {names[0].value}: {node.path}"
            )
        case _:
            raise node.error(f"a decision must be {_FORMS}, not {node.kind}")


def _found(document: Node) -> str:
    """Return the kind of `document`, which is not a policy.

    If the mistake is known, add advice on how to correct it.
    """
    if isinstance(document.value, list):
        return "a list: omit the - before each tool"
    if isinstance(document.value, str) and ":" in document.value:
        return "a text: write a space after each colon"
    return document.kind


def _unknown(node: Node, word: str, known: Sequence[str]) -> DialectError:
    form = word.lower()
    near = [_OTHERS[form]] if form in _OTHERS else get_close_matches(form, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"a decision must be {_FORMS}"
    return node.error(f"unknown decision {word!r}; {hint}")


_turns = trio.Lock()
"""Lock that a task holds while its question is open in the terminal, so that only one question is open at a time:
several rollouts share the terminal.
"""


async def ask_terminal(call: ToolCall, exchange: Exchange) -> Decision:
    """Let the person at the terminal decide about a tool call. This is a policy for `approve`.

    The question is written to standard error, and the answer is read from standard input. `y` approves, `n` rejects
    with a reason, `e` edits the arguments, `t` ends the rollout.

    Raises:
        EOFError: standard input has ended, so that no person can answer.

    Lines that were typed before the question was written are discarded.

    Cancellation: the question is withdrawn. If standard input is not a terminal, the next line that arrives is
    discarded, because it may be the answer to the withdrawn question.
    """
    async with _turns:
        _show(f"\n{all_visible(call.name)} {all_visible(call.arguments)}\n")
        if sys.stdin.isatty():
            import termios  # Windows has none

            termios.tcflush(sys.stdin, termios.TCIFLUSH)
        try:
            return await _ask(call)
        except trio.Cancelled:
            _show(
                "\nthis question needs no answer any more: it was decided elsewhere, or the agent has disconnected\n"
            )
            raise


async def ask_page(call: ToolCall, exchange: Exchange) -> Decision:
    """Let a person on the endpoint's web page decide about a tool call. This is a policy for `approve`.

    If several people have the page open, the first decision takes effect. If one person closes the page, the call is
    still shown on the other open pages and on pages that are opened later.

    Raises:
        RuntimeError: the endpoint has no page, because it was opened without `view=True`; or this function was not
            called as a policy of `approve`.

    Cancellation: the question is withdrawn.
    """
    agents = core_of(exchange).outermost
    events = agents.rollout.records.events
    if events is None or events.receiver.view is None:
        raise RuntimeError("ask_page needs the page of the live view: pass view=True to serve_endpoint")
    if (asked := ASKED.get(None)) is None:
        raise RuntimeError(
            "ask_page was not called as a policy: pass it to approve(model, policy), or call it from a policy"
        )
    return await events.receiver.view.questions.ask(call, asked)


def first_of(*policies: Policy) -> PolicyFunction:
    """Return a policy that runs several policies at once: `first_of(ask_terminal, ask_page)`.

    The first decision takes effect; then the policies that still run are cancelled. If a policy returns
    `Decision.escalate()`, the other policies decide.

    Raises:
        TypeError, ValueError: an argument is not a policy, or there are no arguments.
        Exception: the exception of a policy that failed, while an exchange was answered, before a decision was made.
    """
    check_policy(policies, "first_of")

    async def first_decision(call: ToolCall, exchange: Exchange) -> Decision:
        found: list[Decision] = []
        errors: list[BaseException] = []

        async def run(policy: Policy) -> None:
            decision = await decision_of(policy, call, exchange)
            if decision.kind != "escalate" and not found:
                found.append(decision)
                nursery.cancel_scope.cancel()

        with keeping_each(errors):
            async with trio.open_nursery() as nursery:
                for policy in policies:
                    nursery.start_soon(run, policy)
        raise_all([exc for exc in errors if not found or not isinstance(exc, Exception)])
        return found[0] if found else Decision.escalate()

    return first_decision


async def _ask(call: ToolCall) -> Decision:
    while True:
        match (await _read("run it? [y]es, [n]o, [e]dit, [t]erminate: ")).strip().lower():
            case "y" | "yes":
                return Decision.approve(by="terminal")
            case "n" | "no":
                reason = (await _read("reason for the model: ")).strip()
                return Decision.reject(reason or "a person rejected it", by="terminal")
            case "t" | "terminate":
                reason = (await _read("reason: ")).strip()
                return Decision.terminate(reason or "a person ended the run", by="terminal")
            case "e" | "edit":
                text = await _read("arguments: ")
                if call.kind == "json" and (wrong := what_is_wrong(text)):
                    _show(f"{visible(wrong)}\n")
                else:
                    return Decision.modify(text, by="terminal")


async def _read(question: str) -> str:
    _show(question)
    if sys.stdin.isatty():  # a thread that waits for input could not be ended, and would take the next line
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
    line: str = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if not line:
        _show("\n")
        raise EOFError("ask_terminal needs a person who answers at a terminal, but standard input has ended")
    return line.rstrip("\n")


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
