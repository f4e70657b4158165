"""`--policy` and `--approve`: a policy or a person decides on the tool calls that the model proposes.

Rules:

1. With `--approve` alone, a person decides on calls of the tools that `--approve` names: at the terminal and, with
   `--view`, also on the page. The first decision counts. Calls of all other tools are approved.
2. With both options, the file of `--policy` decides first. The person decides on a call if `--approve` names its tool,
   and the file does not name the tool or escalates the call. A call on which neither the file nor the person decides is
   rejected.
3. If the file itself decides on a tool that `--approve` names, the command ends with an error, because the person would
   never be asked about this tool.
4. With `--approve` alone, the person is asked about every call until the agent has offered all tools that `--approve`
   names, because one of these names may be mistyped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import cast

import click

from .._canonical.content import ToolCall
from .._canonical.request import offered_names
from .._rollout.decision import decision_of
from .._rollout.exchange import Exchange
from .._rollout.mistakes import is_pattern
from .._util.terminal import say, visible
from ..errors import DialectError
from ..handlers import Decision, Policy, PolicyFunction, ask_page, ask_terminal, first_of, read_policy
from .options import F, Option, did_you_mean, existing_file
from .words import cut

_CALL_LENGTH = 60
"""Maximum characters of a tool call to print."""


def _patterns(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> list[str]:
    patterns = [pattern.strip() for each in given for pattern in each.split(",")]
    if "" in patterns:
        raise click.BadParameter(
            "the name of a tool is empty: write Bash, or Bash,Write, or '*' for every tool"
        )
    if wrong := next((pattern for pattern in patterns if re.search(r"\s", pattern)), None):
        raise click.BadParameter(
            f"{wrong!r} contains a space: write names with commas between them, as in Bash,Write"
        )
    return patterns


policy_option: Callable[[F], F] = existing_file(
    "--policy",
    "Approval",
    "Decide on tool calls with this YAML or JSON file. The file maps names of tools to decisions, such as approve, "
    "reject or ask. Calls on which the file makes no decision are rejected.",
)
approve_option: Callable[[F], F] = partial(click.option, cls=Option, group="Approval")(
    "--approve",
    multiple=True,
    callback=_patterns,
    metavar="TOOLS",
    help="When the model calls one of these tools, ask you in this terminal before the agent gets the call. TOOLS are "
    "names, separated by commas; '*' means every tool. May be given several times. Without --policy, calls of other "
    "tools are approved.",
)


def policy_of(
    file: Path | None, approve: Sequence[str] = (), *, no_terminal: str = "", view: bool = False
) -> Policy | None:
    """Return the policy that `--policy` and `--approve` describe; None if neither option is given.

    Args:
        file: the file of `--policy`.
        approve: the names of tools in `--approve`.
        no_terminal: reason why no person can be asked at the terminal. If it is empty, the function checks whether
            standard input and standard error are a terminal.
        view: True if people can also be asked on the page of `--view`.

    Raises:
        click.UsageError: the file is not a policy; or a person must be asked, and there is no terminal.
    """
    if not no_terminal and not all(map(os.isatty, (0, 2))):
        no_terminal = "standard input or standard error is not a terminal"
    ask: PolicyFunction = ask_terminal
    if view:
        ask = _ask_page if no_terminal else first_of(ask_terminal, ask_page)
    asked: dict[str, Policy | Decision] = dict.fromkeys(approve, ask)
    read: dict[str, Policy | Decision] = {}
    if file is not None:
        try:
            read = {**cast("dict[str, Policy | Decision]", read_policy(file))}
        except (DialectError, OSError) as exc:
            raise click.UsageError(f"--policy: {exc}") from exc
        for tool, (pattern, kind) in _decided(read, approve):
            raise click.UsageError(
                f"--approve {tool} has no effect, because {file} decides on these calls first ({pattern}: {kind}); to "
                f"be asked, write {pattern}: escalate in the file; otherwise omit --approve {tool}"
            )
    asks = [f"--policy {file}"] if ask_terminal in read.values() else []
    asks += [f"--approve {','.join(approve)}"] if approve else []
    if asks and no_terminal and not view:
        raise click.UsageError(
            f"{asks[0]} asks a person in the terminal, which is not possible, because {no_terminal}; to "
            "be asked in a browser, use `triocept run` or `triocept serve`, with --view"
        )
    read = {pattern: ask if value is ask_terminal else value for pattern, value in read.items()}
    if file is None:
        return [asked, Others(approve, ask)] if asked else None
    return [read, asked] if asked else read


async def _ask_page(call: ToolCall, exchange: Exchange) -> Decision:
    """Let a person on the page decide. Print that the call waits, because the terminal shows no question."""
    shown = visible(cut(f"{call.name}({call.arguments})", _CALL_LENGTH))
    say(f"▸ approve  {shown} waits until you decide about it on the page of --view, whose address is above")
    return await ask_page(call, exchange)


class Others:
    """The policy for tools that `--approve` does not name.

    Until the agent has offered all tools that `--approve` names, a person is asked about each call. From then on, calls
    of tools that `--approve` does not name are approved.
    """

    def __init__(self, approve: Sequence[str], ask: PolicyFunction) -> None:
        self._ask = ask
        self._missing = [name for name in approve if not is_pattern(name)]
        self._reported = False

    async def __call__(self, call: ToolCall, exchange: Exchange) -> Decision:
        offered = offered_names(exchange.request)
        self._missing = [name for name in self._missing if name not in offered]
        if not self._missing:
            return Decision.approve(by="--approve")
        if not self._reported:
            names = ", ".join(self._missing)
            hint = did_you_mean(self._missing[0], offered)
            say(
                f"▸ --approve {names}: the agent offers no tool of this name, so you are asked about every call{hint}"
            )
            self._reported = True
        return await decision_of(self._ask, call, exchange)


def _decided(
    read: dict[str, Policy | Decision], approve: Sequence[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each tool in `approve` about which the file itself decides, with the file's pattern and decision."""
    for tool in approve:
        matching = [pattern for pattern in (tool, *read) if pattern in read and fnmatchcase(tool, pattern)]
        for pattern in matching:
            if not isinstance(decision := read[pattern], Decision):
                break
            if decision.kind != "escalate":
                yield tool, (pattern, decision.kind)
