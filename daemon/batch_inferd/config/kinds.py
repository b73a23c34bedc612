"""What a key's value may be: each kind reads a node, or says what is wrong with it.

`read` returns the value, or UNSET when there is none: an empty value is the same as no key (the
sections see to those that are required), and a wrong one was added to the problems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import UNSET

from batch_infer.protocol.text import Text
from batch_inferd.config.expand import check_references
from batch_inferd.config.nodes import Node, Scalar, Sequence
from batch_inferd.config.problems import Problems, shown
from batch_inferd.config.scalars import ambiguous, found, plain_value, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

REMOVE_QUOTES = Text("remove the quotes")
IN_RANGE = Text("write a value in this range")


class Kind(Protocol):
    """How one key is read."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The value, or UNSET; problems are added under the name that `label(key)` gives."""


def label(key: str) -> str:
    """A key as messages name it: as in the documentation, without the common `model.`."""
    return key.removeprefix("model.")


def wrong(key: str, expected: Text, what: Text, fix: Text) -> Text:
    """`temperature must be a number, found the string "0.6"; remove the quotes`."""
    return Text(
        "{key} must be {expected}, found {found}; {fix}",
        {"key": label(key), "expected": expected, "found": what, "fix": fix},
    )


def absent(node: Node) -> bool:
    """Nothing after the colon, `~` or `null`: the same as no key."""
    return isinstance(node, Scalar) and value_of(node) is None


def is_number(value: object) -> bool:
    """A number, infinity included; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def bound(value: float) -> str:
    """A limit as messages write it."""
    return f"{value:.15g}"


def write(example: str) -> Text:
    """The fix that shows what to write."""
    return Text("write {example}", {"example": example})


@dataclass(frozen=True)
class Number:
    """A number within bounds; `whole` for integers. `example` goes into the fix."""

    low: float
    high: float
    example: str
    whole: bool = False

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """An int when `whole`, else a float."""
        if absent(node):
            return UNSET
        value = value_of(node) if isinstance(node, Scalar) else None
        bounds = {"low": bound(self.low), "high": bound(self.high)}
        if not isinstance(value, int | float) or not is_number(value):
            expected = Text("a whole number") if self.whole else Text("a number")
            problem = wrong(key, expected, found(node), self._fix(value))
        elif self.whole and math.isfinite(value) and value != int(value):
            problem = wrong(key, Text("a whole number"), found(node), write(str(round(value))))
        elif self.whole and not self.low <= value <= self.high:
            problem = wrong(key, Text("a whole number from {low} to {high}", bounds), found(node), IN_RANGE)
        elif not self.low <= value <= self.high:
            problem = wrong(key, Text("a number from {low} to {high}", bounds), found(node), IN_RANGE)
        else:
            return int(value) if self.whole else float(value)
        problems.add(node.position, problem)
        return UNSET

    def _fix(self, value: object) -> Text:
        if isinstance(value, str):
            if is_number(plain_value(value.strip())):
                return REMOVE_QUOTES
            bare = value.replace("_", "").replace(",", "").replace(" ", "")
            if self.whole and bare.isascii() and bare.isdigit():
                return write(shown(bare))
        return Text("write a number such as {example}", {"example": self.example})


@dataclass(frozen=True)
class Boolean:
    """True or false; `yes` and its like are refused with the word to write."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """A bool."""
        if absent(node):
            return UNSET
        value = value_of(node) if isinstance(node, Scalar) else None
        if isinstance(value, bool):
            return value
        fix = Text("write true or false")
        meant = ambiguous(node)
        if meant is not None:
            fix = write("true" if meant else "false")
        elif isinstance(value, str) and isinstance(plain_value(value.strip()), bool):
            fix = REMOVE_QUOTES
        problems.add(node.position, wrong(key, Text("true or false"), found(node), fix))
        return UNSET


@dataclass(frozen=True)
class String:
    """One line of text. A bare number is taken as it is written; `secret` ones are never repeated."""

    secret: bool = False
    references: bool = False

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """A str without outer blanks; `${NAME}` in it is checked, not replaced, when `references`."""
        if absent(node):
            return UNSET
        if not isinstance(node, Scalar):
            fix = Text("write one value, in quotes")
            problems.add(node.position, wrong(key, Text("a string"), found(node), fix))
            return UNSET
        text = node.text.strip()
        if not text:
            blank = Text("{key} must not be empty; write a value, or remove the key", {"key": label(key)})
            problems.add(node.position, blank)
            return UNSET
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            params = {"key": label(key)}
            several = Text("{key} must be one line of text without control characters; rewrite it", params)
            problems.add(node.position, several)
            return UNSET
        if self.references and not check_references(text, label(key), node.position, problems):
            return UNSET
        return text


@dataclass(frozen=True)
class Choice:
    """One of a few words. `aliases` are other spellings; `example` goes into the fix, else the first."""

    options: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    example: str = ""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The word."""
        if absent(node):
            return UNSET
        if isinstance(node, Scalar):
            word = self.aliases.get(node.text, node.text)
            if word in self.options:
                return word
        expected = Text("one of {options}", {"options": ", ".join(self.options)})
        problems.add(node.position, wrong(key, expected, found(node), write(self.example or self.options[0])))
        return UNSET


@dataclass(frozen=True)
class Choices:
    """A list of a few words; a single one may stand without the list."""

    options: tuple[str, ...]

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The words, each once."""
        if absent(node):
            return UNSET
        items = node.items if isinstance(node, Sequence) else [node]
        words = [Choice(self.options).read(item, key, problems) for item in items]
        return list(dict.fromkeys(word for word in words if word is not UNSET))
