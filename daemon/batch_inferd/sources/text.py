"""From blocks of bytes to text and lines: the encoding is looked at where the first foreign byte stands.

A file may be ASCII for gigabytes before its first Chinese character, so the head cannot tell. What is
ASCII so far goes through; at the first other byte the next mebibyte decides between UTF-8 and GB18030.
"""

from __future__ import annotations

import codecs
import io
import re
from itertools import chain
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 1024 * 1024
PIECE = 256 * 1024
_ZEROS = 8  # that a text may have in its head, or one in a hundred bytes: broken cells, but still a text

_MARK = "batch_infer_mark"
_MARKED = re.compile("[\ud800-\udfff]")
_FOREIGN = re.compile("[^\x00-\x7f]")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def _mark(error: UnicodeError) -> tuple[str, int]:
    """An error handler: what is no text becomes a lone surrogate, which no text can hold."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    if error.encoding.lower().startswith(("utf-16", "utf16", "utf-32", "utf32")):
        return "\udcff", error.end
    return chr(0xDC00 + error.object[error.start]), error.start + 1


codecs.register_error(_MARK, _mark)


def is_marked(text: str) -> bool:
    """Whether some of it could not be decoded."""
    return not text.isascii() and _MARKED.search(text) is not None


def unmarked(text: str) -> str:
    """With the usual replacement character where it could not be decoded."""
    return text if text.isascii() else _MARKED.sub("\N{REPLACEMENT CHARACTER}", text)


def check_encoding(name: str) -> None:
    """Raises InputError when Python knows no text encoding of that name."""
    try:
        if codecs.lookup(name)._is_text_encoding:  # noqa: SLF001  the only place that tells
            codecs.getincrementaldecoder(name)
            return
    except LookupError:
        pass
    raise InputError(
        Text('the encoding "{name}" is unknown', {"name": name}),
        hints=(Text("usual ones: utf-8, gb18030, utf-16, big5, shift_jis, cp1252"),),
    )


def text_blocks(blocks: Iterator[bytes], encoding: str | None, name: str) -> Iterator[str]:
    """The text in pieces, without BOM. What cannot be decoded is marked, see `is_marked`.

    Args:
        blocks: the file's bytes.
        encoding: None looks at them.
        name: the file's, for messages.

    Raises InputError for what is no text at all, or in an encoding that we do not look for.
    """
    first = b""
    while len(first) < 4 and (more := next(blocks, b"")):
        first += more
    if encoding is None:
        encoding = _by_head(first, name)
    data = first
    if encoding is None:
        if data.isascii():
            while data and data.isascii():
                yield data.decode("ascii")
                data = next(blocks, b"")
        data, whole = _window(data, blocks)
        encoding = _choose(data, whole, name)
    decoder = codecs.getincrementaldecoder(encoding)(_MARK)
    begun = False
    for block in chain([data], blocks):
        for at in range(0, len(block), PIECE):
            text = decoder.decode(block[at : at + PIECE])
            if text:
                yield text if begun else text.removeprefix("\ufeff")
                begun = True
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest


def read_lines(texts: Iterator[str], limit: int) -> Iterator[str]:
    """Lines with their ends: LF, CR LF, or the CR of old Macs.

    Of a line of more than `limit` characters only the first limit + 1 come, without its end.
    """
    rest = ""
    dropping = False  # the end of a line that was too long
    for text in texts:
        lines = list(io.StringIO(rest + text, newline=""))
        # A CR may be half of a CR LF.
        rest = "" if not lines or lines[-1].endswith("\n") else lines.pop()
        for line in lines:
            if not dropping:
                yield line[: limit + 1]
            dropping = False
        if dropping:
            rest = rest[-1:]
        elif len(rest) > limit:
            yield rest[: limit + 1]
            rest, dropping = rest[-1:], True
    if rest and not dropping:
        yield rest


def _by_head(first: bytes, name: str) -> str | None:
    """The encoding by a BOM, or by the zeros that UTF-16 is full of."""
    for bom, encoding in _BOMS:
        if first.startswith(bom):
            return encoding
    sample = first[:4096]
    zeros = sample.count(0)
    if not zeros:
        return None
    if sample[1::2].count(0) > 0.9 * zeros and zeros > len(sample) // 8:
        return "utf-16-le"
    if sample[0::2].count(0) > 0.9 * zeros and zeros > len(sample) // 8:
        return "utf-16-be"
    if zeros <= max(_ZEROS, len(sample) // 100) and _is_utf8(sample):
        return None
    raise InputError(
        Text("{name} is not text: it holds zero bytes", {"name": name}),
        hints=(Text("save it as UTF-8; a spreadsheet: save it as CSV UTF-8"),),
    )


def _is_utf8(sample: bytes) -> bool:
    """Whether it is, but for an end that is cut. UTF-16 without a BOM, and few letters, is not."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _window(data: bytes, blocks: Iterator[bytes]) -> tuple[bytes, bool]:
    parts = [data]
    have = len(data)
    while have < WINDOW:
        more = next(blocks, b"")
        if not more:
            return b"".join(parts), True
        parts.append(more)
        have += len(more)
    return b"".join(parts), False


def _choose(data: bytes, whole: bool, name: str) -> str:
    """UTF-8 or GB18030: what fits, but for a few broken characters.

    GB18030 takes nearly any pair of bytes, and UTF-8 nearly none by chance: so UTF-8 may be damaged more.
    """
    for encoding, allowed in (("utf-8", 0.25), ("gb18030", 0.05)):
        text = codecs.getincrementaldecoder(encoding)(_MARK).decode(data, final=whole)
        broken = len(_MARKED.findall(text))
        if not broken or broken <= allowed * len(_FOREIGN.findall(text)):
            return encoding
    raise InputError(
        Text("{name} is neither in UTF-8 nor in GB18030", {"name": name}),
        hints=(Text("save it as UTF-8, or name its encoding in input.encoding (big5, shift_jis, cp1252 …)"),),
    )
