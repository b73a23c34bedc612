"""Which process is it? A pid alone is no answer, because pids are used again.

A process is named by its pid, the moment it started, and the boot it started in. On Linux the moment
is in clock ticks since the boot: it does not move when somebody sets the clock.
"""

from __future__ import annotations

import sys
from functools import cache

_LINUX = sys.platform.startswith("linux")


@cache
def boot_id() -> str:
    """An id of this boot of this machine."""
    if _LINUX:
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            pass  # /proc may be hidden; the time of the boot does as well
    import psutil

    return f"boot:{round(psutil.boot_time())}"


def start_token(pid: int) -> str | None:
    """When process `pid` started, as an opaque string; None when there is none or it is a zombie."""
    if pid <= 0:
        return None
    if _LINUX:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name in parentheses may hold anything, so the fields count from its last ")".
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError:
            pass  # hidden: psutil has other ways
        else:
            return None if fields[0] in (b"Z", b"X") else f"ticks:{int(fields[19])}"
    import psutil

    try:
        return f"time:{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


def is_running(pid: int, token: str) -> bool:
    """Whether the very process that once gave `token` still runs (in this boot)."""
    return bool(token) and start_token(pid) == token
