"""What decides the stream of a source, as data: the same spec on the same file gives the same lines."""

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003  msgspec and users of the protocol look at it
from typing import Any, Protocol

import msgspec

KINDS = ("jsonl", "chat_images", "csv", "tsv", "parquet", "folder", "s3", "topics")

IMAGE_PATTERNS = ("*.jpg", "*.jpeg", "*.png", "*.webp", "*.gif", "*.bmp", "*.tif", "*.tiff")


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A source and how it becomes requests. Storable as JSON; holds no secrets.

    Attributes:
        kind: one of `KINDS`.
        path: an absolute path, `s3://bucket/prefix`, or "" for topics.
        compression: "", "gz" or "zst".
        start_row: the first row that is taken, 0-based.
        end_row: the first row that is not taken any more; None takes all.
        prompt: the user's text, a template over columns: `{column}`; `{{` and `}}` are braces.
        system: the system's text, a template likewise.
        id_column: the column that gives the custom_id; else it is the row number.
        image_columns: columns of image references.
        image_folder: what relative references are relative to; else the source's own folder.
        encoding: of the text; None looks at it (BOM, UTF-8, GB18030).
        delimiter: between the cells of a CSV; None looks at it.
        topics: one record each, if the kind is topics.
        iterations: how often each row becomes a record.
        pattern: file names that are taken from a folder or a prefix; empty: `IMAGE_PATTERNS`.
        messages_key: the field that holds the conversation.
    """

    kind: str
    path: str = ""
    compression: str = ""
    start_row: int = 0
    end_row: int | None = None
    prompt: str | None = None
    system: str | None = None
    id_column: str | None = None
    image_columns: list[str] = []
    image_folder: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    topics: list[str] = []
    iterations: int = 1
    pattern: list[str] = []
    messages_key: str = "messages"


class Source(Protocol):
    """A source that is ready to be read. Its methods block."""

    def pin(self) -> dict[str, Any]:
        """What identifies the source now: path, device, inode, size, mtime_ns; of S3 and topics nothing."""

    def count(self) -> int | None:
        """How many records it has, if that is cheaply known. For progress bars."""

    @property
    def columns(self) -> list[str]:
        """The names of a table's columns; nothing for what is no table."""

    def records(self, start: int = 0, last: bytes | None = None) -> Iterator[bytes]:
        """Canonical lines without newline, from record `start` (0-based, of all that are emitted).

        With `last`, the last line that somebody has kept, it goes on behind that one, and `start` is not
        looked at: so it does when lines were filtered, and when files came or went in a folder or bucket.

        Raises InputError for what ends the source (a truncated archive), OSError for a failing disk.
        """

    def passed(self, last: bytes) -> int:
        """How many records were emitted up to the line `last`, with it, whoever kept them."""
