"""Kinds with free keys: HTTP headers, and the fields of `extra_body`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

from msgspec import UNSET

from batch_infer.protocol.text import Text
from batch_inferd.config.kinds import String, absent, label, wrong
from batch_inferd.config.nodes import Mapping, Node, Scalar, Sequence
from batch_inferd.config.problems import Position, Problems, shown
from batch_inferd.config.scalars import ambiguous, found, value_of

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
# They belong to the HTTP client: another value would break the request.
_CLIENT_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_JSON_INT = range(-(2**63), 2**64)  # what every JSON library can carry
_MAPPING_FIX = Text('write it as lines of "key: value" below')


@dataclass(frozen=True)
class Headers:
    """HTTP headers: names with values, which may hold `${NAME}` and are never repeated in messages."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """A dict of str."""
        if absent(node) or not _is_mapping(node, key, problems):
            return UNSET
        headers: dict[str, str] = {}
        seen: dict[str, Position] = {}
        for name, value in node.values.items():
            at = node.keys[name]
            params = {"name": shown(name)}
            if not _HEADER_NAME.fullmatch(name):
                odd = Text('"{name}" cannot be the name of a header; use letters, digits and "-"', params)
                problems.add(at, odd)
            elif name.lower() in _CLIENT_HEADERS:
                problems.add(at, Text('the header "{name}" is set by the HTTP client; remove it', params))
            elif name.lower() in seen:
                lines = {"key": name, "first": seen[name.lower()][0], "second": at[0]}
                twice = Text(
                    'the key "{key}" stands twice, on line {first} and on line {second}; keep one', lines
                )
                problems.add(at, twice)
            seen.setdefault(name.lower(), at)
            text = String(secret=True, references=True).read(value, f"{key}.{shown(name)}", problems)
            if text is not UNSET:
                headers[name] = text
        return headers


@dataclass(frozen=True)
class Body:
    """Fields that go into the request's body as they are: a mapping of anything that JSON can hold."""

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """A dict of plain JSON values."""
        if absent(node) or not _is_mapping(node, key, problems):
            return UNSET
        for name in ("messages", "input"):
            if name in node.values:
                params = {"key": label(key), "name": name}
                taken = Text("{key} cannot hold {name}: it comes from the input lines; remove it", params)
                problems.add(node.keys[name], taken)
        stream = node.values.get("stream")
        if isinstance(stream, Scalar) and value_of(stream) is True:
            problems.add(stream.position, Text("answers cannot be streamed here; remove stream"))
        return _json(node, label(key), problems)


def _is_mapping(node: Node, key: str, problems: Problems) -> TypeGuard[Mapping]:
    """Whether it is one; if not, that is a problem."""
    if isinstance(node, Mapping):
        return True
    problems.add(node.position, wrong(key, Text("a mapping"), found(node, secret=True), _MAPPING_FIX))
    return False


def _json(node: Node, key: str, problems: Problems) -> Any:
    if isinstance(node, Mapping):
        return {name: _json(value, f"{key}.{shown(name)}", problems) for name, value in node.values.items()}
    if isinstance(node, Sequence):
        return [_json(item, key, problems) for item in node.items]
    value = value_of(node)
    meant = ambiguous(node)
    if meant is not None:
        words = {"key": key, "word": node.text, "value": "true" if meant else "false"}
        doubt = Text('{key} holds the bare word {word}; write {value}, or "{word}" if text is meant', words)
        problems.add(node.position, doubt)
    elif isinstance(value, float) and not math.isfinite(value):
        problems.add(node.position, Text("{key} must be a finite number: JSON has no other", {"key": key}))
    elif isinstance(value, int) and not isinstance(value, bool) and value not in _JSON_INT:
        big = Text("{key} is too big for a JSON number; put quotes around it", {"key": key})
        problems.add(node.position, big)
    return value
