"""What a scalar means: YAML 1.2's core schema, so that `no` and `1:30` stay what they look like."""

from __future__ import annotations

import re

from batch_infer.protocol.text import Text
from batch_inferd.config.nodes import Mapping, Node, Scalar, Sequence
from batch_inferd.config.problems import shown

Value = str | int | float | bool | None

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# YAML 1.1 readers take these plain words for true or false, newer ones for text.
_AMBIGUOUS = {"yes": True, "on": True, "no": False, "off": False}
_INT = re.compile(r"[-+]?[0-9]{1,40}")
_OCTAL = re.compile(r"0o[0-7]{1,40}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,400}|[0-9]{1,400}(\.[0-9]{0,400})?)([eE][-+]?[0-9]{1,9})?")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})


def value_of(node: Scalar) -> Value:
    """The scalar's value; infinities and not-a-number are floats here, to be refused by kind."""
    return node.text if node.quoted else plain_value(node.text)


def plain_value(text: str) -> Value:
    """What an unquoted scalar stands for."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF.fullmatch(text):
        return float(text.replace(".", "", 1))
    return float("nan") if text in _NAN else text


def is_empty(node: Node) -> bool:
    """Nothing, `null`, or a string of blanks."""
    if not isinstance(node, Scalar):
        return False
    value = value_of(node)
    return value is None or (isinstance(value, str) and not value.strip())


def ambiguous(node: Node) -> bool | None:
    """What an unquoted yes, no, on or off would mean; None for everything else."""
    if isinstance(node, Scalar) and not node.quoted:
        return _AMBIGUOUS.get(node.text.lower())
    return None


def found(node: Node, *, secret: bool = False) -> Text:
    """What stands there, for a message: with its value, unless that may be a secret."""
    if isinstance(node, Mapping):
        return Text("a mapping")
    if isinstance(node, Sequence):
        return Text("a list")
    value = value_of(node)
    if value is None:
        return Text("nothing")
    if isinstance(value, str):
        return Text("a string") if secret else Text('the string "{value}"', {"value": shown(value)})
    if secret:
        return Text("a number")
    if isinstance(value, bool):
        return Text("the truth value {value}", {"value": shown(node.text)})
    return Text("the number {value}", {"value": shown(node.text)})
