"""What the files of a chunk are called. Names are relative to the task's folder, with `/`.

A journal whose lease begins with `BACK` holds records that take answers back. Those come first in every
list: what they void must be known before the rest is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.seams.files import Directory

BACK = "back-"
_JOURNAL = re.compile(r"chunk_([0-9]{7,})\.([0-9A-Za-z_-]+)\.jsonl")


def chunk_folder(chunk: int) -> str:
    """The folder of chunk n (1-based): a thousand chunks each."""
    return f"{(chunk - 1) // 1000:04d}"


def chunk_name(chunk: int) -> str:
    """The chunk's own lines: an exact slice of the input."""
    return f"{chunk_folder(chunk)}/chunk_{chunk:07d}.jsonl"


def journal_name(chunk: int, lease: str) -> str:
    """The journal that one lease writes; `lease` is hex."""
    return f"{chunk_folder(chunk)}/chunk_{chunk:07d}.{lease}.jsonl"


def quarantine_name(chunk: int) -> str:
    """The list of damaged lines that were found in the chunk's journals."""
    return f"{chunk_folder(chunk)}/chunk_{chunk:07d}.quarantine"


def chunk_journals(directory: Directory, chunk: int) -> list[str]:
    """The journals of one chunk in the order to read them. Empty where there is no folder."""
    folder = chunk_folder(chunk)
    prefix = f"chunk_{chunk:07d}."  # a folder has thousands of names, and a lease begins many times a second
    names = [name for name in directory.listdir(folder) if name.startswith(prefix)]
    found = [f"{folder}/{name}" for name in sorted(names) if _JOURNAL.fullmatch(name)]
    return sorted(found, key=_comes_later)


def list_journals(directory: Directory, folder: str) -> dict[int, list[str]]:
    """The journals of a folder by chunk, each list in the order to read it. Empty where there is none."""
    found: dict[int, list[str]] = {}
    for name in sorted(directory.listdir(folder)):
        match = _JOURNAL.fullmatch(name)
        if match:
            found.setdefault(int(match[1]), []).append(f"{folder}/{name}")
    return {chunk: sorted(names, key=_comes_later) for chunk, names in found.items()}


def _comes_later(journal: str) -> bool:
    return not lease_of(journal).startswith(BACK)


class Listing:
    """The journals of chunk after chunk; a folder is listed once, or again after `forget`."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._folder = ""
        self._journals: dict[int, list[str]] = {}

    def of_chunk(self, chunk: int) -> list[str]:
        """In the order to read them. Raises OSError."""
        if chunk_folder(chunk) != self._folder:
            self._folder = chunk_folder(chunk)
            self._journals = list_journals(self._directory, self._folder)
        return self._journals.get(chunk, [])

    def forget(self) -> None:
        """Some journals may have come."""
        self._folder = ""


def lease_of(journal: str) -> str:
    """The lease that wrote a journal of this name."""
    return journal.rpartition("/")[2].split(".")[1]
