"""Frames: a u32 big-endian length, then that many bytes of UTF-8 JSON (JSON-RPC 2.0 shapes).

The length is checked against a cap before anything is allocated: 4 KiB until the hello is accepted,
1 MiB after. The same frames run between the daemon and its workers.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ProtocolError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO_CAP = 4 * 1024
FRAME_CAP = 1024 * 1024
HEADER = struct.Struct(">I")


def encode(message: dict[str, Any], cap: int = FRAME_CAP) -> bytes:
    """One frame. Raises ProtocolError when the body would pass `cap` bytes."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    if len(body) > cap:
        raise ProtocolError(
            Text("a message of {size} bytes is over the cap of {cap}", {"size": len(body), "cap": cap})
        )
    return HEADER.pack(len(body)) + body


def body_length(header: bytes, cap: int) -> int:
    """The length that a 4-byte header announces. Raises ProtocolError when it is 0 or over `cap`."""
    (length,) = HEADER.unpack(header)
    if not 0 < length <= cap:
        raise ProtocolError(
            Text("a frame announces {size} bytes, allowed are 1 to {cap}", {"size": length, "cap": cap})
        )
    return int(length)


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object of a frame's body. Raises ProtocolError for anything else."""
    try:
        message = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(Text("a frame is not JSON: {error}", {"error": type(error).__name__})) from error
    if not isinstance(message, dict):
        raise ProtocolError(Text("a frame is JSON, but not an object"))
    return message


def read_blocking(receive: Callable[[int], bytes], cap: int = FRAME_CAP) -> dict[str, Any] | None:
    """One message by a blocking `receive(n)` (at most n bytes, b"" at the end); None at a clean end.

    Raises ProtocolError when the stream ends inside a frame.
    """
    header = _exactly(receive, HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        raise ProtocolError(Text("the connection ended inside a frame"))
    length = body_length(header, cap)
    body = _exactly(receive, length)
    if len(body) < length:
        raise ProtocolError(Text("the connection ended inside a frame"))
    return decode(body)


def _exactly(receive: Callable[[int], bytes], count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = receive(min(count, 65536))
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
