"""Frames over a stream: bytes count as an answer before their frame is whole."""

from __future__ import annotations

import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from triocept.fleets.frames import FrameStream, Kind
from triocept.fleets.looking_after import LOOKS, happens


async def test_a_part_of_a_frame_tells_that_the_other_side_lives() -> None:
    near, far = memory_stream_pair()
    stream = FrameStream(near)  # type: ignore[arg-type]
    frames = stream.frames()
    came: list[Kind] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            async for frame in frames:
                came.append(frame.kind)  # noqa: PERF401 - as they come

        for part, kinds in ((b"\0" * 7, []), (b"\x09\x08" + b"\0" * 7, []), (b"\0", [Kind.PONG])):
            data = stream.await_data()
            await far.send_all(part)
            await wait_all_tasks_blocked()
            assert data.is_set()
            assert came == kinds
        nursery.cancel_scope.cancel()


async def test_an_event_that_does_not_happen_is_missed_after_its_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    begun = trio.current_time()
    assert not await happens(trio.Event(), 5)
    assert trio.current_time() - begun == 5


async def test_a_busy_loop_has_as_many_turns_as_there_are_looks(mock_clock: trio.testing.MockClock) -> None:
    """The program computes in each turn for longer than it waits; an answer takes some turns to be read."""
    answered = trio.Event()

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            for _ in range(LOOKS - 2):
                mock_clock.jump(60)
                await trio.lowlevel.checkpoint()
            answered.set()

        assert await happens(answered, 5)
