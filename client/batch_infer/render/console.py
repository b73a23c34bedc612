"""Where output goes: data to stdout, everything else to stderr, in the shell's language and encoding."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from batch_infer.protocol.text import Text, language, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_ERROR = Text("error: ")
_WARNING = Text("warning: ")
_NOTE = Text("note: ")
_HINT = Text("hint: ")


class Console:
    """Two streams and a language. No colour unless the stream is a terminal and NO_COLOR is unset."""

    def __init__(self, out: TextIO, err: TextIO, lang: str, environ: Mapping[str, str]) -> None:
        self.out = out
        self.err = err
        self.lang = lang
        self._dumb = environ.get("TERM") == "dumb"
        self._plain = self._dumb or bool(environ.get("NO_COLOR"))
        self._ascii_json = not _is_unicode(out)
        self._warned: set[str] = set()

    def data(self, line: str) -> None:
        """One line of data. Raises BrokenPipeError when nobody reads any more."""
        self._write(printable(line), self.out)

    def json(self, value: Any) -> None:
        """One JSON object, on one line; escaped to ASCII where the stream cannot carry all of Unicode."""
        self._write(json.dumps(value, ensure_ascii=self._ascii_json, separators=(",", ":")), self.out)

    def say(self, line: str) -> None:
        """One line for the person at the terminal."""
        self._write(printable(line), self.err)

    def text(self, text: Text) -> str:
        """A text in the language of the shell."""
        return text.render(self.lang)

    def tell(self, text: Text) -> None:
        """A message without a label."""
        self.say(self.text(text))

    def error(self, text: Text) -> None:
        """`error: …`."""
        self._label(_ERROR, "red", text)

    def warning(self, text: Text) -> None:
        """`warning: …`, once for the same words."""
        line = self.text(text)
        if line not in self._warned:
            self._warned.add(line)
            self._label(_WARNING, "yellow", text)

    def note(self, text: Text) -> None:
        """`note: …`."""
        self._label(_NOTE, "cyan", text)

    def hint(self, text: Text) -> None:
        """`hint: …`."""
        self._label(_HINT, "green", text)

    @property
    def encoding(self) -> str:
        """What the standard output can carry."""
        return getattr(self.out, "encoding", None) or "utf-8"

    def columns(self) -> int:
        """How wide running text may be: as the terminal, 100 cells at most."""
        return min(100, shutil.get_terminal_size().columns)

    def live(self, stream: TextIO) -> bool:
        """Whether a stream may be redrawn."""
        return stream.isatty() and not self._dumb

    def _label(self, label: Text, colour: str, text: Text) -> None:
        self._write(click.style(self.text(label), fg=colour, bold=True) + self.text(text), self.err)

    def _write(self, line: str, stream: TextIO) -> None:
        click.echo(line, file=stream, color=False if self._plain else None)
        stream.flush()


def standard_console() -> Console:
    """The console of this process. A closed stream is replaced, an odd encoding made lenient."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return Console(sys.stdout, sys.stderr, language(), os.environ)


def _is_unicode(stream: TextIO) -> bool:
    encoding = getattr(stream, "encoding", None) or "ascii"
    return encoding.lower().replace("_", "-").startswith(("utf", "gb18030"))
