"""From the named cells of a row to a request: prompt, system, images and id. For CSV, TSV and Parquet."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.sources.refs import References
from batch_inferd.sources.row import IMAGE_MISSING, INVALID, BadRow, Row, conversation, unexpected
from batch_inferd.sources.template import Template, unknown_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_inferd.sources.spec import SourceSpec


def folder_of(spec: SourceSpec) -> str:
    """What relative image references are relative to."""
    return spec.image_folder or os.path.dirname(spec.path)


def compiled(text: str | None, what: str) -> Template | None:
    """A template, or None for none. Raises InputError."""
    return Template(text, what) if text else None


class Table:
    """How the rows of a table become requests. Raises InputError for columns that it does not have."""

    def __init__(self, spec: SourceSpec, columns: Sequence[str]) -> None:
        self._id = spec.id_column
        self._images = spec.image_columns
        self._key = spec.messages_key
        self._refs = References(folder_of(spec))
        name = os.path.basename(spec.path)
        for what, wanted in (("id_column", [spec.id_column]), ("image_columns", spec.image_columns)):
            for column in wanted:
                if column is not None and column not in columns:
                    raise unknown_column(Text("input.{key}", {"key": what}), column, columns, name)
        self._system = compiled(spec.system, "system")
        self._prompt = compiled(spec.prompt, "prompt") or self._guess(columns, name)
        for template in (self._system, self._prompt):
            if template:
                template.check(columns, name)
        self.needed = {*self._images, *([self._id] if self._id else [])}
        for template in (self._system, self._prompt):
            self.needed |= set(template.names) if template else set()
        if self._prompt is None:
            self.needed.add(self._key)

    def _guess(self, columns: Sequence[str], name: str) -> Template | None:
        """Without a prompt: the conversation's column (None), the column "prompt", or the only one."""
        if self._key in columns:
            return None
        free = [column for column in columns if column != self._id and column not in self._images]
        if "prompt" in free:
            free = ["prompt"]
        if len(free) != 1 or "{" in free[0] or "}" in free[0]:
            raise InputError(
                Text("{name} has several columns, and nothing says what to ask about a row", {"name": name}),
                hints=(
                    Text(
                        "set input.prompt or -prompt, a text with columns in braces, such as {example}",
                        {"example": "{" + columns[0] + "}"},
                    ),
                    Text("it has: {columns}", {"columns": ", ".join(columns[:30])}),
                ),
            )
        return Template("{" + free[0] + "}", "prompt")

    def row(
        self, index: int, texts: Mapping[str, str], values: Mapping[str, Any] | None = None, where: str = ""
    ) -> Row:
        """The row of its cells' texts. `values`: what they were, of a source that has more than text.

        `where` names file and row for the message of an error record.
        """
        source = {"row": index, "columns": texts}
        custom_id = str(index)
        try:
            _check_filled(values or texts)
            custom_id = self._custom_id(texts, custom_id)
            if self._prompt is None:
                messages = self._conversation((values or texts)[self._key])
            else:
                system = self._system.render(texts) if self._system else None
                messages = conversation(system, self._prompt.render(texts), self._references(values or texts))
        except BadRow as bad:
            return Row(index, custom_id, source, error=(bad.cls, f"{where}: {bad}"))
        except Exception as error:  # noqa: BLE001  whatever it is, it is this row's
            return Row(index, custom_id, source, error=unexpected(error, where))
        return Row(index, custom_id, source, messages=messages)

    def _custom_id(self, texts: Mapping[str, str], fallback: str) -> str:
        if self._id is None:
            return fallback
        text = texts[self._id].strip()
        if not text:
            raise BadRow(INVALID, f'the id column "{self._id}" is empty')
        return text

    def _conversation(self, value: Any) -> list[dict[str, Any]]:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise BadRow(INVALID, f'the column "{self._key}" is not JSON: {error}') from error
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise BadRow(INVALID, f'the column "{self._key}" is not a list of messages')
        return value

    def _references(self, cells: Mapping[str, Any]) -> list[str]:
        if not self._images:
            return []
        found = [ref for column in self._images for ref in self._refs.all_of(column, cells[column])]
        if not found:
            names = ", ".join(f'"{name}"' for name in self._images)
            raise BadRow(IMAGE_MISSING, f"there is no image in {names}")
        return found


def _check_filled(cells: Mapping[str, Any]) -> None:
    if not any(cell.strip() if isinstance(cell, str) else cell for cell in cells.values()):
        raise BadRow(INVALID, "all its cells are empty")
