r"""Cuts a byte stream into messages, in bounded memory and linear time.

The first byte of a message decides how it is framed, so one stream may mix both kinds:

    'R'                     one frame (see frames.py)
    '{'                     one JSON line, ended by a line feed
    space, tab, CR, LF      white space between messages, and so blank lines: skipped, never kept
    anything else           framing is lost

    state      leaves on                                  to
    READING    a message that is not one of the above     LOST
               a header or line over its limit            LOST
               a wrong checksum                           LOST
    LOST       never: `error` is set, later input is dropped

A header is judged as soon as it is complete, before its body arrives, so a decoder holds at most one
message: 18 bytes, an extension of up to 65,535 bytes and a payload of up to `payload_bytes_max`.
"""

import re
from enum import Enum
from typing import Final

import google_crc32c

from rstmdb_protocol.errors import FramingError, FramingFault
from rstmdb_protocol.frames import (
    FLAGS_RESERVED,
    FRAME_VERSION,
    HEADER_BYTES,
    HEADER_FORMAT,
    MAGIC,
    decode_header,
    verify_checksum,
)
from rstmdb_protocol.limits import FRAME_PAYLOAD_BYTES_MAX, LINE_BYTES_MAX


class Framing(Enum):
    """How a message was framed, and so how its answer is."""

    FRAME = "frame"
    LINE = "line"


_WHITE_SPACE: Final = b" \t\r\n"
_visible: Final = re.compile(rb"[^ \t\r\n]").search
_FRAME: Final = Framing.FRAME
_LINE: Final = Framing.LINE
_crc: Final = google_crc32c.value
_unpack: Final = HEADER_FORMAT.unpack_from


class MessageDecoder:
    """Incremental decoder of one direction of a connection.

    Attributes:
        payload_bytes_max: Largest payload accepted, in bytes. May be changed at any time, and applies to
            messages whose header is judged afterwards.
        error: Why framing was lost, or None. Messages before that point have been returned.
        withheld: Whether the last `feed` left a message over the limit to the next call; see `feed`.
    """

    __slots__ = ("_buffer", "_needed", "_scanned", "error", "payload_bytes_max", "withheld")

    def __init__(self, *, payload_bytes_max: int = FRAME_PAYLOAD_BYTES_MAX) -> None:
        self.payload_bytes_max: int = payload_bytes_max
        self.error: FramingError | None = None
        self.withheld: bool = False
        self._buffer = bytearray()
        self._needed = 0  # nothing can be decided before the buffer holds this many bytes
        self._scanned = 0  # this many bytes of the buffered line are known to hold no line feed

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that belong to a message not yet returned."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[tuple[bytes, Framing]]:
        """Take the next bytes of the stream; return the messages they complete, in order.

        Never raises on what the peer sent: when framing is lost, `error` is set, the messages before that
        point are returned, and every later call returns an empty list.

        A payload over `payload_bytes_max` that follows other messages in the same call is not judged at
        once, since handling those messages may raise the limit: `withheld` becomes True, and the next call
        judges it. A caller who sees that calls `feed(b"")` when the messages are handled, since the peer
        may have sent all it wants to send.
        """
        buffer = self._buffer
        if not buffer:
            # The usual case by far: exactly one whole frame, and nothing left over from before.
            size = len(data)
            if size >= HEADER_BYTES:
                magic, version, flags, extension, length, checksum = _unpack(data)
                if (
                    size == HEADER_BYTES + extension + length
                    and magic == MAGIC
                    and version == FRAME_VERSION
                    and not flags & FLAGS_RESERVED
                    and length <= self.payload_bytes_max
                    and self.error is None
                ):
                    payload = data[HEADER_BYTES + extension :]
                    if not flags & 1 or _crc(payload) == checksum:
                        return [(payload, _FRAME)]
            if self.error is not None:
                return []
            messages: list[tuple[bytes, Framing]] = []
            position = self._cut(data, messages)
            if position < size and self.error is None:
                buffer += data[position:] if position else data
            return messages
        buffer += data
        if len(buffer) < self._needed:
            return []
        messages = []
        position = self._cut(buffer, messages)
        if self.error is not None:
            self._buffer = bytearray()
        elif position:
            del buffer[:position]
        return messages

    def _cut(self, data: bytes | bytearray, messages: list[tuple[bytes, Framing]]) -> int:
        """Append the complete messages in `data`; return how many bytes they and skipped space took."""
        self._needed = 0
        self.withheld = False
        position = 0
        size = len(data)
        try:
            while position < size:
                first = data[position]
                if first == 0x52:  # R
                    if size - position >= HEADER_BYTES:
                        # Written out for pipelined input; whatever is unusual goes through _cut_frame.
                        magic, version, flags, extension, length, checksum = _unpack(data, position)
                        start = position + HEADER_BYTES + extension
                        end = start + length
                        if (
                            end <= size
                            and magic == MAGIC
                            and version == FRAME_VERSION
                            and not flags & FLAGS_RESERVED
                            and length <= self.payload_bytes_max
                        ):
                            payload = data[start:end] if type(data) is bytes else bytes(data[start:end])
                            if not flags & 1 or _crc(payload) == checksum:
                                messages.append((payload, _FRAME))
                                position = end
                                continue
                    taken = self._cut_frame(data, position, messages)
                elif first == 0x7B:  # {
                    taken = self._cut_line(data, position, messages)
                elif first in _WHITE_SPACE:
                    visible = _visible(data, position)
                    taken = (visible.start() if visible else size) - position
                else:
                    detail = f"no message begins with byte 0x{first:02x}"
                    raise FramingError(FramingFault.BAD_MAGIC, detail)
                if not taken:
                    break
                position += taken
        except FramingError as error:
            # Its traceback would lead back to this decoder: a cycle that only the collector could break.
            self.error = error.with_traceback(None)
        return position

    def _cut_frame(
        self, data: bytes | bytearray, position: int, messages: list[tuple[bytes, Framing]]
    ) -> int:
        available = len(data) - position
        if available < HEADER_BYTES:
            start = bytes(data[position : position + 4])
            if not MAGIC.startswith(start):
                raise FramingError(FramingFault.BAD_MAGIC, f"expected {MAGIC.hex()}, got {start.hex()}")
            # Each byte of the magic is judged when it comes, so that pieces do not change the verdict.
            self._needed = 0 if available < len(MAGIC) else HEADER_BYTES
            return 0
        limit = self.payload_bytes_max
        held = bool(messages)
        header = decode_header(
            data, position, payload_bytes_max=max(limit, FRAME_PAYLOAD_BYTES_MAX) if held else limit
        )
        if held and header.payload_bytes > limit:
            self.withheld = True
            return 0
        total = header.frame_bytes
        if available < total:
            self._needed = total
            return 0
        payload = bytes(data[position + total - header.payload_bytes : position + total])
        verify_checksum(header, payload)
        messages.append((payload, _FRAME))
        return total

    def _cut_line(self, data: bytes | bytearray, position: int, messages: list[tuple[bytes, Framing]]) -> int:
        limit = min(self.payload_bytes_max, LINE_BYTES_MAX)
        end = data.find(b"\n", position + self._scanned)
        if end < 0:
            length = len(data) - position
            if length > limit:
                if not messages:
                    raise FramingError(FramingFault.LINE_TOO_LONG, f"over {limit} bytes without a line feed")
                self.withheld = True
            self._scanned = length
            return 0
        if end - position > limit:
            if messages and end - position <= LINE_BYTES_MAX:
                self.withheld = True
                return 0
            detail = f"{end - position} bytes, at most {limit} are accepted"
            raise FramingError(FramingFault.LINE_TOO_LONG, detail)
        self._scanned = 0
        messages.append((bytes(data[position:end]).rstrip(_WHITE_SPACE), _LINE))
        return end + 1 - position
