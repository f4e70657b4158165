"""Write JSON values as readable YAML, in a form that `diff` can compare line by line.

Rules:

1. Equal values give equal texts. So the caller must sort the members of objects, and the style depends only on the
   value.
2. A text of several lines is written line by line, as a block, even if lines end with spaces. (YAML 1.2, 8.1.2 allows
   such a block; PyYAML never writes one.) A text that a block cannot contain is quoted, as in JSON.
3. A text that older versions of YAML read as another type (`no`, `12:30`, a date) is quoted.
4. Lists of numbers, short lists of words, and small objects of numbers are written on one line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from textwrap import wrap

from .._canonical.content import Json

_WIDTH = 100
"""Maximum characters of a line with several values. A longer list is continued on the next line. Single texts are never
cut."""
_LONGEST_KEY = 200
"""Maximum characters of a key that is written before a colon on the same line. YAML's own limit is 1024 (1.2, 8.2.2).
"""
_PLAIN = re.compile(r"[A-Za-z_/(](?:[^\t\x00-\x1f\x7f]*[^\s:\x00-\x1f\x7f])?")
"""Pattern of texts that may be written without quotes. It mainly restricts the first and the last character."""
_NOT_PLAIN = re.compile(r": |:\t| #")
_NOT_PLAIN_IN_FLOW = re.compile(r"[,\[\]{}:#]")
_WORDS = re.compile(r"(?:y|yes|n|no|true|false|on|off|null)", re.IGNORECASE)
"""Pattern of words that begin with a letter, but that YAML 1.1 does not read as texts."""
_UNPRINTABLE = re.compile(
    "[^\\t\\n\\x20-\\x7e\\xa0-\\u2027\\u202a-\\ud7ff\\ue000-\\ufefe\\uff00-\\ufffd\U00010000-\U0010ffff]"
)
"""Pattern of characters that are not printable (YAML 1.2, 5.1), or that some YAML readers treat as line ends."""


def write_yaml(value: Json) -> str:
    """Return a JSON value as YAML that ends with a line feed.

    Raises:
        ValueError: the value contains an infinite number or NaN, which JSON does not have.
    """
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Json, indent: int) -> Iterator[str]:
    """Yield the lines of `value`, which begins on its own line. Each line is indented by at least `indent` spaces."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            head = f"{pad}{_text(name)}:"
            if len(head) > _LONGEST_KEY:
                yield f"{pad}? {_text(name)}"
                head = f"{pad}:"
            yield from _behind(head, inner, indent)
    elif isinstance(value, list) and value:
        for inner in value:
            if isinstance(inner, dict) and inner and _flow(inner) is None:
                first, *rest = _lines(inner, indent + 2)
                yield f"{pad}- {first.lstrip()}"
                yield from rest
            else:
                yield from _behind(f"{pad}-", inner, indent)
    else:
        first, *rest = _scalar(value, indent)
        yield pad + first
        yield from rest


def _behind(head: str, value: Json, indent: int) -> Iterator[str]:
    """Yield the lines of `head`, which ends with a colon or a dash, followed by `value`."""
    if isinstance(value, dict | list) and value:
        if (flow := _flow(value)) is not None:
            line = f"{head} {flow}"
            if len(line) <= _WIDTH or len(head) > _WIDTH // 2 or '"' in line:
                yield line
                return
            pad = " " * (len(head) - len(head.lstrip()) + 2)
            yield from wrap(
                line, _WIDTH, subsequent_indent=pad, break_long_words=False, break_on_hyphens=False
            )
        else:
            yield head
            yield from _lines(value, indent + 2)
        return
    first, *rest = _scalar(value, indent)
    yield f"{head} {first}"
    yield from rest


def _scalar(text: Json, indent: int) -> list[str]:
    """Return the lines of a text, number or other scalar value. A text of several lines becomes a YAML block."""
    is_text = isinstance(text, str) and "\n" in text and text.strip(" \t\n")
    if not is_text or _UNPRINTABLE.search(text):
        return [_word(text)]
    body, pad = text.rstrip("\n"), " " * (indent + 2)
    ends = len(text) - len(body)
    # A reader takes the indentation from the first line, unless it is given.
    indentation = "2" if text[0] in " \t\n" else ""
    head = f"|{indentation}{('-', '')[ends] if ends < 2 else '+'}"
    return [head, *(pad + line if line else "" for line in body.split("\n")), *[""] * (ends - 1)]


def _flow(value: Json) -> str | None:
    """Return a list or an object as one line; None if it needs several lines."""
    if isinstance(value, dict):
        flow = ", ".join(f"{_text(name, flow=True)}: {_word(inner)}" for name, inner in value.items())
        return f"{{{flow}}}" if all(map(_is_number, value.values())) and len(flow) <= _WIDTH else None
    if all(map(_is_number, value)):
        return f"[{', '.join(map(_word, value))}]"
    are_words = all(isinstance(inner, str) and "\n" not in inner for inner in value)
    if are_words and sum(map(len, value)) <= _WIDTH // 2:
        return f"[{', '.join(_text(inner, flow=True) for inner in value)}]"
    return None


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float)


def _word(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            raise ValueError(f"JSON has no number {value!r}")
        case int() | float():
            return json.dumps(value)
        case str():
            return _text(value)
        case list():
            return "[]"
        case _:
            return "{}"


def _text(text: str, *, flow: bool = False) -> str:
    is_plain = _PLAIN.fullmatch(text) and not _NOT_PLAIN.search(text) and not _UNPRINTABLE.search(text)
    if is_plain and not _WORDS.fullmatch(text) and not (flow and _NOT_PLAIN_IN_FLOW.search(text)):
        return text
    # All unprintable characters are in the basic multilingual plane.
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
