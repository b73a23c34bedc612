"""YAML text as a tree that knows where everything stands.

The tree is built from PyYAML's events, not by its composer: depth is bounded before anything recurses,
aliases are counted as if written out, and only plain YAML is let in (no tags, no merge keys, one
document).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from batch_infer.protocol.text import Text
from batch_inferd.config.problems import TOP, Position, Problems, shown
from batch_inferd.config.syntax import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 64
# Characters and nodes together, aliases written out: as large as a file without aliases may be.
MAX_SIZE = 512 * 1024

_SURROGATE = re.compile("[\ud800-\udfff]")  # PyYAML's own parser lets their escapes through
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Scalar:
    """One value. `quoted` is true for every style but the plain one: then it is a string."""

    position: Position
    text: str
    quoted: bool
    size: int = 1
    height: int = 1


@dataclass
class Sequence:
    """A list."""

    position: Position
    items: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 1


@dataclass
class Mapping:
    """Keys with values. `keys` has each key's own position; of a key given twice, the first one stays."""

    position: Position
    values: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    size: int = 1
    height: int = 1


Node = Scalar | Sequence | Mapping


def parse(text: str, problems: Problems) -> Node | None:
    """The document's root, None for an empty one.

    Adds doubled keys, tags and merge keys to `problems` and goes on; raises ConfigError at what ends
    the reading: a syntax error, too much depth, too much from aliases.
    """
    return _Builder(text, problems).document()


class _Builder:
    def __init__(self, text: str, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        self._anchors: dict[str, Node] = {}
        self._events: Iterator[Any] = iter(())

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        self._events = yaml.parse(self._text, Loader=_LOADER)
        try:
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._fail(_position(event), Text("a second document begins here; keep only one"))
                elif isinstance(event, yaml.NodeEvent):
                    root = self._node(event, 1)
        except yaml.YAMLError as error:
            position, problem = explain(error, self._text)
            self._problems.add(position, problem)
            raise self._problems.error() from error
        if isinstance(root, Scalar) and not root.text and not root.quoted:
            return None
        return root

    def _node(self, event: Any, depth: int) -> Node:
        position = _position(event)
        if depth > MAX_DEPTH:
            deep = Text("values are nested more than {depth} levels deep; simplify it", {"depth": MAX_DEPTH})
            self._fail(position, deep)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            self._problems.add(position, Text("YAML tags (!…) are not supported; remove it, or use quotes"))
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            if _SURROGATE.search(event.value):
                self._problems.add(position, Text("half of a surrogate pair is no character; remove it"))
            node = Scalar(position, event.value, quoted=bool(event.style), size=1 + len(event.value))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(position, depth)
        else:
            node = self._mapping(position, depth)
        if node.size > MAX_SIZE:
            self._fail(position, Text("the aliases (*name) here multiply to far too much; write it out"))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, position: Position, depth: int) -> Sequence:
        node = Sequence(position)
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            item = self._node(event, depth + 1)
            node.items.append(item)
            _grow(node, item)
        return node

    def _mapping(self, position: Position, depth: int) -> Mapping:
        node = Mapping(position)
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            _grow(node, value)
            if not isinstance(key, Scalar):
                self._problems.add(key.position, Text("a key must be one word, found a list or a mapping"))
                continue
            _grow(node, key)
            self._put(node, key, value)
        return node

    def _put(self, node: Mapping, key: Scalar, value: Node) -> None:
        if key.text == "<<" and not key.quoted:
            self._problems.add(key.position, Text("merge keys (<<) are not supported; write the keys out"))
        elif key.text in node.keys:
            twice = Text(
                'the key "{key}" stands twice, on line {first} and on line {second}; keep one',
                {"key": shown(key.text), "first": node.keys[key.text][0], "second": key.position[0]},
            )
            self._problems.add(key.position, twice)
        else:
            node.keys[key.text] = key.position
            node.values[key.text] = value

    def _alias(self, event: Any, depth: int) -> Node:
        # The name is not shown: an unquoted password may begin with a star.
        position = _position(event)
        target = self._anchors.get(event.anchor)
        if target is None:
            star = Text(
                "a value that begins with * is a YAML alias, and there is none of that name; quote it"
            )
            self._problems.add(position, star)
            return Scalar(position, "*", quoted=True)
        if depth + target.height > MAX_DEPTH:
            deep = Text("values are nested more than {depth} levels deep; simplify it", {"depth": MAX_DEPTH})
            self._fail(position, deep)
        return target

    def _fail(self, position: Position, problem: Text) -> None:
        self._problems.add(position, problem)
        raise self._problems.error()


def _grow(parent: Sequence | Mapping, child: Node) -> None:
    parent.size += child.size
    parent.height = max(parent.height, child.height + 1)


def _position(event: Any) -> Position:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else TOP
