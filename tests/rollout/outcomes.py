"""Every way in which an exchange can be settled from outside while somebody is at work on it, and what must hold then.

`python -m tests.rollout.outcomes` writes the table of it into the docs.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

ACTIONS = (
    "respond", "refuse", "send", "raise Refusal", "raise UpstreamError", "raise another", "return",
    "is cancelled",
)  # fmt: skip
"""What whoever answers does next."""
EVENTS = (
    "rollout.stop", "the rollout is left", "its parent's stop", "the endpoint ends", "the agent hangs up",
    "the agent hangs up, while that is recorded",
)  # fmt: skip
"""Events outside the handler that settle the exchange."""
FORMS = ("handler", "serve", "loop", "handler of a child")
"""Code that answers: the handler of `open_rollout`, of `rollout.serve`, an `async for`, the handler of `open_child`."""
PLACES = ("body", "sibling task", "thread", "process")
"""Where the agent is."""
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "outcomes.md"
BEGIN, END = "<!-- the table: python -m tests.rollout.outcomes -->\n", "<!-- the end of the table -->\n"


class Cell(NamedTuple):
    action: str
    event: str
    form: str
    place: str


CELLS = [Cell(*cell) for cell in product(ACTIONS, EVENTS, FORMS, PLACES)]


def turn_of(event: str) -> str:
    """What the turn says."""
    return "abandoned" if "hangs up" in event else "refused"


def told(action: str, event: str, form: str) -> str | None:
    """The class of the exception that the owner gets: of `open_rollout`, `serve`, the loop; None for none."""
    if form == "loop":
        return _told_in_a_loop(action, event)
    return "ValueError" if action == "raise another" else None


def _told_in_a_loop(action: str, event: str) -> str | None:
    match action:
        case "respond" | "refuse" | "send":
            return "ExchangeAbandoned" if "hangs up" in event else None
        case "raise another":
            return "ValueError"
        case "return" | "is cancelled":
            return None
        case _:
            return action.removeprefix("raise ")


def table() -> str:
    """The table, as Markdown."""
    return "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    yield "| answered in | next action | " + " | ".join(EVENTS) + " |"
    yield "|---" * (2 + len(EVENTS)) + "|"
    for form, action in product(FORMS, ACTIONS):
        found = [told(action, event, form) for event in EVENTS]
        yield f"| {form} | {action} | " + " | ".join(_words(name, form) for name in found) + " |"
    yield "| | **outcome in the turn** | " + " | ".join(f"`{turn_of(event)}`" for event in EVENTS) + " |"


def _words(name: str | None, form: str) -> str:
    if name is None:
        return "nothing"
    return f"`{name}`" if name == "ExchangeAbandoned" else "the exception"


def main() -> None:
    """Write the table."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
