"""Reading a section: its known keys by their kinds, its unknown ones with a suggestion."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from batch_infer.protocol.text import Text
from batch_inferd.config import nodes
from batch_inferd.config.kinds import Kind, absent, wrong
from batch_inferd.config.problems import Position, Problems, shown
from batch_inferd.config.scalars import found

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Section:
    """A mapping with a fixed set of keys; a kind itself, so that sections nest.

    `homes` says of every key of the whole file in which section it belongs ("": the top level), for
    those that were indented into the wrong one.
    """

    kinds: Mapping[str, Kind]
    homes: Mapping[str, str] = field(default_factory=dict)

    def read(self, node: nodes.Node, key: str, problems: Problems) -> Any:
        """A dict of the values that are there and right; UNSET for an empty section."""
        if absent(node):
            return UNSET
        if not isinstance(node, nodes.Mapping):
            fix = Text('write it as lines of "key: value" below')
            problems.add(node.position, wrong(key, Text("a mapping"), found(node, secret=True), fix))
            return UNSET
        values: dict[str, Any] = {}
        for name, value in node.values.items():
            kind = self.kinds.get(name)
            if kind is None:
                problems.add(node.keys[name], self._unknown(name, key))
                continue
            read = kind.read(value, _join(key, name), problems)
            if read is not UNSET:
                values[name] = read
        return values

    def positions(self, node: nodes.Node, key: str = "") -> Iterator[tuple[str, Position]]:
        """Every key that stands in the file, with its place: a section's own, or the value's."""
        if not isinstance(node, nodes.Mapping):
            return
        for name, value in node.values.items():
            path = _join(key, name)
            kind = self.kinds.get(name)
            if isinstance(kind, Section):
                yield path, node.keys[name]
                yield from kind.positions(value, path)
            else:
                yield path, value.position
                if isinstance(value, nodes.Mapping):  # headers, and the fields of extra_body
                    yield from ((_join(path, below), item.position) for below, item in value.values.items())

    def places(self, key: str = "") -> Iterator[tuple[str, str]]:
        """Every key below with the section that it belongs in."""
        for name, kind in self.kinds.items():
            yield name, key
            if isinstance(kind, Section):
                yield from kind.places(_join(key, name))

    def _unknown(self, name: str, key: str) -> Text:
        params = {"key": shown(name), "section": key, "keys": ", ".join(self.kinds)}
        home = self.homes.get(name)
        if home == "":
            return Text('unknown key "{key}" in {section}; it belongs at the top level, unindented', params)
        if home is not None:
            return Text('unknown key "{key}" here; it belongs in {home}', {**params, "home": home})
        near = difflib.get_close_matches(name.lower(), self.kinds, n=1, cutoff=0.6)
        if near:
            return Text('unknown key "{key}"; did you mean "{near}"?', {**params, "near": near[0]})
        if key == "model":
            return Text('unknown key "{key}" in model; other request fields belong in extra_body', params)
        if key:
            return Text('unknown key "{key}" in {section}; known keys are {keys}', params)
        return Text('unknown key "{key}"; known keys are {keys}', params)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
