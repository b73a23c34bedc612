"""The number of files that the daemon may have open: connections, journals and databases."""

from __future__ import annotations

import logging
import sys

WANTED = 65_536

_log = logging.getLogger(__name__)


def raise_open_files(wanted: int = WANTED) -> int:
    """Raise the soft limit to the hard one, to at most `wanted`; the limit as it is then (0: unknown)."""
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415  Unix only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft == resource.RLIM_INFINITY or soft >= target:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (OSError, ValueError) as error:
        _log.warning("the limit of %d open files cannot be raised: %s", soft, error)  # macOS has its own
        return soft
    return target
