"""Is the workspace on a network file system? Locks and syncs are weaker there, so it is said aloud."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from pathlib import Path

_NETWORK = frozenset(
    {
        "9p",
        "acfs",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
        "sshfs",
        "vboxsf",
        "virtiofs",
        "webdav",
    }
)


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, in lower case; empty where it cannot be told."""
    real = os.path.realpath(path)
    best, found = "", ""
    try:
        mounts = psutil.disk_partitions(all=True)
    except OSError:
        return ""
    for mount in mounts:
        point = mount.mountpoint
        inside = real == point or real.startswith(point.rstrip(os.sep) + os.sep)
        # A later mount covers an earlier one at the same place.
        if inside and len(point) >= len(best):
            best, found = point, mount.fstype
    return found.lower().removeprefix("fuse.")


def network_warning(path: Path) -> Text | None:
    """What to tell the user about a workspace at `path`; None for a local disk."""
    kind = file_system(path)
    if kind not in _NETWORK:
        return None
    return Text(
        "the workspace {path} is on a network file system ({kind}): run it from one machine only, and "
        "prefer a local disk",
        {"path": str(path), "kind": kind},
    )
