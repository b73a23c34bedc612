"""Images for tests: real ones, and what is none."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path


def picture(width: int = 40, height: int = 30, kind: str = "jpeg", seed: int = 0, **options: Any) -> bytes:
    """A real image of noise, so that it is as large as its pixels."""
    noise = random.Random(seed).randbytes(width * height * 3)
    image = Image.frombytes("RGB", (width, height), noise)
    return saved(image, kind, **options)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""
    data = picture(1, 1, "png")
    head = data[12:16] + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def shows(ref: str, text: str = "what is this?", **fields: Any) -> dict[str, Any]:
    """A record that refers to an image."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": ref}}]
    return {"messages": [{"role": "user", "content": parts}], **fields}


def line(ref: str, text: str = "what is this?", **fields: Any) -> bytes:
    return json.dumps(shows(ref, text, **fields)).encode()


def put(path: Path, data: bytes) -> str:
    """Write a file; its reference."""
    path.write_bytes(data)
    return path.as_uri()
