"""Streams of a provider, in all sizes: its streams, and what is read and written of them."""

import json
from collections.abc import Callable
from typing import Any

from tests.growth.measured import Make, Work
from tests.upstream.provider import CHAT, COMPLETIONS, GEMINI, MESSAGES, RESPONSES, chunk
from triocept import Request, Response, ToolCall
from triocept._canonical.events import Fold, HeldCalls
from triocept._upstream.ceiling import Ceiling
from triocept._upstream.chunked import ChunkedDecoder
from triocept._upstream.failures import Reader
from triocept._upstream.relay import Frames, Relay
from triocept._upstream.tokens import profile_named
from triocept._util.sse import SSEDecoder
from triocept.dialects import DIALECTS
from triocept.types import Event, events_of


def frame(document: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document)}\n\n".encode()


def chat(delta: dict[str, Any], **more: Any) -> bytes:
    return frame({"id": "i", "model": "m", "choices": [{"index": 0, "delta": delta, **more}]})


def fragment(**fields: Any) -> bytes:
    return chat({"tool_calls": [fields]})


def message_start() -> bytes:
    return frame({"type": "message_start", "message": {"id": "i", "model": "m"}})


def block(index: int, content: dict[str, Any]) -> bytes:
    return frame({"type": "content_block_start", "index": index, "content_block": content})


def block_delta(index: int, delta: dict[str, Any]) -> bytes:
    return frame({"type": "content_block_delta", "index": index, "delta": delta})


def item(number: int, verb: str = "added", **more: Any) -> bytes:
    call = {
        "type": "function_call", "id": f"fc_{number}", "call_id": f"c{number}", "name": "ls",
        "arguments": "{}",
    }  # fmt: skip
    return frame({"type": f"response.output_item.{verb}", "item": call, **more})


def gemini(*parts: dict[str, Any], **more: Any) -> bytes:
    return frame({"candidates": [{"content": {"parts": list(parts)}, **more}]})


def citation(number: int) -> bytes:
    return block_delta(0, {"type": "citations_delta", "citation": {"cited_text": str(number)}})


# What is sent: its name, the dialect, and the frames of it, `n` being how much.
WIRES: dict[str, tuple[str, Callable[[int], list[bytes]]]] = {
    "texts of chat": (CHAT, lambda n: [chat({"content": "x"})] * n),
    "a call of chat in pieces": (CHAT,
     lambda n: [fragment(index=0, id="c", function={"name": "ls"})] + [
      fragment(index=0, function={"arguments": "x"})] * n),
    "calls of chat by id": (CHAT,
     lambda n: [fragment(id=f"c{k}", function={"name": "ls", "arguments": "{}"}) for k in range(n)]),
    "calls of chat by id, in two pieces": (CHAT,
     lambda n: [fragment(id=f"c{k}", function={"name": "ls"}) for k in range(n)] + [
      fragment(id=f"c{k}", function={"arguments": "{}"}) for k in range(n)]),
    "calls of chat by index": (CHAT,
     lambda n: [fragment(index=k, id=f"c{k}", function={"name": "ls", "arguments": "{}"}) for k in range(n)]),
    "log probabilities of chat": (CHAT, lambda n: [chat({"content": "x"}, logprobs={"content": [{}]})] * n),
    "thoughts and texts of chat": (CHAT, lambda n: [chat({"content": "x"}), chat({"reasoning": "y"})] * n),
    "texts of completions": (COMPLETIONS, lambda n: [frame({"id": "i", "choices": [{"text": "x"}]})] * n),
    "deltas of a message": (MESSAGES,
     lambda n: [message_start(), block(0, {"type": "text", "text": ""})] + [
      block_delta(0, {"type": "text_delta", "text": "x"})] * n),
    "citations of a message": (MESSAGES,
     lambda n: [message_start(), block(0, {"type": "text", "text": ""})] + [citation(k) for k in range(n)]),
    "open blocks of a message": (
        MESSAGES,
        lambda n: (
            [message_start()]
            + [block(k, {"type": "tool_use", "id": f"t{k}", "name": "ls", "input": {}}) for k in range(n)]
            + [frame({"type": "content_block_stop", "index": k}) for k in range(n)]
        ),
    ),
    "a block that is not known": (MESSAGES,
     lambda n: [message_start(), block(0, {"type": "new", "content": ""})] + [
      block_delta(0, {"type": "new_delta", "content": "x" * 60})] * n),
    "deltas of a response": (RESPONSES,
     lambda n: [item(0, output_index=0)] + [
      frame({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "x"})] * n),
    "open items of a response": (RESPONSES,
     lambda n: [item(k, output_index=k) for k in range(n)] + [
      item(k, "done", output_index=k) for k in range(n)]),
    "open items of a response without numbers": (RESPONSES,
     lambda n: [item(k) for k in range(n)] + [item(k, "done", item_id=f"fc_{k}") for k in range(n)]),
    "items of a response with deltas that name none": (RESPONSES,
     lambda n: [item(k) for k in range(n)] + [
      frame({"type": "response.function_call_arguments.delta", "delta": "x"})] * n),
    "texts of Gemini": (GEMINI, lambda n: [gemini({"text": "x"})] * n),
    "calls of Gemini": (GEMINI, lambda n: [gemini({"functionCall": {"name": "ls", "args": {}}})] * n),
    "thoughts and texts of Gemini": (GEMINI,
     lambda n: [gemini({"text": "x"}, {"text": "y", "thought": True})] * n),
    "log probabilities of Gemini": (GEMINI,
     lambda n: [gemini({"text": "x"}, logprobsResult={"chosenCandidates": [{}]})] * n),
    "lines of one event": (CHAT, lambda n: [b"data: x\n"] * n),
    "pieces of one line": (CHAT, lambda n: [b"data: "] + [b"x"] * n),
    "pieces of a line that end in a CR": (CHAT, lambda n: [b"data:\r"] * n),
    "comments": (CHAT, lambda n: [b": x\n\n"] * n),
    "lines of a comment": (CHAT, lambda n: [b": x\n"] * n),
    "pieces of an array of Gemini": (GEMINI, lambda n: [b'[{"a":"'] + [b'x\\"'] * n),
    "braces of an array of Gemini": (GEMINI, lambda n: [b"[{"] + [b'{"a":{}},'] * n),
    "lines of an error of Gemini": (GEMINI, lambda n: [b'{\n"error":{\n'] + [b'"x":1,\n'] * n),
}  # fmt: skip


def parsed(dialect: str, pieces: list[bytes]) -> Work:
    def work() -> None:
        parser = DIALECTS[dialect].stream_parser()
        fold = Fold()
        for piece in pieces:
            for event in parser.feed(piece):
                fold.add(event)
        fold.response()

    return work


def relayed(dialect: str, pieces: list[bytes]) -> Work:
    def work() -> None:
        relay = Relay(DIALECTS[dialect].stream_parser(), hold_calls=True)
        for piece in pieces:
            relay.is_plain_content(piece)
            relay.feed(piece)
        relay.last()

    return work


def fed(decoder: Callable[[], Any], pieces: list[bytes]) -> Work:
    def work() -> None:
        feed = decoder().feed
        for piece in pieces:
            feed(piece)

    return work


def rendered(dialect: str, events: list[Event]) -> Work:
    def work() -> None:
        renderer = DIALECTS[dialect].stream_renderer(
            Request(dialect=dialect, model="m", messages=(), stream=True)
        )
        for event in events:
            renderer.render(event)

    return work


def held(events: list[Event]) -> Work:
    def work() -> None:
        calls = HeldCalls()
        for event in events:
            calls.hold(event)
        calls.release()

    return work


def collected(pieces: list[bytes]) -> Work:
    def work() -> None:
        _, collector = profile_named("vllm", CHAT).ask({"stream": True}, DIALECTS[CHAT].logprobs)
        for piece in pieces:
            collector.frame(piece)
        collector.tokens(None)

    return work


def told(body: bytes) -> Work:
    reader = Reader(DIALECTS[CHAT], None)
    return lambda: reader.failure(400, body, {})


def calls_of(n: int) -> list[Event]:
    return list(events_of(Response(tuple(ToolCall("ls", '{"a":1}', f"c{k}") for k in range(n)))))


def overlapping(n: int) -> list[Event]:
    """The events of n calls, all of which are open at once."""
    events = calls_of(n)[1:-1]
    return [event for at in range(3) for event in events[at::3]]


def behind_an_open_one(n: int) -> list[Event]:
    """The same, whole each, while the first is open: an increment of another one may release them all."""
    events = calls_of(n)[1:-1]
    return [*events[:2], *events[3:], events[2]]


STREAMS: dict[str, Make] = {
    **{
        f"{name}, {how}": lambda n, dialect=dialect, make=make, read=read: read(dialect, make(n))
        for name, (dialect, make) in WIRES.items()
        for how, read in (("parsed", parsed), ("relayed", relayed))
    },
    "frames of many lines": lambda n: fed(Frames, [b"data: x\n"] * n),
    "frames in single bytes": lambda n: fed(Frames, [b"\r", b"\n", b"x"] * n),
    "events in one piece": lambda n: fed(SSEDecoder, [b"data: x\n\n" * n]),
    "frames in one piece": lambda n: fed(Frames, [b"data: x\n\n" * n]),
    "chunks in one piece": lambda n: fed(ChunkedDecoder, [chunk(b"x") * n]),
    "chunks in single bytes": lambda n: fed(ChunkedDecoder, [bytes([byte]) for byte in chunk(b"x") * n]),
    "a chunk in pieces": lambda n: fed(ChunkedDecoder, [b"%x\r\n" % (n + 1), *[b"x"] * n]),
    "trailers": lambda n: fed(ChunkedDecoder, [b"0\r\n", *[b"a: b\r\n"] * n]),
    "tokens": lambda n: collected(
        [chat({"content": "x"}, token_ids=[1], logprobs={"content": [{"logprob": -1}]})] * n
    ),
    "calls that are held": lambda n: held(calls_of(n)),
    "a page of tags": lambda n: told(b"<" * n * 10),
    "a page of scripts": lambda n: told(b"<script" * n * 10),
    "digits of a window": lambda n: told(json.dumps({"error": f"exceed context limit: {'1' * n}"}).encode()),
    "words of a window": lambda n: told(
        json.dumps({"error": "maximum context length is 1 tokens " * n}).encode()
    ),
    "words of a refusal": lambda n: (
        lambda: Ceiling(None).learn("m", "maximum context length is 1 tokens " * n, prompt=1)
    ),
    **{
        f"{kind} written in {dialect}": lambda n, dialect=dialect, make=make: rendered(dialect, make(n))
        for dialect in (CHAT, RESPONSES, MESSAGES, GEMINI)
        for kind, make in (
            ("calls", calls_of),
            ("overlapping calls", overlapping),
            ("calls behind an open one", behind_an_open_one),
        )
    },
}


def events_of_stream(dialect: str, pieces: list[bytes]) -> Work:
    return fed(DIALECTS[dialect].stream_parser, pieces)


STEADY_STREAMS: dict[str, Make] = {
    "events": lambda n: fed(SSEDecoder, [b"data: x\n\n"] * n),
    "comments between events": lambda n: fed(SSEDecoder, [b": x\n"] * n),
    "frames": lambda n: fed(Frames, [b"data: x\n\n"] * n),
    "chunks": lambda n: fed(ChunkedDecoder, [chunk(b"x")] * n),
    **{
        f"{name}, read as they come": lambda n, dialect=dialect, make=make: events_of_stream(dialect, make(n))
        for name, (dialect, make) in WIRES.items()
        if name.startswith(("texts", "deltas of a message", "thoughts and texts"))
    },
}
"""What takes as much memory for n as for 2n: it keeps nothing of what is through."""
