"""One finding of the doctor."""

from __future__ import annotations

from typing import Any, NamedTuple

from batch_infer.protocol.text import Text
from batch_inferd.services.masking import mask


class Check(NamedTuple):
    """`name` is a word that stays the same; `ok` is None where nothing certain can be said.

    `hint` is the next step of the reader.
    """

    name: str
    ok: bool | None
    text: Text
    hint: Text | None = None

    def to_wire(self) -> dict[str, Any]:
        """`{name, ok, text, hint}`."""
        hint = self.hint.to_wire() if self.hint else None
        return {"name": self.name, "ok": self.ok, "text": self.text.to_wire(), "hint": hint}


def without(text: Text, secrets: list[str]) -> Text:
    """The text with these secrets, and all that looks like one, replaced in its values."""

    def hidden(value: Any) -> Any:
        return without(value, secrets) if isinstance(value, Text) else mask(value, secrets)

    return Text(text.msgid, {name: hidden(value) for name, value in text.params.items()})
