"""A JSON Schema that answers have to follow. The library that knows schemas is an extra."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.regular import open_regular
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

FACT = "answer_schema"  # the name of the schema in a task's config snapshot
_MOST = 4 * 2**20  # bytes of the file
_SHOWN = 200  # characters of what the schema says
_FENCE = "```"
_TOO_DEEP = "nested too deeply"
_SAMPLES = ("null", "0", '""', "[]", "{}")  # a schema that cannot judge these is of no use


def read_schema(path: str) -> Any:
    """The schema in a file, found good. Blocks.

    Raises InputError: the file cannot be read, is no schema, or the library is not installed.
    """
    values: dict[str, Any] = {"path": path}
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        values["reason"] = error.strerror or str(error)
        raise InputError(Text("the schema {path} cannot be read: {reason}", values)) from error
    if len(data) > _MOST:
        raise InputError(Text("the schema {path} is larger than {n} MiB", values | {"n": _MOST // 2**20}))
    try:
        schema = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        values["reason"] = str(error)
        raise InputError(Text("the schema {path} is no JSON: {reason}", values)) from error
    accepts = acceptor(schema, path)
    if _TOO_DEEP in map(accepts, _SAMPLES):  # it leads to itself
        raise unusable(path, "RecursionError")
    return schema


def acceptor(schema: Any, path: str) -> Callable[[str], str | None]:
    """What judges an answer's text: None where it follows the schema, else what is wrong with it.

    `path` names the schema in messages. Nothing is fetched for it: what it refers to must stand in it.
    Raises InputError, now or when it judges: it is no schema that can be applied, or the library is not
    installed.
    """
    try:
        import jsonschema  # noqa: PLC0415  an extra
        import referencing.exceptions  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            Text("a schema needs the package jsonschema, which is not installed"),
            hints=(Text("install it: pip install 'batch_infer[schema]'"),),
        ) from error
    values: dict[str, Any] = {"path": path}
    broken = (referencing.exceptions.Unresolvable, re.error)
    try:
        cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        values["reason"] = error.message[:_SHOWN]
        raise InputError(Text("{path} is no JSON Schema: {reason}", values)) from error
    except (*broken, RecursionError) as error:
        raise unusable(path, str(error)) from error
    validator = cls(schema, registry=referencing.Registry())

    def accepts(text: str) -> str | None:
        try:
            value = json.loads(bare(text))
        except (ValueError, RecursionError):
            return "no JSON"
        try:
            return _problem(validator, value)
        except RecursionError:
            return _TOO_DEEP
        except broken as error:
            raise unusable(path, str(error)) from error

    return accepts


def bare(text: str) -> str:
    """The text without the fence of Markdown that models put around JSON."""
    stripped = text.strip()
    if stripped.startswith(_FENCE) and stripped.endswith(_FENCE) and "\n" in stripped:
        return stripped[stripped.index("\n") : -len(_FENCE)]
    return stripped


def unusable(path: str, reason: str) -> InputError:
    """The error for a schema that cannot judge."""
    values = {"path": path, "reason": reason[:_SHOWN]}
    return InputError(Text("the schema {path} cannot be applied: {reason}", values))


def _problem(validator: Any, value: Any) -> str | None:
    for error in validator.iter_errors(value):
        return f"{error.json_path}: {error.message}"[:_SHOWN]
    return None
