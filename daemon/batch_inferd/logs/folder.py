"""The folder that a config names for a task's log: an absolute path, there, and to be written to."""

from __future__ import annotations

import os

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text


def log_folder(name: str, base: str) -> str:
    """The absolute path of `name`, which counts from `base`; made, for the owner only, if it is missing.

    Blocks. Raises ConfigError where no log can be written.
    """
    path = os.path.normpath(os.path.join(base, os.path.expanduser(name)))
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        reason = "" if os.access(path, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(
            Text("logs cannot be written to {path}: {reason}", {"path": path, "reason": reason}),
            hints=(Text("name another folder: -log-dir DIR, or logging.dir in the config"),),
        )
    return path
