"""Which core does what, so that "on one core" is a fact and not a hope.

The measured process (our worker, a peer, wrk) has the last core to itself; the endpoint, the daemon and the
client run on the others. Where the system cannot say that, or there is one core only, nothing is placed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def allowed() -> list[int]:
    """The cores that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def measured() -> set[int]:
    """The last core, or nothing where there is no other one."""
    cores = allowed()
    return {cores[-1]} if len(cores) > 1 else set()


def others() -> set[int]:
    """All cores but the last, or nothing where there is no other one."""
    return set(allowed()[:-1])


def place(pid: int, cores: set[int]) -> None:
    """Puts all threads of a process on `cores`, and those that it starts later. An empty set: no change."""
    if not cores:
        return
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), cores)


@contextlib.contextmanager
def children_on(cores: set[int]) -> Iterator[None]:
    """Processes and threads that this thread starts meanwhile run on `cores`. An empty set: no change."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
