"""Pages of a list, whichever way the service turns them: `after`, or a cursor of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

PAGE = 100
MAX_PAGES = 2_000  # 200,000 objects; then the service is turning in a circle

_LISTS = ("data", "value", "batches", "files", "items")


class Page(NamedTuple):
    """The objects of a reply, and the query of the next page; None: this is the last one."""

    objects: list[dict[str, Any]]
    following: dict[str, str] | None


def read_page(value: Any, limit: int = PAGE) -> Page | None:
    """A reply that is a list, or holds one; None for anything else.

    An object's id stands for its place. Without `has_more`, a full page may have a next one.
    """
    envelope = value if isinstance(value, dict) else {}
    found = value if isinstance(value, list) else _list_of(envelope)
    if found is None:
        return None
    objects = [entry for entry in found if isinstance(entry, dict)]
    paging = envelope.get("paging")
    cursor = (paging if isinstance(paging, dict) else envelope).get("next_cursor")
    if isinstance(cursor, str) and cursor:
        return Page(objects, {"cursor": cursor})
    more = envelope.get("has_more")
    last = (objects[-1].get("id") if objects else None) or envelope.get("last_id")
    if more is False or not objects or not isinstance(last, str) or not last:
        return Page(objects, None)
    if more is True or len(objects) >= limit:
        return Page(objects, {"after": last})
    return Page(objects, None)


def _list_of(envelope: dict[str, Any]) -> list[Any] | None:
    for name in _LISTS:
        if isinstance(envelope.get(name), list):
            return list(envelope[name])
    # A service without any batches yet may say null.
    return [] if any(name in envelope and envelope[name] is None for name in _LISTS) else None
