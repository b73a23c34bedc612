"""What a check found, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batch_infer.protocol.text import Text

SHOWN = 10  # line numbers that are kept of each kind


@dataclass(slots=True)
class Noted:
    """Lines of a kind: how many, and the first of them, from 1."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        """One more."""
        self.count += 1
        if len(self.lines) < SHOWN:
            self.lines.append(line)

    @property
    def shown(self) -> str:
        """`3, 7, 9`, with an ellipsis where there are more."""
        return ", ".join(map(str, self.lines)) + (", …" if self.count > len(self.lines) else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a file. `lines` are the first of `count`, from 1.

    `of` belongs to some kinds: for each of `lines`, the line that it repeats.
    """

    what: str
    text: Text
    count: int = 0
    lines: tuple[int, ...] = ()
    of: tuple[int, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """As it is sent to a client."""
        return {
            "what": self.what,
            "text": self.text.to_wire(),
            "count": self.count,
            "lines": list(self.lines),
            "of": list(self.of),
        }


def finding(what: str, noted: Noted, one: Text, more: Text, of: tuple[int, ...] = ()) -> Finding:
    """A finding about lines. `one` and `more` may name {n}, {line}, {lines} and {first}."""
    chosen = one if noted.count == 1 else more
    values = {
        "n": f"{noted.count:,}",
        "line": noted.lines[0] if noted.lines else 0,
        "lines": noted.shown,
        "first": of[0] if of else 0,
    }
    return Finding(what, Text(chosen.msgid, values | chosen.params), noted.count, tuple(noted.lines), of)
