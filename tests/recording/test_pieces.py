"""An answer is given in the pieces in which it came, and says the same."""

import string
from dataclasses import dataclass

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from triocept import Response, Text, ToolCall
from triocept._canonical.events import assemble, events_of
from triocept._recording.play import Answer, Piece, pieces_of
from triocept._trace.increments import IncrementLog
from triocept.traces import Increments
from triocept.types import (
    Blob,
    Event,
    Opaque,
    PartDelta,
    PartEnd,
    PartStart,
    Reasoning,
    RefusalText,
    ResponseEnd,
    ResponseStart,
)

TEXTS = st.text(string.ascii_letters + "é😀", max_size=12)
PARTS = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(
        Reasoning, TEXTS, st.lists(st.builds(Blob, st.just("d"), st.just("k"), TEXTS), max_size=1).map(tuple)
    ),
    st.builds(lambda text: ToolCall("t", text, "c"), TEXTS),
    st.builds(RefusalText, TEXTS),
    st.just(Opaque("d", {"type": "x"})),
)
RESPONSES = st.builds(lambda parts: Response(tuple(parts), "end"), st.lists(PARTS, max_size=4))


@dataclass
class Came:
    event: Event
    at: float


@st.composite
def streams(draw: st.DrawFn) -> tuple[Response, list[Came]]:
    """An answer, cut anyhow, its parts one in the other where they overlap; they start in their order."""
    response = draw(RESPONSES)
    first, *parts, last = events_of(response)
    queues: list[list[Event]] = [[] for _ in response.content]
    for event in parts:
        assert not isinstance(event, ResponseStart | ResponseEnd)
        pieces: list[Event] = [event]
        if isinstance(event, PartDelta):
            cut = draw(st.integers(0, len(event.text)))
            pieces = [PartDelta(event.index, text) for text in (event.text[:cut], event.text[cut:]) if text]
        queues[event.index] += pieces
    order, begun = [first], 0
    while open_ := [queue for queue in queues[: begun + 1] if queue]:
        chosen = draw(st.sampled_from(open_))
        begun += isinstance(chosen[0], PartStart)
        order.append(chosen.pop(0))
    at, came = 0.0, []
    for event in [*order, last]:
        at += draw(st.integers(0, 50)) / 1000
        came.append(Came(event, at))
    return response, came


def kept(came: list[Came]) -> Increments | None:
    log = IncrementLog()
    for each in came:
        log.add(each.event, each.at)
    return log.increments()


def pieces(response: Response, increments: Increments | None, now: Response | None = None) -> list[Piece]:
    return list(pieces_of(Answer(response=now or response, increments=increments, duration=9)))


@given(streams())
def test_the_pieces_are_those_that_came_when_they_came(stream: tuple[Response, list[Came]]) -> None:
    response, came = stream
    given_again = pieces(response, kept(came))
    assert assemble(piece.event for piece in given_again) == assemble(each.event for each in came) == response
    starts = [piece.event.index for piece in given_again if isinstance(piece.event, PartStart)]
    assert starts == list(range(len(response.content))), "an agent numbers its calls by these"
    if kept(came) is not None:
        texts = [
            (round(piece.at, 6), piece.event) for piece in given_again if isinstance(piece.event, PartDelta)
        ]
        assert texts == [
            (round(each.at, 6), each.event) for each in came if isinstance(each.event, PartDelta)
        ]
    assert [piece.at for piece in given_again] == sorted(piece.at for piece in given_again)


@given(streams(), RESPONSES)
def test_whatever_else_is_to_be_said_now_is_said_whole(
    stream: tuple[Response, list[Came]], now: Response
) -> None:
    response, came = stream
    assert assemble(piece.event for piece in pieces(response, kept(came), now)) == now


def test_parts_that_came_one_in_the_other_do_so_again() -> None:
    increments = Increments(runs=((0, 1), (1, 2), (0, 1)), lengths=(1, 1, 1, 1), waits=(10, 5, 5, 5))
    response = Response((ToolCall("t", "ab", "1"), ToolCall("u", "cd", "2")), "tool_use")
    events = [piece.event for piece in pieces(response, increments)]
    deltas = [(event.index, event.text) for event in events if isinstance(event, PartDelta)]
    assert deltas == [(0, "a"), (1, "c"), (1, "d"), (0, "b")]
    assert [event.index for event in events if isinstance(event, PartEnd)] == [1, 0]
    assert [round(piece.at, 3) for piece in pieces(response, increments)][-1] == 9


def test_a_longer_text_is_cut_in_proportion() -> None:
    increments = Increments(runs=((0, 2),), lengths=(2, 2), waits=(10, 10))
    now = pieces(Response.of("abcd"), increments, Response.of("abcdefgh"))
    assert [piece.event.text for piece in now if isinstance(piece.event, PartDelta)] == ["abcd", "efgh"]


def test_what_nobody_kept_begins_when_it_began_and_comes_at_its_end() -> None:
    times = [piece.at for piece in pieces(Response.of("a"), None)]
    assert times == [9, 9, 9, 9, 9]
    begun = Answer(response=Response.of("a"), first_event=2, duration=9)
    assert [piece.at for piece in pieces_of(begun)] == [2, 9, 9, 9, 9]


def test_pieces_without_a_text_are_none() -> None:
    log = IncrementLog()
    log.add(PartDelta(0, ""), 1.0)
    assert log.increments() is None
    damaged = Increments(runs=((0, 1), (7, 1)), lengths=(0, 3), waits=(1, 1))
    assert assemble(piece.event for piece in pieces(Response.of("ab"), damaged)) == Response.of("ab")


def test_a_token_takes_a_few_bytes() -> None:
    log = IncrementLog()
    for number in range(1000):
        log.add(PartDelta(0, "abcd"), number * 0.025)
    assert len(msgspec.json.encode(log.increments())) < 6 * 1000
