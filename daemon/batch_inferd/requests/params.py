"""Taking values out of a request's parameters: each checked, with a plain error."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any

import msgspec

from batch_infer.protocol.errors import ProtocolError
from batch_infer.protocol.text import Text
from batch_inferd.tasks.submitting import Submission

PAGE_MAX = 1000
RANGES_MAX = 10_000


def string(params: dict[str, Any], name: str, default: str | None = None) -> str:
    """A string. Raises ProtocolError when it is absent (and has no default) or something else."""
    value = params.get(name, default)
    if not isinstance(value, str):
        raise ProtocolError(Text("the parameter {name} must be a string", {"name": name}))
    return value


def absolute(params: dict[str, Any], name: str) -> str:
    """An absolute path. Raises ProtocolError."""
    path = string(params, name)
    if not os.path.isabs(path):
        raise ProtocolError(Text("the parameter {name} must be an absolute path", {"name": name}))
    return path


def data(params: dict[str, Any], name: str) -> bytes:
    """Base64 bytes."""
    try:
        return base64.b64decode(string(params, name), validate=True)
    except binascii.Error as error:
        raise ProtocolError(Text("the parameter {name} must be base64", {"name": name})) from error


def strings(params: dict[str, Any], name: str) -> dict[str, str]:
    """An object of strings; empty when absent."""
    value = params.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ProtocolError(Text("the parameter {name} must be an object of strings", {"name": name}))
    return {str(key): v for key, v in value.items()}


def overrides(params: dict[str, Any]) -> dict[str, str | list[str]]:
    """The object `overrides`: strings and lists of strings by a config's keys; empty when absent."""
    try:
        return msgspec.convert(params.get("overrides") or {}, dict[str, str | list[str]])
    except msgspec.ValidationError as error:
        raise ProtocolError(
            Text("the parameter {name} must be an object of strings", {"name": "overrides"})
        ) from error


def ranges(params: dict[str, Any], name: str) -> list[tuple[int, int]] | None:
    """A list of [first, last] pairs of numbers from 1, at most 10,000; None when absent."""
    value = params.get(name)
    if value is None:
        return None
    try:
        found = msgspec.convert(value, list[tuple[int, int]])
    except msgspec.ValidationError:
        found = []
    if not 0 < len(found) <= RANGES_MAX or not all(0 < first <= last < 2**62 for first, last in found):
        raise ProtocolError(Text("the parameter {name} must be a list of pairs of numbers", {"name": name}))
    return found


def submission(params: dict[str, Any], input_path: str = "") -> Submission:
    """What `submit` and `resume -config` carry alike. Raises ProtocolError."""
    return Submission(
        config=data(params, "config"),
        config_path=string(params, "config_path"),
        env=strings(params, "env"),
        proxy=strings(params, "proxy"),
        input=input_path,
        settings=strings(params, "settings"),
        overrides=overrides(params),
        stdin=params.get("stdin"),
    )


def limit(params: dict[str, Any]) -> int:
    """How many rows of a page: 1 to 1,000."""
    value = params.get("limit", PAGE_MAX)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= PAGE_MAX:
        raise ProtocolError(Text("the parameter limit must be a number from 1 to {most}", {"most": PAGE_MAX}))
    return value
