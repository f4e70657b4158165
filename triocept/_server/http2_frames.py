"""The frames of HTTP/2, as h2 and hpack read and write them, with an eye for what costs their sender nothing.

Of their inside it knows what says whether a head has begun, and how much of it is there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hpack
import trio
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

__all__ = ["Frames"]

WINDOW = 1024 * 1024
"""Bytes of a body that a client may send before they are read."""
FRAMES = 2000
"""The allowance of frames that cost nothing. What is sent gives two for each frame, which may be window updates."""
FRAMES_PER_SECOND = 200
RESET = 20
"""Frames of the allowance for a RST_STREAM, before a request has shown a key: a hundred of them, and ten a second."""
_FRAME_HEAD = 9
"""Bytes."""
_LARGEST_SETTING = 2**32 - 1
"""RFC 9113, 6.5.1."""


class _NoHeaders(logging.Filter):
    """hpack writes every header to its log, at DEBUG: keys, too."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


_no_headers = _NoHeaders()


class _Decoder(hpack.Decoder):
    """hpack, with an eye for the number of headers: a byte may stand for one. (Its inside: 4.0 and 4.1 are alike.)"""

    def __init__(self, most_bytes: int, most_lines: int) -> None:
        super().__init__(max_header_list_size=most_bytes)
        self._most_lines = most_lines + 4  # with the pseudo-headers
        self._lines = 0

    def decode(self, data: bytes, raw: bool = False) -> Iterable[hpack.HeaderTuple]:
        self._lines = 0
        if len(data) > self.max_header_list_size:  # Huffman's code is read byte by byte
            raise hpack.OversizedHeaderListError(f"a head of {len(data)} bytes")
        return super().decode(data, raw)

    def _decode_indexed(self, data: bytes | memoryview) -> tuple[hpack.HeaderTuple, int]:
        self._count()
        return super()._decode_indexed(data)

    def _decode_literal(self, data: bytes | memoryview, should_index: bool) -> tuple[hpack.HeaderTuple, int]:
        self._count()
        return super()._decode_literal(data, should_index)

    def _count(self) -> None:
        self._lines += 1
        if self._lines > self._most_lines:
            raise hpack.OversizedHeaderListError(f"over {self._most_lines} headers")


class Frames(h2.connection.H2Connection):
    """h2, with an eye for frames that cost their sender nothing: it knows many that it makes no event of."""

    def __init__(self, head_bytes: int, head_lines: int, max_streams: int) -> None:
        logging.getLogger("hpack.hpack").addFilter(_no_headers)  # once: it knows whom it has
        super().__init__(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: min(head_bytes, _LARGEST_SETTING),
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            },
        )
        self.decoder = _Decoder(head_bytes, head_lines)
        self.keyless = True
        """Whether no request has shown a key."""
        self.allowance = float(FRAMES)
        self._counted_at = 0.0

    def _receive_frame(self, frame: Frame) -> list[h2.events.Event]:
        if not (isinstance(frame, HeadersFrame) or (isinstance(frame, DataFrame) and frame.data)):
            self.allowance -= RESET if self.keyless and isinstance(frame, RstStreamFrame) else 1
        return super()._receive_frame(frame)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A client that opens no more streams has those that are open answered (RFC 9113, 6.8): Node's
        `session.close()` waits for that. h2 would send nothing any more, which is right behind an error alone."""
        if frame.error_code != h2.errors.ErrorCodes.NO_ERROR:
            return super()._receive_goaway_frame(frame)
        event = h2.events.ConnectionTerminated()
        event.error_code = h2.errors.ErrorCodes.NO_ERROR
        return [], [event]

    def is_flooded(self) -> bool:
        """Whether more came than is allowed."""
        now = trio.current_time()
        self.allowance = min(FRAMES, self.allowance + (now - self._counted_at) * FRAMES_PER_SECOND)
        self._counted_at = now
        return self.allowance < 0

    def window(self, number: int) -> int:
        """Bytes for which a stream's own window is open, whatever the connection's."""
        stream = self.streams.get(number)
        return stream.outbound_flow_control_window if stream is not None else 0

    @property
    def begun(self) -> int:
        """Bytes of a frame, or of a request's head, of which the end is not there yet. (h2's inside: as `in_head`.)"""
        buffer = self.incoming_buffer
        return len(buffer._data) + sum([len(frame.data) for frame in buffer._headers_buffer])

    @property
    def wanted(self) -> int:
        """Bytes to the end of the frame that has begun, as far as that is known."""
        buffer = self.incoming_buffer
        known = not buffer._preamble_len and len(buffer._data) >= _FRAME_HEAD
        return int.from_bytes(buffer._data[:3]) + _FRAME_HEAD - len(buffer._data) if known else 0

    @property
    def in_head(self) -> bool:
        """Whether it waits for the rest of a preface or of a request's head. (h2's inside: 4.3 and 4.4 are alike.)"""
        buffer = self.incoming_buffer
        return bool(buffer._preamble_len or buffer._headers_buffer)
