"""What an export does not hold is counted, and what is counted it does not hold."""

import gzip
import json
import re
from base64 import b64decode
from pathlib import Path

import msgspec
import pytest

from tests.exports.sample import trace_of, turn
from triocept import Message, Response, Text, Trace, Usage
from triocept._trace.tokens import packed_floats, packed_ids
from triocept._trace.trace import TraceWriter
from triocept.exports import FORMATS, write_export
from triocept.traces import Conversation, Increments, Opening, Score, ServiceCall, Tokens, TurnError, WireView
from triocept.types import Blob, Media, Opaque, Reasoning, Sampling

SAID = Response(
    (Reasoning("a thought", (Blob("anthropic_messages", "signature", "a blob"),)), Text("ok")),
    usage=Usage(input_tokens=1, output_tokens=4321, cached_tokens=0, cache_write_tokens=1234),
    id="an id",
)
ASKED = Message(
    "user",
    (
        Text("a question"),
        Media(kind="image", data="iVBORimage", media_type="image/png"),
        Media(kind="audio", data="sound", media_type="audio/wav"),
        Opaque("anthropic_messages", {"type": "an item"}),
    ),
)
TOKENS = Tokens(
    prompt=packed_ids([70001]), completion=packed_ids([70002]), probabilities=packed_floats([-0.8125])
)
WIRE = WireView(method="POST", url="/the/wire", headers={}, body=b"", body_size=0, status=200)


def rich() -> Trace:
    """A trace that has one of each kind that a format may lack the words for, each with a word of its own."""
    opening = Opening(rollout="r", run="run_1", at=999.0, metadata={"task": "a task"})
    first = turn(0, (ASKED,), SAID, Conversation(id="a conversation"), tokens=TOKENS)
    asked = msgspec.structs.replace(first.request, user="a user", sampling=Sampling(stop=("a stop",)))
    first = msgspec.structs.replace(first, request=asked, notes={"note": "a remark"})
    second = msgspec.structs.replace(
        turn(1, (Message("user", (Text("again"),)),), Response.of("ok"), first.conversation),
        wire=WIRE,
        increments=Increments(runs=((0, 1),), lengths=(2,), waits=(7,)),
    )
    failed = msgspec.structs.replace(
        turn(2, (Message("user", (Text("more"),)),), None, first.conversation),
        error=TurnError(type="ValueError", message="an error", status=500),
    )
    trace = trace_of(first, second, failed, sealed=False)
    writer = TraceWriter(trace)
    writer.open(opening)
    call = ServiceCall(
        id="svc_1",
        rollout="r",
        run="run_1",
        number=0,
        kind="tool",
        name="lookup",
        outcome="answered",
        result="a result",
        started_at=1001.6,
        duration=0.1,
    )
    writer.add(call)
    writer.seal()
    for name, value in (("right", 0.4375), ("length", 7.0)):
        writer.add(Score(rollout="r", run="run_1", name=name, value=value, at=2000.0))
    return trace


WORDS = {
    "70001": "calls' token ids and log probabilities",
    "-0.8125": "calls' token ids and log probabilities",
    "4321": "calls' token counts",
    "1234": ("calls' token counts", "counts of tokens written to a cache"),
    "0.4375": "scores",
    "a remark": "turns' notes",
    "a task": "rollouts' metadata",
    "a conversation": "conversations' names",
    "a user": "calls' further settings",
    "a stop": "calls' further settings",
    "a thought": ("pieces of reasoning", "calls' messages, answers and tools"),
    "a blob": ("opaque blobs of reasoning", "calls' messages, answers and tools"),
    "an item": ("parts that only their own dialect can read", "calls' messages, answers and tools"),
    "iVBORimage": ("images, sounds and files", "calls' messages, answers and tools"),
    "sound": ("images, sounds and files", "calls' messages, answers and tools"),
    "a question": "calls' messages, answers and tools",
    "a result": ("service calls", "service calls' arguments and results"),
    "an error": "calls that were not answered",
    "/the/wire": "calls as they went over the wire",
    "an id": ("turns' times, ids, models and outcomes", "answers' ids"),
}
"""By what stands in the trace: the losses of which one is told where an export does not hold it."""


OF_SEVERAL = {"images, sounds and files", "calls' further settings"}
"""Losses that do not mean that a format has none of the kind."""


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "parquet"])
@pytest.mark.filterwarnings("ignore:the scores")
def test_what_an_export_does_not_hold_is_counted(name: str, tmp_path: Path) -> None:
    losses = write_export([rich()], name, tmp_path / "out").counts
    files = [tmp_path / "out"] if FORMATS[name].write is not None else [*(tmp_path / "out").iterdir()]
    text = "".join([file.read_text() for file in files])
    if name == "html":
        data = re.search(r'id="triocept-data">([^<]*)<', text)
        assert data is not None
        text = gzip.decompress(b64decode(data[1])).decode()
    written = json.dumps(text)
    untold, found = [], []
    for word, kinds in WORDS.items():
        if name == "har" and word == "sound":
            continue  # the wire of the dialect has none
        told = {kinds} & {*losses} if isinstance(kinds, str) else {*kinds} & {*losses}
        if word not in written and not told:
            untold.append(word)
        if word in written and told and not told & OF_SEVERAL:
            found.append((word, told))
    assert (untold, found) == ([], [])
    assert losses["answers' pieces and their times"] == 1


def test_what_a_trace_does_not_have_is_not_counted(tmp_path: Path) -> None:
    plain = turn(0, (Message("user", (Text("hi"),)),), Response.of("ok"), tools=())
    request = msgspec.structs.replace(plain.request, sampling=Sampling(), extra={"max_tokens": None})
    trace = trace_of(msgspec.structs.replace(plain, request=request, notes={}))
    always = {
        "openai": {"turns' times, ids, models and outcomes", "conversations' names"},
        "verifiers": {"conversations' names"},
        "har": {"conversations' names"},
        "otlp": {"calls' messages, answers and tools"},
    }
    for name in FORMATS:
        if name != "parquet":
            counts = write_export([trace], name, tmp_path / name).counts
            assert {*counts} == always.get(name, set()), name
