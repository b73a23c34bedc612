"""Templates of prompts: `{column}` stands for the row's text, `{{` and `}}` for braces. Nothing else."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_SHOWN = 30  # columns that a message lists


class Template:
    """A template, taken apart. `names` are the columns that it wants, in order, each once."""

    def __init__(self, text: str, what: str) -> None:
        """`what` it is (prompt, system), for messages. Raises InputError for a brace without its pair."""
        self._what = what
        self._parts: list[tuple[str, bool]] = []  # text, and whether it is a column's name
        at = 0
        for match in _TOKEN.finditer(text):
            self._parts.append((text[at : match.start()], False))
            at = match.end()
            token, name = match[0], match[1]
            if token in ("{{", "}}"):
                self._parts.append((token[0], False))
            elif name is None or not name.strip():
                raise InputError(
                    Text(
                        "the {what} template has a lone brace at character {at}: {around}",
                        {"what": what, "at": match.start() + 1, "around": text[match.start() :][:20]},
                    ),
                    hints=(Text("a brace that is meant as text is written twice: {{{{ or }}}}"),),
                )
            else:
                self._parts.append((name.strip(), True))
        self._parts.append((text[at:], False))
        self.names = tuple(dict.fromkeys(part for part, is_name in self._parts if is_name))

    def render(self, values: Mapping[str, str]) -> str:
        """The text for a row. Raises KeyError(name)."""
        return "".join(values[part] if is_name else part for part, is_name in self._parts)

    def check(self, columns: Collection[str], where: str | Text) -> None:
        """Raises InputError when it names a column that `where` does not have."""
        for name in self.names:
            if name not in columns:
                raise unknown_column(Text("the {what} template", {"what": self._what}), name, columns, where)


def unknown_column(asked_by: Text, name: str, columns: Collection[str], where: str | Text) -> InputError:
    """The error for a column that is not there, with the nearest one and the list."""
    hints = []
    near = difflib.get_close_matches(name, columns, 1)
    if near:
        hints.append(Text('did you mean "{name}"?', {"name": near[0]}))
    shown = ", ".join(list(columns)[:_SHOWN]) + (" …" if len(columns) > _SHOWN else "")
    hints.append(Text("it has: {columns}", {"columns": shown}))
    if not name.isidentifier():
        hints.append(Text("a brace that is meant as text is written twice: {{{{ or }}}}"))
    return InputError(
        Text(
            '{what} asks for "{name}", which {where} does not have',
            {"what": asked_by, "name": name, "where": where},
        ),
        hints=tuple(hints),
    )
