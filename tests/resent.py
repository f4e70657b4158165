"""Bodies of conversations, valid and broken, by a seeded generator; and the comparison with a plain decode."""

import json
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from triocept import Request
from triocept._canonical import resent
from triocept._canonical.content import Json
from triocept._canonical.memory import Memory
from triocept._canonical.resent import BodyReader, Conversation
from triocept.dialects import dialect
from triocept.dialects.kit import decode_json
from triocept.errors import DialectError

SPOKEN = {
    "messages": ("openai_chat", "anthropic_messages", "ollama"),
    "input": ("openai_responses",),
    "contents": ("gemini",),
}
"""The dialects whose conversation is in a field."""
FIELDS = (*SPOKEN,)
_TEXTS = (
    *(
        "",
        "a",
        "naïve",
        "漢字",
        "😀",
        'a "quoted" one',
        "back\\slash",
        "\\",
        '\\"',
        "a\nb",
        "]}",
        '],"messages":[',
        "},{",
        ",",
    ),
    *('"messages":[', "\\u006d", "[", "{", "\x7f", "end\\", '"messages"', "input", "x" * 300),
)
_NUMBERS = (0, -1, 1.5, 1e300, 2**63, 2**64 - 1, 10**30, True, False, None)
_INSERTED = (
    *(
        b"]",
        b"[",
        b"}",
        b"{",
        b",",
        b'"',
        b"\\",
        b" ",
        b"\n",
        b"1",
        b"null",
        b":",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xc3\x28",
        b"\x00",
    ),
    *(
        b"\\ud83d",
        b"\\ude00",
        b"\\u006d",
        b'"messages":[',
        b'],"messages":[',
        b'],"\\u006dessages":[1',
        b'"messages":[],',
        b"]]",
    ),
    *(b",{}", b",[]", b",,", b'],"x":[', b'"input":[', b"\\", b'\\"', b" ,", b", ", b" ]", b"[ "),
)


_REPEATED = "repeated-field"


def _value(rng: random.Random, depth: int = 3) -> object:
    kind = rng.random()
    if kind < 0.55 or not depth:
        return rng.choice(_TEXTS) + rng.choice(_TEXTS)
    if kind < 0.65:
        return rng.choice(_NUMBERS)
    if kind < 0.8:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(3))]
    names = (*FIELDS, "role", "content", "type", "ü", "a b", "")
    return {rng.choice(names): _value(rng, depth - 1) for _ in range(rng.randrange(4))}


def _item(rng: random.Random, field: str, valid: bool) -> object:
    if not valid:
        if rng.random() < 0.1:
            return _value(rng)
        return {"role": rng.choice(("user", "assistant")), "content": _value(rng, 2)}
    role, more = rng.choice(("user", "assistant")), {"more": _value(rng)} if rng.random() < 0.3 else {}
    text = {"text": rng.choice(_TEXTS), **({"inner": _value(rng)} if rng.random() < 0.3 else {})}
    if field == "contents":
        return {"role": "user" if role == "user" else "model", "parts": [text], **more}
    if field == "messages":
        return {"role": role, "content": [{"type": "text", **text}] if text["text"] else "a", **more}
    if rng.random() < 0.3:
        return {"type": "web_search_call", "id": "w", "status": "completed", "action": {"a": _value(rng)}}
    kind = "input_text" if role == "user" else "output_text"
    return {"type": "message", "role": role, "content": [{"type": kind, **text}], **more}


def _body(rng: random.Random, field: str, head: list, items: list, tail: list, style: int) -> bytes:
    members = [*head, (field, items), *tail]
    comma, colon = ((",", ":"), (", ", ": "), (" , ", " :"), (",\n", ":"))[style]
    ascii_only = rng.random() < 0.3
    written = [
        f"{json.dumps(name)}{colon}{_json(value, comma, colon, ascii_only)}" for name, value in members
    ]
    space = "" if style < 2 else " "
    return f"{space}{{{space}{comma.join(written)}{space}}}{space}".encode("utf-8", "surrogatepass")


def _json(value: object, comma: str, colon: str, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, separators=(comma, colon))


def conversation(rng: random.Random, field: str) -> Iterator[bytes]:
    """Yield the bodies of a conversation: it grows, its last items change, it is cut, it is broken, fields repeat."""
    names = [name for name in ("model", "stream", "a", *FIELDS) if rng.random() < 0.3]
    if rng.random() < 0.9:
        names = [name for name in names if name != field]
    head = [(name, _value(rng)) for name in names]
    tail = [
        (rng.choice(("system", "tools", "x", *FIELDS, field)), _value(rng)) for _ in range(rng.randrange(3))
    ]
    if rng.random() < 0.8:
        tail = [(name, value) for name, value in tail if name != field]
    item = partial(_item, rng, field, rng.random() < 0.5)
    items = [item() for _ in range(rng.randrange(4))]
    echo = rng.choice((0, 0, 0, 0.3, 1))
    style, risk = (0 if rng.random() < 0.6 else rng.randrange(4)), rng.choice((0.1, 0.4, 1.0))
    for _ in range(rng.randrange(2, 12)):
        repeated = [(_REPEATED, items[rng.randrange(len(items) + 1) :])] * (rng.random() < echo)
        before, after = (repeated, []) if rng.random() < 0.3 else ([], repeated)
        body = _body(rng, field, [*before, *head], items, [*tail, *after], style)
        name = field if rng.random() < 0.5 else rf"\u00{ord(field[0]):02x}{field[1:]}"
        body = body.replace(_REPEATED.encode(), name.encode())
        kind = rng.random() / risk
        if kind < 0.35:
            for _ in range(rng.randrange(1, 3)):
                at = rng.randrange(len(body) + 1)
                if rng.random() < 0.5 and (ends := [at for at, each in enumerate(body) if each in b",[]{}"]):
                    at = rng.choice(ends[-12:])
                end = at + (rng.randrange(4) if rng.random() < 0.4 else 0)
                body = body[:at] + (rng.choice(_INSERTED) if rng.random() < 0.8 else b"") + body[end:]
        elif kind < 0.4:
            body = body[: rng.randrange(len(body) + 1)]
        elif kind < 0.45:
            body = body.replace(
                b'"' + field.encode(),
                b'"' + rf"\u00{ord(field[0]):02x}{field[1:]}".encode(),
                rng.randrange(3),
            )
        yield body
        items = [*items, *(item() for _ in range(rng.randrange(3)))]
        change = rng.random()
        if change < 0.25 and items:
            items = [*items[:-1], item()]
        elif change < 0.35:
            items = items[: rng.randrange(len(items) + 1)]
        elif change < 0.4:
            head = [(name, _value(rng)) for name, _ in head]
        elif change < 0.5:
            tail = [(name, _value(rng)) for name, _ in tail]


def plain(body: bytes) -> object:
    """Return what a plain decode gives, in a form that tells 1 from True and keeps the order of fields."""
    try:
        return _exact(decode_json(body))
    except DialectError as exc:
        return str(exc)


def _exact(value: object) -> str:
    return repr(value)


def by_reader(reader: BodyReader, body: bytes, field: str) -> tuple[object, bool]:
    """Return what the reader, or else a plain decode, gives; and True if it was the reader."""
    found = reader.read(body, field)
    if found is not None:
        document, conversation = found
    else:
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return plain(body), False
        conversation = reader.begin(body, field, document, Memory())
    if conversation is not None:
        reader.keep(conversation)
    return _exact(document), found is not None


class Calls:
    """The calls of one rollout: each body is decoded, parsed and kept. Then the request and the list are changed."""

    def __init__(self, rng: random.Random, field: str) -> None:
        self.rng, self.field = rng, field
        self.reader, self.memory = BodyReader(), Memory()
        self.parsers = [dialect(name).parse_request for name in SPOKEN[field]]
        self.parser = rng.choice(self.parsers)
        self.open: list[Conversation] = []
        """Conversations of calls that are still being parsed."""

    def call(self, body: bytes) -> tuple[bool, bool]:
        """Return True if the document and the request are those of a plain decode; and True if the reader read it."""
        rng, expected = self.rng, plain(body)
        found = self.reader.read(body, self.field)
        if found is not None:
            document, conversation = found
        else:
            try:
                document = msgspec.json.decode(body)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                return True, False  # then the endpoint decodes it as `plain` does
            conversation = self.reader.begin(body, self.field, document, self.memory)
        same = _exact(document) == expected
        memory = self.memory if conversation is None else conversation.memory
        assert all(memory is not each.memory for each in self.open), "two calls use one memory at a time"
        fit = rng.random() < 0.7
        request, as_read = self.parsed(document, memory, fit), self.parsed(decode_json(body), None, fit)
        same = same and _exact(request) == _exact(as_read) and _exact(document) == expected
        if conversation is not None and rng.random() < 0.9:  # otherwise its parse failed
            self.open.append(conversation)
        if rng.random() < 0.5:
            _change(rng, [request], 200)
            if conversation is not None:
                document.pop(self.field).clear()
        while self.open and rng.random() < 0.8:
            self.reader.keep(self.open.pop(rng.randrange(len(self.open))))
        if rng.random() < 0.05:
            self.evict()
        return same, found is not None

    def parsed(self, document: Json, memory: Memory | None, fit: bool) -> Request | str:
        """Return the request in the document, or the error; if `fit`, without fields that are mostly invalid here."""
        if fit and isinstance(document, dict) and self.field in document:
            document = {"model": "m", "max_tokens": 5, self.field: document[self.field]}
        try:
            return self.parser(document, memory=memory)
        except DialectError as exc:
            return str(exc)

    def evict(self) -> None:
        """Drop a kept conversation, as if all conversations took too much memory."""
        if kept := [*resent._SHELF._kept]:
            resent._SHELF.discard(self.rng.choice(kept))


def _change(rng: random.Random, values: list[Any], most: int) -> None:
    """Change dicts and lists in the values at random, as far as they are not read-only."""
    for number, value in enumerate(values):
        if number == most:
            return
        if isinstance(value, msgspec.Struct):
            values += msgspec.structs.astuple(value)
        elif isinstance(value, dict | list | tuple):
            values += value.values() if isinstance(value, dict) else value
        with suppress(TypeError):
            if isinstance(value, dict) and value and rng.random() < 0.7:
                rng.choice((value.clear, value.popitem, partial(value.update, a=1)))()
            elif isinstance(value, list) and value and rng.random() < 0.7:
                rng.choice((value.clear, value.pop, partial(value.append, "a"), value.reverse))()


def differences(seed: int, count: int) -> tuple[list[tuple[int, bytes]], int, int]:
    """Compare `count` bodies; return those that differ, the number compared, and the number that the reader read."""
    rng = random.Random(seed)
    found: list[tuple[int, bytes]] = []
    compared = read = 0
    while compared < count:
        field = rng.choice(FIELDS)
        calls = Calls(rng, field)
        several = [
            conversation(rng, field if rng.random() < 0.9 else rng.choice(FIELDS))
            for _ in range(rng.choice((1, 1, 2, 3)))
        ]
        while several:
            one = rng.choice(several)
            body = next(one, None)
            if body is None:
                several.remove(one)
                continue
            same, was_read = calls.call(body)
            compared, read = compared + 1, read + was_read
            if not same:
                found.append((compared, body))
        calls.reader.clear()
    return found, compared, read


if __name__ == "__main__":  # `python -m tests.resent SEED COUNT`
    resent.ENABLED, resent.LEAST, resent.LEAST_ITEM, resent.LEAST_FIELD, resent.LEAST_TEXT = True, 0, 0, 8, 1
    found, compared, read = differences(int(sys.argv[1]), int(sys.argv[2]))
    print(f"{compared:,} bodies, {read:,} read in part, {len(found)} differ: {found[:3]}")
    sys.exit(bool(found))
