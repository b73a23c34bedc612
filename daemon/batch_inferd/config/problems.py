"""Where a config's values stand, and the problems that are found in it.

A position is `(line, column)`, both from 1, as editors count. A key is dotted: `model.max_tokens`.
"""

from __future__ import annotations

import re
from pathlib import PurePath

import msgspec

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text

Position = tuple[int, int]

TOP: Position = (1, 1)
MAX_PROBLEMS = 50  # all of them in one message that a person reads, and far below a frame's cap
_SHOWN = 60  # characters of a value that a message repeats


class Source(msgspec.Struct, frozen=True):
    """A file's name and the position of each key that stands in it.

    A section's position is that of its key, any other's that of its value. Empty for a config that
    came from a snapshot: its positions were never stored.
    """

    file: str = "config.yaml"
    positions: dict[str, Position] = {}

    def has(self, key: str) -> bool:
        """Whether the file itself sets `key`."""
        return key in self.positions

    def position(self, key: str) -> Position:
        """Where `key` stands; else its section; else the top of the file."""
        while key and key not in self.positions:
            key = key.rpartition(".")[0]
        return self.positions.get(key, TOP)


class Problems:
    """Collects problems of one file, to tell them all at once, in the file's order."""

    def __init__(self, path: str) -> None:
        self.file = file_name(path)
        self._found: list[tuple[Position, Text]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, position: Position, problem: Text) -> None:
        """Note a problem at a place in this file."""
        self._found.append((position, located(self.file, position, problem)))

    def adopt(self, position: Position, error: ConfigError) -> None:
        """Note what another file's reading found, in the order of the place that led there."""
        self._found += [(position, problem) for problem in error.problems]

    def error(self) -> ConfigError:
        """All of them as one error; at most MAX_PROBLEMS, with a word on the rest."""
        ordered = [text for _, text in sorted(self._found, key=lambda found: found[0])]
        problems = ordered[:MAX_PROBLEMS]
        if len(ordered) > MAX_PROBLEMS:
            rest = len(ordered) - MAX_PROBLEMS
            last = max(position for position, _ in self._found)
            problems.append(located(self.file, last, Text("and {count} more problems", {"count": rest})))
        return ConfigError(
            Text("the config file {file} has errors", {"file": self.file}), problems=tuple(problems)
        )

    def check(self) -> None:
        """Raise ConfigError when there are any."""
        if self._found:
            raise self.error()


def located(file: str, position: Position, problem: Text) -> Text:
    """`config.yaml:7:16: temperature must be a number, …`."""
    line, column = position
    return Text(
        "{file}:{line}:{column}: {problem}",
        {"file": file, "line": line, "column": column, "problem": problem},
    )


def problem_at(source: Source, key: str, problem: Text) -> ConfigError:
    """One problem with the value of `key`, as an error of its own."""
    problems = Problems(source.file)
    problems.add(source.position(key), problem)
    return problems.error()


def file_name(path: str) -> str:
    """The name that messages show: the file's own, without its folders."""
    return PurePath(path.replace("\\", "/")).name or path


def shown(value: str) -> str:
    """A value as one short line of a message."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda m: _escape(m[0]), value)
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
