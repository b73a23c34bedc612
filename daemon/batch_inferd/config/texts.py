"""Kinds of the section `input`: running text, lists of text, one character, the name of an encoding."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from batch_infer.protocol.text import Text
from batch_inferd.config.kinds import String, absent, label, write, wrong
from batch_inferd.config.nodes import Node, Scalar, Sequence
from batch_inferd.config.scalars import found

if TYPE_CHECKING:
    from batch_inferd.config.problems import Problems

_TAB = frozenset({"tab", "\\t", "\t"})


@dataclass(frozen=True)
class Paragraphs:
    """Text of any number of lines, as it stands."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """A str."""
        if absent(node):
            return UNSET
        if isinstance(node, Scalar) and node.text.strip():
            return node.text
        fix = Text("write a text, in quotes or after |")
        problems.add(node.position, wrong(key, Text("a text"), found(node), fix))
        return UNSET


@dataclass(frozen=True)
class Strings:
    """A list of lines of text; a single one may stand without the list."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """A list of str."""
        if absent(node):
            return UNSET
        if isinstance(node, Scalar):
            node = Sequence(node.position, [node])
        if not isinstance(node, Sequence):
            fix = Text('write it as lines of "- text" below')
            problems.add(node.position, wrong(key, Text("a list"), found(node), fix))
            return UNSET
        texts = []
        for item in node.items:
            if absent(item):
                empty = Text("{key} has an empty item; remove it", {"key": label(key)})
                problems.add(item.position, empty)
                continue
            text = String().read(item, key, problems)
            if text is not UNSET:
                texts.append(text)
        return texts


@dataclass(frozen=True)
class Character:
    """What stands between two columns: one character, or the word tab."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """A str of one character."""
        if isinstance(node, Scalar) and node.text in _TAB:
            return "\t"
        if absent(node):
            return UNSET
        if isinstance(node, Scalar) and len(node.text) == 1 and node.text not in '"\r\n':
            return node.text
        problems.add(node.position, wrong(key, Text("one character, or tab"), found(node), write('";"')))
        return UNSET


@dataclass(frozen=True)
class Encoding:
    """The name of a text encoding that Python knows."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """The name as it is written."""
        if absent(node):
            return UNSET
        text = String().read(node, key, problems)
        if text is UNSET:
            return UNSET
        try:
            if codecs.lookup(text)._is_text_encoding:  # noqa: SLF001  the only place that tells
                return text
        except LookupError:
            pass
        problems.add(node.position, wrong(key, Text("an encoding"), found(node), write("utf-8")))
        return UNSET
