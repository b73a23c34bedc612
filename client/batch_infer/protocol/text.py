"""A message that is translated where it is shown: an English template, and what goes into it.

The daemon stores and sends `Text`; the client renders it in the language of its own shell. So a
pause reason written by an English shell is read in Chinese by a Chinese one. Templates use
`str.format` fields; babel collects them by the name `Text` (see `make messages`).
"""

from __future__ import annotations

import gettext
import os
import string
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

LANGUAGES = ("en", "zh")
_LOCALE_DIR = Path(__file__).resolve().parent.parent / "locale"


# C0, C1 and DEL, without tab and newline: a terminal would obey them.
_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {0x09, 0x0A}, "\N{REPLACEMENT CHARACTER}")


def printable(text: str) -> str:
    """`text` without control characters: what a service or a file says never reaches a terminal as such."""
    return text.translate(_CONTROLS)


class Text(NamedTuple):
    """An English template with its values; a value may be a `Text` of its own."""

    msgid: str
    params: dict[str, Any] = {}  # noqa: RUF012  a NamedTuple's default, never mutated

    def render(self, lang: str = "en") -> str:
        """The message in `lang` ("en" or "zh"), printable; English where there is no translation."""
        template = self.msgid if lang == "en" else _catalogue(lang).gettext(self.msgid)
        values = {k: v.render(lang) if isinstance(v, Text) else v for k, v in self.params.items()}
        return printable(_Lenient().vformat(template, (), values))

    def __str__(self) -> str:
        return self.render("en")

    def to_wire(self) -> dict[str, Any]:
        """`{"msgid": …, "params": {…}}`, with nested texts in the same shape."""
        params = {k: v.to_wire() if isinstance(v, Text) else v for k, v in self.params.items()}
        return {"msgid": self.msgid, "params": params}

    @classmethod
    def from_wire(cls, data: Any) -> Text:
        """The inverse of `to_wire`; a bare string becomes a text without values."""
        if isinstance(data, dict) and isinstance(data.get("msgid"), str):
            params = data.get("params")
            values = params if isinstance(params, dict) else {}
            return cls(
                data["msgid"],
                {str(k): cls.from_wire(v) if _is_text(v) else v for k, v in values.items()},
            )
        return cls("{text}", {"text": str(data)})


def language(environ: dict[str, str] | None = None) -> str:
    """The language of the calling shell: BATCH_INFER_LANG, else the locale; "zh" or "en"."""
    env = os.environ if environ is None else environ
    for name in ("BATCH_INFER_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = env.get(name, "").lower()
        if value:
            return "zh" if value.startswith(("zh", "chinese")) else "en"
    return "en"


class _Lenient(string.Formatter):
    """Leaves a field without a value visible: a message must never become an exception."""

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:  # noqa: ARG002
        if isinstance(key, str) and key in kwargs:
            return kwargs[key]
        return "{" + str(key) + "}"


def _is_text(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"msgid", "params"}


@cache
def _catalogue(lang: str) -> gettext.NullTranslations:
    names = {"zh": ["zh_CN"]}.get(lang, [lang])
    return gettext.translation("batch_infer", localedir=str(_LOCALE_DIR), languages=names, fallback=True)
