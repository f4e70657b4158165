"""A request of very many items holds nobody up: it is read beside the event loop, and kept in steps."""

import threading
from functools import partial
from typing import Any

import pytest
import trio

from tests.asking import ask, document, echo
from triocept import serve_endpoint
from triocept._canonical import resent
from triocept._canonical.memory import Memory
from triocept._server import documents, intake
from triocept.dialects import DIALECTS
from triocept.dialects.openai_chat import OPENAI_CHAT

pytestmark = pytest.mark.usefixtures("every_way")

MANY = [{"role": "user", "content": f"{number}"} for number in range(50)]


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LARGE", -1)
    monkeypatch.setattr(intake, "SMALL", -1)
    monkeypatch.setattr(documents, "_MANY", 7)
    monkeypatch.setattr(resent, "MOST_ITEMS", 7)  # as in triocept, where both are the same


async def test_others_are_answered_while_a_request_of_many_items_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse, answered = OPENAI_CHAT.parse_request, threading.Event()

    def slow(wire: Any, *args: Any, **more: Any) -> Any:
        if len(wire["messages"]) > 7:
            assert answered.wait(20), "nobody else was answered meanwhile"
        return parse(wire, *args, **more)

    monkeypatch.setitem(vars(OPENAI_CHAT), "parse_request", slow)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(ask, rollout, messages=MANY))
            await ask(rollout, "short")
            answered.set()
    assert [len(turn.request.messages) for turn in rollout.trace] == [1, 50]


async def test_what_it_says_is_the_same_and_what_is_known_is_not_read_again() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        for _ in range(2):
            await ask(rollout, messages=MANY)
    plain = DIALECTS["openai_chat"].parse_request({**document("openai_chat"), "messages": MANY})
    first, second = (turn.request.messages for turn in rollout.trace)
    assert first == second == plain.messages
    assert all(one is other for one, other in zip(first, second, strict=True))


async def test_an_item_that_cannot_be_read_is_the_same_error_and_the_rollout_goes_on() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        answer = await ask(rollout, messages=[*MANY, {"role": "nobody", "content": "x"}])
        assert answer.status_code == 400
        assert "messages[50].role" in answer.text
        assert (await ask(rollout, messages=MANY)).status_code == 200


def test_a_look_at_the_lists_tells_whether_there_are_many() -> None:
    few, many = [1] * 7, [1] * 8
    assert not documents._has_many({"messages": few, "model": "m"})
    assert documents._has_many({"messages": many})
    assert documents._has_many({"messages": [{"role": "user", "content": many}]})
    assert not documents._has_many(many)


async def test_who_reads_beside_the_loop_has_a_memory_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, all_there = OPENAI_CHAT.parse_request, threading.Barrier(3)
    seen: list[tuple[int, Memory]] = []

    def spy(wire: Any, target: Any, memory: Memory) -> Any:
        seen.append((threading.get_ident(), memory))
        all_there.wait(20)
        return parse(wire, target, memory)

    monkeypatch.setitem(vars(OPENAI_CHAT), "parse_request", spy)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(
                    partial(ask, rollout, messages=[*MANY, {"role": "user", "content": f"{number}"}])
                )
    threads, memories = zip(*seen, strict=True)
    assert threading.get_ident() not in threads
    assert len(set(map(id, memories))) == 3


async def test_objects_of_two_bytes_in_a_field_beside_the_list_are_read_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The 150,000 objects of such a body of 450 KB take as long as a thousand usual messages, or longer."""
    monkeypatch.setattr(documents, "_MANY", 10_000)
    monkeypatch.setattr(intake, "LARGE", documents.LARGE)
    monkeypatch.setattr(intake, "SMALL", documents.SMALL)
    parse, threads = OPENAI_CHAT.parse_request, []

    def spy(wire: Any, *args: Any, **more: Any) -> Any:
        threads.append(threading.get_ident())
        return parse(wire, *args, **more)

    monkeypatch.setitem(vars(OPENAI_CHAT), "parse_request", spy)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        assert (await ask(rollout, metadata=[{}] * 150_000)).status_code == 200
        assert (await ask(rollout, "short")).status_code == 200
    assert [thread == threading.get_ident() for thread in threads] == [False, True]
