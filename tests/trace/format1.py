"""Files as format 1 had them, before there were runs: they stay readable."""

from __future__ import annotations

from pathlib import Path

import msgspec

from triocept import Turn
from triocept._trace.numbering import Numbering


def record1(file: Path, *turns: Turn, seal: bool = True) -> None:
    """Append these turns, and a seal for each of their rollouts."""
    tables: dict[str, Numbering] = {}
    counts: dict[str, int] = {}
    branches: dict[str, object] = {}
    with file.open("ab") as out:
        for turn in turns:
            table = tables.setdefault(turn.rollout, Numbering())
            first = len(table.blobs)
            conversation = table.of(turn.request.messages)
            bare = msgspec.structs.replace(turn, request=msgspec.structs.replace(turn.request, messages=()))
            line = {
                "type": "turn",
                "version": 1,
                "turn": bare,
                "conversation": conversation.ranges,
                "first": first,
                "new": [said.message for said in table.blobs[first:]],
            }
            out.write(msgspec.json.encode(line) + b"\n")
            counts[turn.rollout] = counts.get(turn.rollout, 0) + 1
            branches[turn.rollout] = turn.branch
        for rollout, count in counts.items() if seal else ():
            line = {
                "type": "seal",
                "version": 1,
                "rollout": rollout,
                "turns": count,
                "branch": branches[rollout],
            }
            out.write(msgspec.json.encode(line) + b"\n")
