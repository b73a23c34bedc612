"""How many tokens a record has, guessed from its text: no service's tokenizer is at hand.

The rule is coarse on purpose: what a forecast uses of it is only how records compare with each other; the
service's own counts of the first answers set the scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.money.image_tokens import GUESS

if TYPE_CHECKING:
    from collections.abc import Callable

    View = Callable[[str, str], float]  # tokens of an image: of its reference, and its detail

ASCII = 1 / 4  # tokens a character: English text, code, markup
NARROW = 1 / 2  # other alphabets
WIDE = 3 / 4  # Chinese, Japanese, Korean; emoji
MESSAGE = 4  # what a message costs beside its text
REQUEST = 3

_NARROW_LEADS = bytes(range(0xC2, 0xE3))  # first bytes of characters below U+3000
_WIDE_LEADS = bytes(range(0xE3, 0xF5))
_LEADS = _NARROW_LEADS + _WIDE_LEADS
_NOT_ASCII = bytes(range(0x80, 0x100))
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})


class Weight(NamedTuple):
    """A record's input: guessed tokens of its text, its images, and the tokens of those."""

    tokens: float = 0.0
    images: int = 0
    image_tokens: float = 0.0

    def __add__(self, other: object) -> Weight:
        """Both together."""
        if not isinstance(other, Weight):
            return NotImplemented
        return Weight(
            self.tokens + other.tokens, self.images + other.images, self.image_tokens + other.image_tokens
        )


def text_tokens(text: str) -> float:
    """Guessed tokens of a text."""
    if text.isascii():
        return len(text) * ASCII
    data = text.encode("utf-8", "surrogatepass")
    wide = len(data) - len(data.translate(None, _WIDE_LEADS))
    other = len(data) - len(data.translate(None, _LEADS)) - wide
    plain = len(data.translate(None, _NOT_ASCII))
    return plain * ASCII + other * NARROW + wide * WIDE


def unseen(ref: str, detail: str) -> float:  # noqa: ARG001  a View
    """The tokens of an image of which nothing is known, not even by whom it is counted."""
    return GUESS


def weigh(line: bytes, messages_key: str = "messages", view: View = unseen) -> Weight:
    """The weight of an input line. One that is no valid record weighs nothing: it is never sent.

    `view` tells the tokens of an image.
    """
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Weight()
    if not isinstance(record, dict) or "$error" in record:
        return Weight()
    body = record.get("body")
    if isinstance(body, dict):
        record = body
    for key in (messages_key, "messages", "input"):
        if key in record:
            return Weight(REQUEST) + _weigh(record[key], view)
    return Weight()


def _weigh(value: Any, view: View) -> Weight:
    """Messages, inputs, or the parts of one: strings, lists of strings, lists of objects."""
    if isinstance(value, str):
        return Weight(text_tokens(value))
    if isinstance(value, list):
        if value and all(isinstance(item, int) for item in value):
            return Weight(float(len(value)))  # tokens already
        total = Weight()
        for item in value:
            total += _weigh(item, view)
        return total
    if not isinstance(value, dict):
        return Weight()
    kind = value.get("type")
    if kind in _IMAGE_PARTS:
        return Weight(0.0, 1, view(*_image(value)))
    if kind in _TEXT_PARTS:
        return _weigh(value.get("text"), view)
    return Weight(MESSAGE) + _weigh(value.get("content"), view)


def _image(part: dict[str, Any]) -> tuple[str, str]:
    """The reference and the detail of an image, as chats and as responses write them."""
    image = part.get("image_url")
    found = image if isinstance(image, dict) else {"url": image, "detail": part.get("detail")}
    url, detail = found.get("url"), found.get("detail")
    return url if isinstance(url, str) else "", detail if isinstance(detail, str) else ""
