"""What -doctor found: a line a check with a mark, and below it what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.render.public import SCHEMA
from batch_infer.render.states import explained

if TYPE_CHECKING:
    from batch_infer.render.shapes import Check

_GOOD, _BAD, _UNKNOWN = "✓", "✗", "?"
_PLAIN = {_GOOD: "+", _BAD: "x"}  # for a console that would show both as question marks
_INDENT = "  "


def doctor_lines(checks: list[Check], lang: str, encoding: str) -> list[str]:
    """The lines; `encoding` is that of the console."""
    lines = []
    for check in checks:
        text = Text.from_wire(check["text"]).render(lang)
        first, *rest = explained(check["name"], text, lang).splitlines()
        lines += [f"{_mark(check.get('ok'), encoding)} {first}", *(_INDENT + line for line in rest)]
        hint = check.get("hint")
        if hint:
            label = Text("hint: ").render(lang)
            first, *rest = (label + Text.from_wire(hint).render(lang)).splitlines()
            lines += [_INDENT + first, *(_INDENT * 2 + line for line in rest)]
    return lines


def public_doctor(answer: dict[str, Any], lang: str) -> dict[str, Any]:
    """The answer to `doctor` in its documented shape."""
    checks = [
        {**check, "text": _rendered(check["text"], lang), "hint": _rendered(check.get("hint"), lang)}
        for check in answer["checks"]
    ]
    return {"schema": SCHEMA, "ok": answer["ok"], "checks": checks}


def _rendered(text: Any, lang: str) -> str | None:
    return Text.from_wire(text).render(lang) if text else None


def _mark(ok: bool | None, encoding: str) -> str:
    mark = _UNKNOWN if ok is None else (_GOOD if ok else _BAD)
    try:
        mark.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN.get(mark, mark)
    return mark
