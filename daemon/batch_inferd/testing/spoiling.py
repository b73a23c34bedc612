"""Answers that come and are of no use, or say what a test wants: cut off, empty, another text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_inferd.testing.calls import Call

CUT, EMPTY, SAY = "cut", "empty", "say:"


class Spoil(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of the answers to chats whose last user message contains a text.

    `do`: "cut" (half of it, ended by `length`), "empty", or "say:TEXT". With `below`, only where the call
    allows fewer tokens than that.
    """

    contains: str
    do: str
    below: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.do not in (CUT, EMPTY) and not self.do.startswith(SAY):
            raise ValueError(f"unknown way to spoil an answer {self.do!r}; known: {CUT}, {EMPTY}, {SAY}TEXT")

    def fits(self, call: Call) -> bool:
        """Whether it is about this call."""
        limit: int | None = getattr(call, "limit", None)
        return self.contains in call.text and (self.below is None or (limit or self.below) < self.below)


def spoiled(answer: dict[str, Any], call: Call, ways: Iterable[Spoil]) -> dict[str, Any]:
    """The answer as the first of the ways that fits makes it; only chats can be spoiled."""
    found = next((way for way in ways if way.fits(call)), None)
    if found is None or "choices" not in answer:
        return answer
    (choice,) = answer["choices"]
    text: str = choice["message"]["content"]
    changes: dict[str, Any] = {}
    if found.do == CUT:
        text, changes = text[: len(text) // 2], {"finish_reason": "length"}
    else:
        text = "" if found.do == EMPTY else found.do.removeprefix(SAY)
    return {**answer, "choices": [{**choice, **changes, "message": {**choice["message"], "content": text}}]}
