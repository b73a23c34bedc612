"""Entries of journals, and pictures of them, read back."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC
from typing import Any

from journal_kit import T

from batch_inferd.exports.picture.page import Facts, draw
from batch_inferd.exports.picture.series import Series
from batch_inferd.journal.format import Answer, Attempt, Failure, Missing

SVG = "{http://www.w3.org/2000/svg}"


def answer(t: float, ms: int = 0, path: str = "online") -> Answer:
    return Answer(line=1, round=0, attempt=1, t=t, ms=ms, tokens_in=1, tokens_out=1, path=path)


def attempt(t: float, failure: str = "server") -> Attempt:
    return Attempt(
        line=1, round=0, attempt=1, t=t, failure=failure, status=500, message="", not_before=t,
        charged=True, strikes=0, outages=0,
    )  # fmt: skip


def failure(t: float, failure: str = "bad_request") -> Failure:
    return Failure(line=1, round=0, attempt=1, t=t, failure=failure)


def missing(t: float) -> Missing:
    return Missing(line=1, round=0, attempt=1, t=t)


def series(*entries: Any) -> Series:
    made = Series()
    for entry in entries:
        made.add(entry)
    return made


class Picture:
    """A picture as its reader has it."""

    def __init__(self, text: str) -> None:
        self.source = text
        self.root = ET.fromstring(text)  # noqa: S314  our own

    @property
    def texts(self) -> list[str]:
        """What stands in it, a line of text each, from top to bottom as it was drawn."""
        return [" ".join("".join(one.itertext()).split()) for one in self.root.iter(f"{SVG}text")]

    def path(self, kind: str) -> str:
        """The steps of the path of this class."""
        (found,) = [one.get("d", "") for one in self.root.iter(f"{SVG}path") if one.get("class") == kind]
        return found

    def levels(self, kind: str) -> set[float]:
        """The heights at which a line or an area stands, from the top."""
        steps = self.path(kind)
        return {float(one) for one in re.findall(r"V([\d.]+)|M[\d.]+ ([\d.]+)", steps) for one in one if one}

    def rects(self, kind: str) -> list[dict[str, float]]:
        """Places of the rectangles of this class."""
        found = [one for one in self.root.iter(f"{SVG}rect") if one.get("class") == kind]
        return [{name: float(one.get(name, "0")) for name in ("x", "y", "width", "height")} for one in found]

    @property
    def tips(self) -> list[str]:
        """What columns tell the mouse."""
        return [one.findtext(f"{SVG}title", "") for one in self.root.iter(f"{SVG}rect") if len(one)]


def picture(made: Series, task_id: str = "demo", **summary: Any) -> Picture:
    """Drawn in UTC."""
    counts = {"input": 3, "output": 2, "error": 1, "missing": 0, "pending": 0, "blank": 0}
    facts = {"state": "completed", "model": "m", "input": "in.jsonl", "started": T, "ended": T + 60}
    return Picture(draw(Facts(task_id, facts | {"counts": counts} | summary), made, UTC))


__all__ = ["Picture", "T", "answer", "attempt", "failure", "missing", "picture", "series"]
