"""A JSON Schema that answers have to follow. The library that knows schemas is an extra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN = 200  # characters of what the schema says
_FENCE = "```"


def load_schema(path: str) -> Callable[[str], str | None]:
    """What judges an answer's text: None where it follows the schema, else what is wrong with it.

    Blocks. Raises InputError: the file cannot be read, is no schema, or the library is not installed.
    """
    try:
        import jsonschema  # noqa: PLC0415  an extra
    except ImportError as error:
        raise InputError(
            Text("a schema needs the package jsonschema, which is not installed"),
            hints=(Text("install it: pip install 'batch_infer[schema]'"),),
        ) from error
    values = {"path": path}
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
        cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        cls.check_schema(schema)
    except OSError as error:
        raise InputError(
            Text(
                "the schema {path} cannot be read: {reason}",
                values | {"reason": error.strerror or str(error)},
            )
        ) from error
    except ValueError as error:
        raise InputError(
            Text("the schema {path} is no JSON: {reason}", values | {"reason": str(error)})
        ) from error
    except jsonschema.SchemaError as error:
        raise InputError(
            Text("{path} is no JSON Schema: {reason}", values | {"reason": error.message[:_SHOWN]})
        ) from error
    validator = cls(schema)

    def accepts(text: str) -> str | None:
        try:
            value = json.loads(bare(text))
        except (ValueError, RecursionError):
            return "no JSON"
        return _problem(validator, value)

    return accepts


def bare(text: str) -> str:
    """The text without the fence of Markdown that models put around JSON."""
    stripped = text.strip()
    if stripped.startswith(_FENCE) and stripped.endswith(_FENCE) and "\n" in stripped:
        return stripped[stripped.index("\n") : -len(_FENCE)]
    return stripped


def _problem(validator: Any, value: Any) -> str | None:
    for error in validator.iter_errors(value):
        return f"{error.json_path}: {error.message}"[:_SHOWN]
    return None
