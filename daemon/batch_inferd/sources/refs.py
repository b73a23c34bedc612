"""References of images as people write them, and as they stand in a canonical line."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from batch_inferd.sources import s3
from batch_inferd.sources.row import INVALID, BadRow
from batch_inferd.sources.text import unmarked

_AS_THEY_ARE = ("http://", "https://", "data:", "file://")
_WINDOWS = os.name == "nt"


class References:
    """Resolves references against a folder, which may be `s3://bucket/prefix`."""

    def __init__(self, folder: str) -> None:
        """`folder` is absolute, or "" where there is none."""
        self._folder = folder

    def resolve(self, text: str) -> str:
        """`file:///…`, `s3://…` (both percent-encoded), or a URL as it is. Raises BadRow.

        Nothing is looked at but whether a name with backslashes is really the name of a file.
        """
        try:
            if not text.isascii():
                text.encode("utf-8", "surrogateescape")
            return self._resolved(text)
        except ValueError as error:  # half of a character; brackets without an address in them; and so on
            reason = _short(str(getattr(error, "reason", error)))
            raise BadRow(INVALID, f"{_named(text)} cannot be used: {reason}") from error

    def _resolved(self, text: str) -> str:
        lower = text[:8].lower()
        if lower.startswith(_AS_THEY_ARE):
            if lower.startswith("file://") and not urlsplit(text).path.startswith("/"):
                raise BadRow(INVALID, f"{_named(text)} is no absolute file URL")
            return text
        if lower.startswith("s3://"):
            bucket, key = s3.split_url(text)
            if not bucket or not key:
                raise BadRow(INVALID, f"{_named(text)} names no bucket and key")
            return _object(bucket, key)
        if "\0" in text:
            raise BadRow(INVALID, f"{_named(text)} holds a zero character")
        if self._folder.startswith("s3://") and not os.path.isabs(text):
            bucket, prefix = s3.split_url(self._folder)
            return _object(bucket, str(PurePosixPath(prefix, text.replace("\\", "/"))))
        path = Path(self._folder, text)
        if not path.is_absolute():
            raise BadRow(INVALID, f"{_named(text)} is relative: set input.image_folder")
        if "\\" in text and not _WINDOWS and not os.path.exists(path):  # a name that is too long does not
            path = Path(self._folder, text.replace("\\", "/"))  # the table was made on Windows
        return path.as_uri()

    def all_of(self, column: str, cell: Any) -> list[str]:
        """Of a cell: a reference, a list of them, or a JSON list of them in a text. Raises BadRow."""
        if isinstance(cell, str):
            text = cell.strip()
            if not text.startswith("["):
                return [self.resolve(text)] if text else []
            try:
                cell = json.loads(text)
            except (ValueError, RecursionError):
                return [self.resolve(text)]  # a file may be called so
        if cell is None:
            return []
        items = cell if isinstance(cell, list) else [cell]
        if not all(isinstance(item, str) for item in items):
            raise BadRow(INVALID, f'the images in "{column}" are neither a reference nor a list of them')
        return [self.resolve(item.strip()) for item in items if item.strip()]


def _object(bucket: str, key: str) -> str:
    if not s3.is_bucket(bucket):
        raise BadRow(INVALID, f'"{_short(bucket)}" is no name of a bucket')
    return s3.reference(bucket, key)


def _named(text: str) -> str:
    """For a message: nothing that cannot be written in UTF-8."""
    return f'the image reference "{_short(text)}"'


def _short(text: str) -> str:
    return unmarked(text[:200])
