"""Files with secrets that others can read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_inferd.config.expand import is_reference
from batch_inferd.services.credentials import NO_PASSWORD, PLACEHOLDER
from batch_inferd.services.masking import is_secret_key

if TYPE_CHECKING:
    from pathlib import Path

    from batch_inferd.config.schema import Config


def readable_by_others(path: Path | str) -> bool:
    """Whether the group or everybody may read the file; False on Windows, and where there is no file."""
    if os.name != "posix":
        return False
    try:
        return bool(os.stat(path).st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def has_literal_secret(config: Config) -> bool:
    """Whether the config itself holds a password, or a header such as Authorization, and no reference."""
    model = config.model
    password = model.password
    if (
        password
        and password != PLACEHOLDER
        and password.lower() != NO_PASSWORD
        and not is_reference(password)
    ):
        return True
    secret = config.input.s3.secret_access_key
    if secret is not None and not is_reference(secret):
        return True
    return any(is_secret_key(name) and not is_reference(value) for name, value in model.headers.items())


def permission_warnings(
    config: Config, config_path: Path | str, env_path: Path | str | None
) -> tuple[Text, ...]:
    """A warning for a config with a literal secret, and for a `.env`, that others can read."""
    risky = [config_path] if has_literal_secret(config) else []
    if env_path is not None:
        risky.append(env_path)
    return tuple(
        Text("{path} holds a secret and can be read by others; run: chmod 600 {path}", {"path": str(path)})
        for path in risky
        if readable_by_others(path)
    )
