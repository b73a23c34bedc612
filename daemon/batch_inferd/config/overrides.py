"""Keys of a config that a submit's command line may set: `-model`, `-start-row`, `-topic` and their like.

They are read by the config's own kinds, as if they had stood there. Unlike settings, they are part of
what makes a task the same, and no running task can change them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.config.keys import CONFIG
from batch_inferd.config.kinds import Kind, Number
from batch_inferd.config.nodes import Mapping as MappingNode
from batch_inferd.config.nodes import Node, Scalar, Sequence
from batch_inferd.config.problems import TOP, Position, Problems
from batch_inferd.config.scalars import plain_value
from batch_inferd.config.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = (
    "model.name",
    "lines_per_chunk",
    "input.prompt",
    "input.system",
    "input.image_folder",
    "input.start_row",
    "input.end_row",
    "input.topics",
    "input.iterations",
    "input.done",
    "input.patterns",
)
Overrides = dict[str, str | list[str]]


class _Given(Problems):
    """Problems of a command line: it has no lines and columns."""

    def add(self, position: Position, problem: Text) -> None:
        self._found.append((position, problem))

    def error(self) -> ConfigError:
        return ConfigError(
            Text("the command line has errors"), problems=tuple(problem for _, problem in self._found)
        )


def lay_over(root: MappingNode, given: Mapping[str, str | list[str]], problems: Problems) -> None:
    """Put `given`, by dotted keys, into a config's tree; what is wrong with it is a problem of the config."""
    for key, value in given.items():
        own = _Given("")
        if key not in KEYS:
            own.add(TOP, Text("{key} cannot be set on the command line", {"key": key}))
            problems.adopt(TOP, own.error())
            continue
        home, _, name = key.rpartition(".")
        kind = _kind(home, name)
        node = _node(kind, value)
        kind.read(node, key, own)
        if own:
            problems.adopt(TOP, own.error())
        else:
            _put(root, home, name, node)


def _kind(home: str, name: str) -> Kind:
    section = CONFIG.kinds[home] if home else CONFIG
    assert isinstance(section, Section)  # noqa: S101  as KEYS says
    return section.kinds[name]


def _node(kind: Kind, value: str | list[str]) -> Node:
    if isinstance(value, list):
        return Sequence(TOP, [Scalar(TOP, item, quoted=True) for item in value])
    return Scalar(TOP, value, quoted=not isinstance(kind, Number))


def _put(root: MappingNode, home: str, name: str, node: Node) -> None:
    section: Node | None = root.values.get(home) if home else root
    if section is None or (isinstance(section, Scalar) and plain_value(section.text) is None):
        section = root.values[home] = MappingNode(TOP)
        root.keys.setdefault(home, TOP)
    if isinstance(section, MappingNode):  # else the section itself is a problem
        section.values[name] = node
        section.keys.setdefault(name, TOP)
