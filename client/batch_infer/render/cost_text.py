"""Money in words: of a task that runs, of all tasks, and of one that may come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.columns import table
from batch_infer.render.costs import public_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_infer.render.shapes import Cost, Estimate, Range

_ONLINE, _BATCH = "online", "batch"


def task_cost(cost: Cost | None, lang: str) -> str:
    """`1.2345 USD so far, about 4.5000 USD in all · 0.0012 USD a record · unknown: 3 records`."""
    if cost is None:
        return ""
    currency, parts = cost.get("currency", ""), list[str]()
    spent, forecast, each = cost.get("spent"), cost.get("forecast"), cost.get("per_record")
    if spent is None:
        parts.append(Text("not known: write prices.batch_discount into the config").render(lang))
    elif forecast is None:
        parts.append(numbers.money(spent, currency))
    else:
        values = {"spent": numbers.money(spent, currency), "all": numbers.money(forecast, currency)}
        parts.append(Text("{spent} so far, about {all} in all", values).render(lang))
    if cost.get("budget") is not None:
        budget = {"budget": numbers.money(cost["budget"] or 0.0, currency)}
        budget["committed"] = numbers.money(cost.get("committed") or 0.0, currency)
        parts.append(Text("{committed} of the budget of {budget}", budget).render(lang))
    if each is not None:
        parts.append(Text("{amount} a record", {"amount": numbers.money(each, currency)}).render(lang))
    parts += [text.render(lang) for text in _unknown(cost.get("unknown_records") or 0)]
    return " · ".join(parts)


def _unknown(records: int) -> list[Text]:
    if not records:
        return []
    return [Text("not in it: {n} answers without usage", {"n": numbers.count(records)})]


def cost_lines(rows: list[dict[str, Any]], lang: str) -> list[str]:
    """Four tables under each other: by model, by day, by task, and the total."""
    found = public_costs(rows)
    tables: tuple[tuple[Text, Sequence[tuple[str, dict[str, Any]]]], ...] = (
        (Text("MODEL"), [(row["model"], row) for row in found["models"]]),
        (Text("DAY"), [(row["day"], row) for row in found["days"]]),
        (Text("TASK"), [(_name(row, lang), _of_task(row)) for row in rows]),
        (Text("TOTAL"), [("", found["total"])]),
    )
    lines: list[str] = []
    for head, entries in tables:
        if lines:
            lines.append("")
        names = (Text("ANSWERED"), Text("TOKENS IN"), Text("CACHED"), Text("TOKENS OUT"), Text("COST"))
        cells = [[head.render(lang), *(name.render(lang) for name in names), ""]]
        cells += [_row(name, row, lang) for name, row in entries]
        lines += table(cells, right=range(1, 6))
    return lines


def _name(row: dict[str, Any], lang: str) -> str:
    if row.get("removed") is None:
        return str(row["task_id"])
    return Text("{id} (removed)", {"id": row["task_id"]}).render(lang)


def _of_task(row: dict[str, Any]) -> dict[str, Any]:
    """A task as a sum of one."""
    (found,) = public_costs([row])["models"]
    return dict(found)


def _row(name: str, row: dict[str, Any], lang: str) -> list[str]:
    tokens = row["tokens"]
    sums = " + ".join(numbers.money(value, currency) for currency, value in row["spent"].items())
    notes = _unknown(row["unknown_records"])
    if row["unpriced_records"]:
        n = numbers.count(row["unpriced_records"])
        notes.append(Text("no price is known for {n} answers", {"n": n}))
    return [
        name,
        numbers.count(row["answered"]),
        numbers.count(tokens["input"]),
        numbers.count(tokens["cached"]),
        numbers.count(tokens["output"]),
        sums or "?",
        "; ".join(note.render(lang) for note in notes),
    ]


def estimate_lines(found: Estimate, lang: str) -> list[str]:
    """What -estimate prints on the standard output."""
    tokens, duration = found["tokens"], found["duration_s"]
    records = numbers.count(found["records"])
    if not found["exact"]:
        records = Text("about {n}", {"n": records}).render(lang)
    values = {key: numbers.count(tokens[key]) for key in ("input", "output", "output_most")}
    facts: list[tuple[Text, str]] = [
        (Text("input"), found["input"]),
        (Text("model"), f"{found['model']} @ {found['service']}"),
        (Text("backend"), found["backend"]),
        (Text("records"), records),
        (Text("tokens"), Text("{input} in, {output} out (at most {output_most})", values).render(lang)),
    ]
    if tokens["images"]:
        images = {"n": numbers.count(tokens["images"]), "tokens": numbers.count(tokens["image_tokens"])}
        facts.append((Text("images"), Text("{n}, {tokens} tokens of the input", images).render(lang)))
    if found["batches"] is not None:
        facts.append((Text("batches"), numbers.count(found["batches"])))
    lines = table([(label.render(lang), value) for label, value in facts])
    head = ["", *(text.render(lang) for text in (Text("EXPECTED"), Text("AT MOST"), Text("TIME")))]
    rows = [head, _way(Text("online calls"), found, _ONLINE, _span(duration[_ONLINE]), lang)]
    if duration[_BATCH] is not None:
        within = Text("within {time}", {"time": _span(duration[_BATCH])}).render(lang)
        rows.append(_way(Text("batches"), found, _BATCH, within, lang))
    return [*lines, "", *table(rows, right=(1, 2))]


def _way(name: Text, found: Estimate, key: str, time: str, lang: str) -> list[str]:
    costs: Range | None = found["cost"].get(key)
    currency = found.get("currency") or ""
    if costs is None:
        return [name.render(lang), "?", "?", time]
    sums = (numbers.money(costs["expected"], currency), numbers.money(costs["most"], currency))
    return [name.render(lang), *sums, time]


def _span(seconds: float | None) -> str:
    return "?" if seconds is None else numbers.span(seconds)
