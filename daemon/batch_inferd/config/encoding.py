"""From a config's bytes to its text: UTF-8, UTF-8 with BOM, UTF-16 with BOM, GB18030."""

from __future__ import annotations

import codecs
import re

from batch_infer.protocol.text import Text
from batch_inferd.config.problems import TOP, Position, Problems

MAX_BYTES = 256 * 1024

# What YAML 1.1 allows in a file; PyYAML refuses the rest without saying where.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_text(data: bytes, problems: Problems) -> str:
    """The file's text without BOM. Raises ConfigError when it is too big, or no text at all."""
    if len(data) > MAX_BYTES:
        size = Text(
            "the file has {size} bytes, allowed are {limit}; is it the right file?",
            {"size": len(data), "limit": MAX_BYTES},
        )
        problems.add(TOP, size)
        problems.check()
    text = _decode(data, problems)
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        code = f"U+{ord(forbidden[0]):04X}"
        problems.add(
            place(text, forbidden.start()),
            Text("a config cannot hold the character {code}; remove it", {"code": code}),
        )
        problems.check()
    return text


def place(text: str, index: int) -> Position:
    """Line and column of a character, from 1."""
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _decode(data: bytes, problems: Problems) -> str:
    if data.startswith(codecs.BOM_UTF8):
        encodings = ["utf-8-sig"]
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8", "gb18030"]
    position = TOP
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            if position == TOP:
                good = data[: error.start].decode(encoding, "replace")
                position = place(good, len(good))
    wanted = Text("the file is not text in UTF-8, UTF-16 or GB18030 from here on; save it as UTF-8")
    problems.add(position, wanted)
    raise problems.error()
