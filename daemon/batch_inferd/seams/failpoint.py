"""Failpoints: named places where a test can make the process exit, raise or stall.

Inert unless `BATCH_INFER_FAILPOINTS` names some: `name=action[@hit]`, joined by `;`. Actions: `exit`
(at once, as kill -9 would), `raise:ERRNO`, `stall:SECONDS`. `@3` fires at the third hit only; without
it, at each. With `BATCH_INFER_FAILPOINT_DIR`, a failpoint fires once in the life of that directory,
whichever process meets it, so that the restarted process lives.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from pathlib import Path

# Every failpoint of the code, so that a test can walk through all of them.
FAILPOINTS = frozenset(
    {
        "submit.folder_made",
        "submit.committed",
        "spool.written",
        "spool.committed",
        "prepare.begun",
        "prepare.written",
        "cut.written",
        "cut.committed",
        "lease.committed",
        "lease.sent",
        "call.sent",
        "call.answered",
        "journal.before_write",
        "journal.written",
        "index.written",
        "seal.synced",
        "seal.committed",
        "merge.staged",
        "publish.committed",
        "publish.renamed_one",
        "publish.renamed_all",
        "publish.done",
        "retry.carried_beside",
        "retry.committed",
        "retry.carried_one",
        "retry.carried_all",
        "export.chunk",
        "clean.outputs_set_aside",
        "repair.backed_up",
        "cancel.committed",
        "cancel.closed",
        "mend.config_written",
        "set.config_written",
        "adopt.committed",
        "batch.packed",
        "batch.pack_committed",
        "batch.uploaded",
        "batch.file_committed",
        "batch.intent_committed",
        "batch.create_sent",
        "batch.create_answered",
        "batch.id_committed",
        "batch.polled",
        "batch.state_committed",
        "batch.download_opened",
        "batch.download_half",
        "batch.downloaded",
        "batch.demultiplexed",
        "batch.journaled",
        "batch.collected",
        "batch.cancel_sent",
        "batch.cancel_committed",
        "batch.late_opened",
    }
)
EXIT_STATUS = 86

_hits: Counter[str] = Counter()
_lock = threading.Lock()


def _parse(spec: str) -> dict[str, tuple[str, int]]:
    plan: dict[str, tuple[str, int]] = {}
    for part in filter(None, spec.split(";")):
        name, _, action = part.partition("=")
        action, _, hit = action.partition("@")
        if name not in FAILPOINTS:
            raise ValueError(f"unknown failpoint {name!r}")
        plan[name] = (action, int(hit or 0))
    return plan


_plan = _parse(os.environ.get("BATCH_INFER_FAILPOINTS", ""))


def failpoint(name: str) -> None:
    """Do what was planned for `name`; without a plan, nothing. Raises OSError for `raise:ERRNO`."""
    if not _plan or name not in _plan:
        return
    action, hit = _plan[name]
    with _lock:
        _hits[name] += 1
        count = _hits[name]
    if hit and count != hit:
        return
    folder = os.environ.get("BATCH_INFER_FAILPOINT_DIR")
    if folder:
        try:
            (Path(folder) / f"{name}.fired").touch(exist_ok=False)
        except FileExistsError:
            return
    verb, _, value = action.partition(":")
    if verb == "exit":
        with contextlib.suppress(OSError):
            os.write(2, f"failpoint {name}: exit\n".encode())
        os._exit(EXIT_STATUS)
    if verb == "raise":
        raise OSError(int(value), f"{os.strerror(int(value))} (failpoint {name})")
    if verb == "stall":
        time.sleep(float(value))
