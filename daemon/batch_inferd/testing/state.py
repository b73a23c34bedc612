"""The state directory: who may serve it (locks), and where its service listens (service.json, advisory)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import filelock
import msgspec

from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from pathlib import Path

BEACON_NAME = "service.json"
LOCK_NAME = "service.lock"
START_LOCK_NAME = "service.start.lock"


class Beacon(msgspec.Struct, frozen=True):
    """The content of service.json."""

    pid: int
    started: float  # the process's start time as psutil tells it, against reused pids
    port: int
    base_url: str  # "http://127.0.0.1:PORT/v1"
    version: str
    instance: str  # random, anew for each life


def make_state_dir(path: Path) -> Path:
    """The directory, there and absolute, for this user only. Raises OSError."""
    path = path.absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def read_beacon(state_dir: Path) -> Beacon | None:
    """What stands in service.json; None where there is none or it makes no sense."""
    try:
        return msgspec.json.decode((state_dir / BEACON_NAME).read_bytes(), type=Beacon)
    except (OSError, msgspec.DecodeError, UnicodeError):
        return None


def write_beacon(state_dir: Path, beacon: Beacon) -> None:
    """Put service.json (0600) into place, at once and whole. Raises OSError."""
    directory = Directory(state_dir)
    try:
        directory.write_atomic(BEACON_NAME, msgspec.json.encode(beacon))
    finally:
        directory.close()


def make_lock(state_dir: Path, name: str) -> filelock.BaseFileLock:
    """A lock of the state directory: LOCK_NAME (who serves) or START_LOCK_NAME (who starts a service)."""
    return filelock.FileLock(
        state_dir / name,
        mode=0o600,
        thread_local=False,
        fallback_to_soft=False,
        preserve_lock_file=True,
    )
