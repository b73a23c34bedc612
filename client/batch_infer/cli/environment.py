"""What a submit takes from the caller's environment: the values that the config names, and the proxies.

It is this shell's environment that counts, not that of the shell that happened to start the daemon.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_PROXIES = {"http": "http_proxy", "https": "https_proxy", "all": "all_proxy", "no": "no_proxy"}


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy settings as `{"http", "https", "all", "no"}`; absent ones are left out."""
    found = {key: environ.get(name) or environ.get(name.upper()) for key, name in _PROXIES.items()}
    return {key: value for key, value in found.items() if value}


def collect(
    names: Iterable[str], environ: Mapping[str, str], folders: Sequence[Path]
) -> tuple[dict[str, str], list[Text]]:
    """The values of `names`: from the environment, else from the first `.env` of `folders` that has it.

    The second part are warnings: a `.env` that was used and that others can read. An empty value counts
    as absent. Raises ConfigError for a `.env` that cannot be read.
    """
    wanted = list(dict.fromkeys(names))
    values = {name: environ[name] for name in wanted if environ.get(name)}
    warnings: list[Text] = []
    for folder in dict.fromkeys(folders):
        path = folder / ".env"
        missing = [name for name in wanted if name not in values]
        if not missing or not path.is_file():
            continue
        there = _read(path)
        found = {name: value for name in missing if (value := there.get(name))}
        values |= found
        if found and _others_can_read(path):
            warnings.append(
                Text(
                    "{path} holds a secret and can be read by others; run: chmod 600 {path}",
                    {"path": str(path)},
                )
            )
    return values, warnings


def _read(path: Path) -> dict[str, str | None]:
    from dotenv import dotenv_values

    try:
        return dotenv_values(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            Text("{path} cannot be read: {reason}", {"path": str(path), "reason": reason})
        ) from error


def _others_can_read(path: Path) -> bool:
    return os.name == "posix" and bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
