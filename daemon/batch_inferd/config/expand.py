"""`${NAME}` in a config's strings: finding the names, and putting the values in. `$$` is a `$`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.config.problems import Position, Problems

_TOKEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})")
_ONE_NAME = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def names_in(text: str) -> list[str]:
    """The variables that a string uses, each once, in their order."""
    return list(dict.fromkeys(match["name"] for match in _TOKEN.finditer(text) if match["name"]))


def expand(text: str, env: Mapping[str, str]) -> str:
    """The string with its variables' values. Raises KeyError for one that `env` has not."""
    return _TOKEN.sub(lambda match: "$" if match["dollar"] else env[match["name"]], text)


def is_reference(text: str) -> bool:
    """Whether a string is one `${NAME}` and nothing else: then it holds no secret itself."""
    return bool(_ONE_NAME.fullmatch(text))


def check_references(text: str, key: str, position: Position, problems: Problems) -> bool:
    """Whether every `${` has a name and a `}`; the string is not repeated, it may hold a secret."""
    if "${" not in _TOKEN.sub("", text):
        return True
    broken = Text(
        '{key} has a "${{" without a name and a "}}"; write ${{NAME}} for a variable, $$ for a $',
        {"key": key},
    )
    problems.add(position, broken)
    return False
