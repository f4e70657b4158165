"""A triocept of later: it writes lines of this version, with something in them that this one does not know."""

import msgspec
import pytest

from triocept._trace.runlines import RunLines


def write_as_later(monkeypatch: pytest.MonkeyPatch, known: bytes, later: bytes) -> None:
    """Let recorders write `later` for `known` in messages, tools and requests; digests and chains are over that."""
    encode = msgspec.json.Encoder().encode
    for module in ("numbering", "runlines"):
        monkeypatch.setattr(
            f"triocept._trace.{module}._value_bytes", lambda value: encode(value).replace(known, later)
        )


def write_lines_as_later(monkeypatch: pytest.MonkeyPatch, known: bytes, later: bytes) -> None:
    """Let recorders write `later` for `known` in whole lines; chains are over that."""
    add = RunLines._add_data
    monkeypatch.setattr(RunLines, "_add_data", lambda run, data: add(run, data.replace(known, later)))
