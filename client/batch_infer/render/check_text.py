"""What a check found, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.render import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

_GOOD = ("intact", "rebuilt")
_EARLIER = "earlier"  # found in files that cannot be rebuilt


def check_lines(answer: dict[str, Any], lang: str) -> Iterator[str]:
    """The lines about a task or a file."""
    task_id = answer["task_id"]
    name = task_id or answer["path"]
    good = Text("{name}: nothing is wrong", {"name": name})
    yield (good if answer["ok"] else Text("{name}: something is wrong", {"name": name})).render(lang)
    for file in answer["files"]:
        if task_id is None:
            yield from _findings(file["findings"], lang, "  ")
            continue
        yield "  " + _state(file).render(lang)
        yield from _findings(file["findings"], lang, "    ")
    yield from _findings(answer["findings"], lang, "  ")
    content = answer["content"]
    if content is not None:
        yield "  " + _figures(content).render(lang)
        if content["finish_reasons"]:
            reasons = (f"{reason} {numbers.count(n)}" for reason, n in content["finish_reasons"].items())
            yield "  " + Text("ended by: {reasons}", {"reasons": ", ".join(reasons)}).render(lang)
        repeated = content["repeated_ids"]["count"]
        if task_id is not None and answer["ok"] and repeated:
            known = Text("1 line has the id of an earlier one, as in the input")
            if repeated > 1:
                values = {"n": numbers.count(repeated)}
                known = Text("{n} lines have the id of an earlier one, as in the input", values)
            yield "  " + known.render(lang)


def next_step(answer: dict[str, Any]) -> Text | None:
    """What to do about damage that can be undone."""
    if answer["task_id"] is None:
        return None
    damaged = [
        file for file in answer["files"] if file["state"] not in _GOOD and _EARLIER not in _whats(file)
    ]
    lost = any("journals" in _whats(file) for file in damaged)
    if not damaged or lost:
        return None
    return Text(
        "rebuild it from the journals, with a backup of what is there: batch_infer -validate {id} -repair",
        {"id": answer["task_id"]},
    )


def _whats(file: dict[str, Any]) -> set[str]:
    return {finding["what"] for finding in file["findings"]}


def public_check(answer: dict[str, Any], lang: str) -> dict[str, Any]:
    """As JSON for programs: texts in the language of the shell."""
    files = [file | {"findings": _public(file["findings"], lang)} for file in answer["files"]]
    return answer | {"files": files, "findings": _public(answer["findings"], lang)}


def _public(findings: list[dict[str, Any]], lang: str) -> list[dict[str, Any]]:
    return [finding | {"text": Text.from_wire(finding["text"]).render(lang)} for finding in findings]


def _findings(findings: list[dict[str, Any]], lang: str, indent: str) -> Iterator[str]:
    for finding in findings:
        yield f"{indent}- {Text.from_wire(finding['text']).render(lang)}"


def _state(file: dict[str, Any]) -> Text:
    values = {"name": file["name"], "backup": file["backup"]}
    if file["state"] == "rebuilt":
        if file["backup"] is None:
            return Text("{name}: rebuilt from the journals", values)
        return Text("{name}: rebuilt from the journals; what was there is in {backup}", values)
    if file["state"] == "intact":
        return Text("{name}: as it was written", values)
    return Text("{name}: damaged", values)


def _figures(content: dict[str, Any]) -> Text:
    values = {name: numbers.count(content[name]) for name in ("lines", "answers", "errors")}
    if content["errors"]:
        return Text("{lines} lines, {answers} answers, {errors} errors", values)
    return Text("{lines} lines, {answers} answers", values)
