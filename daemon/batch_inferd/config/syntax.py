"""YAML syntax errors in plain sentences, with their place.

PyYAML's own words differ between its two parsers and may repeat parts of the file, a password among
them; so only the kind of the error is taken from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.config.problems import TOP, Position

if TYPE_CHECKING:
    import yaml

_TAB = Text("a tab stands where YAML wants spaces; replace the tabs of this line by spaces")
_COLON = Text(
    'a ":" is not allowed here; put quotes around a value that contains ": ", indent the line like its '
    'neighbours, and see that the line above reads "key: value" with a space after the colon'
)
_KEY = Text(
    "here should be a key at the same indentation as those above; "
    "check the indentation, and that every quote above is closed"
)
_LIST = Text('a list needs "- " at the same indentation before each item; check the indentation')
_OPEN_LIST = Text('the list that begins here with "[" lacks a comma or its "]"; add it')
_OPEN_MAPPING = Text('the mapping that begins here with "{{" lacks a comma or its "}}"; add it')
_OPEN_QUOTE = Text("the quote that is opened here is never closed; close it")
_ESCAPE = Text("a backslash in double quotes begins an escape; use single quotes, or double the backslash")
_DASH = Text('a "-" cannot begin a value on the same line as its key; put the list on lines of its own')
_CONTENT = Text("a value is missing here, or a bracket too many; write the value, or put quotes around it")
_OTHER = Text("this is not valid YAML; check quotes, brackets and indentation here and on the line above")

# A part of PyYAML's (or libyaml's) sentence -> what to say, and whether to point at the beginning of
# the construct rather than at the place where reading stopped.
_KINDS: tuple[tuple[str, Text, bool], ...] = (
    ("mapping values are not allowed", _COLON, False),
    ("could not find expected ':'", _COLON, False),
    ("sequence entries are not allowed", _DASH, False),
    ("did not find expected '-' indicator", _LIST, False),
    ("did not find expected ',' or ']'", _OPEN_LIST, True),
    ("expected ',' or ']'", _OPEN_LIST, True),
    ("did not find expected ',' or '}'", _OPEN_MAPPING, True),
    ("expected ',' or '}'", _OPEN_MAPPING, True),
    ("unknown escape character", _ESCAPE, False),
    ("hexdecimal number", _ESCAPE, False),
    ("hexadecimal number", _ESCAPE, False),
    ("escape character code", _ESCAPE, False),
    ("Unicode character escape", _ESCAPE, False),
    ("found unexpected end of stream", _OPEN_QUOTE, True),
    ("found unexpected document", _OPEN_QUOTE, True),
    ("tab character that violates indentation", _TAB, False),
    ("did not find expected key", _KEY, False),
    ("expected <block end>", _KEY, False),
    ("node content", _CONTENT, False),
)


def explain(error: yaml.YAMLError, text: str) -> tuple[Position, Text]:
    """Where reading stopped, and why, for an error that reading `text` ended with."""
    problem = str(getattr(error, "problem", None) or "")
    at = _position(getattr(error, "problem_mark", None))
    begin = _position(getattr(error, "context_mark", None))
    if "cannot start any token" in problem:
        return at or TOP, _bad_start(text, at or TOP)
    context = str(getattr(error, "context", None) or "")
    for part, sentence, at_beginning in _KINDS:
        if part in problem:
            if sentence is _KEY and "collection" in context:
                sentence = _LIST  # noqa: PLW2901  the Python parser says the same of both
            return (begin if at_beginning else None) or at or begin or TOP, sentence
    return at or begin or TOP, _OTHER


def _bad_start(text: str, position: Position) -> Text:
    line, column = position
    lines = text.split("\n")
    rest = lines[line - 1][column - 1 :] if line <= len(lines) else ""
    if rest.startswith("\t"):
        return _TAB
    return Text(
        "a value cannot begin with {character}; put quotes around it", {"character": rest[:1] or "this"}
    )


def _position(mark: Any) -> Position | None:
    return (mark.line + 1, mark.column + 1) if mark else None
