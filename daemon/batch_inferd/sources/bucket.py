"""Images of a bucket below a prefix, as S3 lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.sources import s3
from batch_inferd.sources.folder import FilePrompt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.sources.row import Row
    from batch_inferd.sources.spec import SourceSpec
    from batch_inferd.sources.stream import Place


class BucketReader:
    """The objects below `s3://bucket/folder`; `s3://bucket/folder/cat*` are those that begin so."""

    def __init__(self, spec: SourceSpec, access: s3.S3Access) -> None:
        """Asks nothing yet. Raises InputError for an address without a bucket."""
        self._url = spec.path
        self._access = access
        self._bucket, prefix = s3.split_url(spec.path)
        if not self._bucket:
            raise InputError(
                Text("{url} names no bucket", {"url": spec.path}), hints=(Text("write s3://bucket/prefix"),)
            )
        if not s3.is_bucket(self._bucket):
            raise InputError(
                Text('"{name}" is no name of a bucket', {"name": self._bucket}),
                hints=(Text("write s3://bucket/prefix"),),
            )
        if prefix.endswith("*"):
            self._prefix = prefix.removesuffix("*")
        else:
            self._prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._base = self._prefix[: self._prefix.rfind("/") + 1]  # what paths are relative to
        self._prompt = FilePrompt(spec, spec.path)

    def pin(self) -> dict[str, Any]:
        """Nothing: a bucket has no state that could be compared."""
        return {}

    def count(self) -> None:
        """Not cheaply known."""
        return

    def rows(self, first: int, place: Place | None) -> Iterator[Row]:
        """See `Reader.rows`. Raises InputError when nothing fits, S3Error."""
        index = first if place else 0
        after = self._base + place.path if place else ""
        found = bool(place)
        if place and place.inclusive:
            yield self._row(index, place.path)  # it was there, and a part of it is written
            index += 1
        for key, size in s3.list_objects(self._access, self._bucket, self._prefix, start_after=after):
            path = key.removeprefix(self._base)
            if not size or not self._prompt.wants(path.rpartition("/")[2]):
                continue  # an empty object stands for a folder
            found = True
            if index >= first:
                yield self._row(index, path)
            index += 1
        if not found:
            raise self._prompt.none_found(self._url)

    def _row(self, index: int, path: str) -> Row:
        return self._prompt.row(index, path, s3.reference(self._bucket, self._base + path))
