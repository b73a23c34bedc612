"""`html`: one file that a browser shows: no server, nothing from elsewhere but the images on this machine.

The records stand in it as blocks of JSON, of which a script shows fifty at a time: so memory grows here
with a block, and in the browser with what is looked at. The page's own policy (CSP) lets nothing else run
or load; texts are put in as texts, whatever stands in them.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.answers import as_json
from batch_inferd.exports.origin import image_references
from batch_inferd.exports.row import read_row
from batch_inferd.exports.webpage.images import image
from batch_inferd.merge.index import ANSWER, ERROR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_inferd.exports.reading import Exported, Record
    from batch_inferd.merge.outputs import OutputFile

_BLOCK_RECORDS = 200
_BLOCK_BYTES = 1024 * 1024
_STATES = {ANSWER: "answered", ERROR: "failed"}
_NO_SCRIPT = "This page needs JavaScript to show its records."
_BODY = """\
<form id="bar"><input id="search" type="search"><select id="state"></select>
<button id="previous" type="button"></button><span id="where"></span><button id="next" type="button"></button>
</form>
<main id="records"></main>
"""


class WebPage:
    """Writes the page of some tasks: a card a record, with its images, its prompt and its answer."""

    def __init__(self, out: OutputFile, tasks: Sequence[Exported]) -> None:
        """Raises OSError."""
        self._out = out
        self._with_task = len(tasks) > 1
        self._block: list[bytes] = []
        self._size = 0
        self._counts: Counter[str] = Counter()
        self._style, self._script = (
            (files(__package__) / name).read_text("utf-8") for name in ("page.css", "page.js")
        )
        self._write(self._head(tasks))

    def add(self, task: Exported, _chunk: int, record: Record) -> None:
        """The next record."""
        row = read_row(record, task.messages_key)
        state = _STATES.get(record.kind, "missing")
        self._counts[state] += 1
        shown: dict[str, Any] = {"task": task.task_id} if self._with_task else {}
        shown |= {
            "id": row.origin.custom_id,
            "state": state,
            "prompt": row.origin.prompt,
            "images": [image(ref) for ref in image_references(record.data, task.messages_key)],
            "text": row.outcome.failure or row.outcome.answer or "",
        }
        data = _embedded(shown)
        if self._size + len(data) > _BLOCK_BYTES:
            self._flush()
        self._block.append(data)
        self._size += len(data)
        if len(self._block) == _BLOCK_RECORDS:
            self._flush()

    def finish(self) -> None:
        """Write what is left."""
        self._flush()
        counts = {name: self._counts[name] for name in ("answered", "failed", "missing")}
        self._write('<script id="counts" type="application/json">')
        self._out.write(_embedded(counts))
        self._write(f"</script>\n<script>{self._script}</script>\n</body>\n</html>\n")

    def _flush(self) -> None:
        if self._block:
            self._write(f'<script type="application/json" data-records="{len(self._block)}">[')
            self._out.write(b",\n".join(self._block))
            self._write("]</script>\n")
            self._block.clear()
            self._size = 0

    def _head(self, tasks: Sequence[Exported]) -> str:
        policy = (
            f"default-src 'none'; img-src file:; style-src {_hash(self._style)}; "
            f"script-src {_hash(self._script)}; base-uri 'none'; form-action 'none'"
        )
        title = escape(", ".join(task.task_id for task in tasks))
        about = escape(" · ".join(dict.fromkeys(_about(task) for task in tasks)))
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="referrer" content="no-referrer">\n<title>{title}</title>\n'
            f"<style>{self._style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
            f'<p id="about">{about}</p>\n{_BODY}<noscript>{_NO_SCRIPT}</noscript>\n'
        )

    def _write(self, text: str) -> None:
        self._out.write(text.encode("utf-8", "replace"))


def _about(task: Exported) -> str:
    """The model, and where it is served."""
    return " @ ".join(str(task.summary[name]) for name in ("model", "service") if task.summary.get(name))


def _embedded(value: Any) -> bytes:
    """A value as JSON in which no tag can end or begin."""
    return as_json(value).replace("<", "\\u003c").encode("utf-8", "replace")


def _hash(text: str) -> str:
    """How the policy names a style or script that stands in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
