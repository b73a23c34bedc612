"""From a path to a spec, and from a spec to a source."""

from __future__ import annotations

import errno
import os

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.backends import rawjson
from batch_inferd.sources import files
from batch_inferd.sources.bytelines import MAX_LINE
from batch_inferd.sources.jsonl import PROMPT, no_lines
from batch_inferd.sources.s3access import S3Access
from batch_inferd.sources.spec import KINDS, Source, SourceSpec
from batch_inferd.sources.stream import Reader, Stream

_TABLES = ("csv", "tsv")
_KIND_OF_SUFFIX = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_SHOWN = 20  # tables that an error lists
_BOOKS = (
    (b"PK\x03\x04", Text("a zip archive or an Excel workbook")),
    (b"\xd0\xcf\x11\xe0", Text("an Excel workbook (.xls)")),
)


def detect(path: str, wanted: SourceSpec | None = None) -> SourceSpec:
    """What the file, folder or prefix at `path` is, by its suffix and head; the rest is as `wanted` has it.

    A folder in which one CSV or TSV file lies stands for that table, whose images are relative to the folder.
    `path` is absolute, or `s3://…`. A kind in `wanted` other than "" is not doubted, but its compression
    is looked at. Lists of topics are the caller's business. Asks no network. Raises InputError.
    """
    wanted = wanted or SourceSpec(kind="")
    if wanted.kind not in ("", *KINDS):
        raise InputError(
            Text('"{kind}" is no kind of input', {"kind": wanted.kind}),
            hints=(Text("known are: {kinds}", {"kinds": ", ".join(KINDS)}),),
        )
    kind, compression = wanted.kind, ""
    if path.startswith("s3://"):
        return msgspec.structs.replace(wanted, kind=_on_s3(path, kind), path=path, compression="")
    if kind in ("", *_TABLES) and os.path.isdir(path):
        path = _table_in(path) or path
    if not kind:
        kind, compression = _look(path, wanted)
    elif kind != "folder":
        compression = files.compression_of(path)
    return msgspec.structs.replace(wanted, kind=kind, path=path, compression=compression)


def open_source(spec: SourceSpec, s3: S3Access | None = None, longest: int = MAX_LINE) -> Source:
    """The source of a spec. Reads the head of a table, and asks no network.

    A line of JSON Lines with more than `longest` bytes is an error, and not held in memory as a whole.
    Raises InputError: missing file or extra, a template or column that does not fit, an empty range.
    """
    if (
        spec.start_row < 0
        or spec.iterations < 1
        or (spec.end_row is not None and spec.end_row <= spec.start_row)
    ):
        raise InputError(
            Text(
                "rows {start} to {end}, {iterations} times: that is nothing",
                {"start": spec.start_row, "end": spec.end_row, "iterations": spec.iterations},
            ),
            hints=(Text("the first row is 0, the end row is not taken any more, iterations are 1 or more"),),
        )
    return Stream(spec, _reader(spec, s3, longest))


def _reader(spec: SourceSpec, s3: S3Access | None, longest: int) -> Reader:
    """The modules are imported where they are needed: some bring large libraries."""
    if spec.kind in ("csv", "tsv"):
        from batch_inferd.sources.csvfile import CsvReader  # noqa: PLC0415

        return CsvReader(spec)
    if spec.kind == "parquet":
        from batch_inferd.sources.parquet import ParquetReader  # noqa: PLC0415

        return ParquetReader(spec)
    if spec.kind == "folder":
        from batch_inferd.sources.folder import FolderReader  # noqa: PLC0415

        return FolderReader(spec)
    if spec.kind == "s3":
        from batch_inferd.sources.bucket import BucketReader  # noqa: PLC0415

        return BucketReader(spec, s3 or S3Access())
    if spec.kind == "topics":
        from batch_inferd.sources.topics import TopicsReader  # noqa: PLC0415

        return TopicsReader(spec)
    from batch_inferd.sources.jsonl import ChatImagesReader, JsonlReader  # noqa: PLC0415

    return (ChatImagesReader if spec.kind == "chat_images" else JsonlReader)(spec, longest)


def _on_s3(path: str, kind: str) -> str:
    if kind not in ("", "s3") or files.split_suffix(path)[0] in _KIND_OF_SUFFIX:
        raise InputError(
            Text("{path}: only images are read from S3", {"path": path}),
            hints=(Text("fetch the file first, and give its path"),),
        )
    return "s3"


def _table_in(folder: str) -> str | None:
    """The path of the only CSV or TSV file in a folder, None without any. Raises InputError for several."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entry.name for entry in entries if _is_table(entry.name) and _is_file(entry))
    except OSError as error:
        raise files.unreadable(folder, error) from error
    if len(found) > 1:
        shown = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise InputError(
            Text(
                "{n} tables lie in the folder {path}: {names}",
                {"n": len(found), "path": folder, "names": shown},
            ),
            hints=(
                Text("name the one that is meant: {path}", {"path": os.path.join(folder, found[0])}),
                Text("or set input.format: folder, if the images of the folder are meant"),
            ),
        )
    return os.path.join(folder, found[0]) if found else None


def _is_table(name: str) -> bool:
    return not name.startswith(".") and _KIND_OF_SUFFIX.get(files.split_suffix(name)[0]) in _TABLES


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A link that leads nowhere, or back to itself, is none. Raises InputError where it cannot be told."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise files.unreadable(entry.path, error) from error


def _look(path: str, wanted: SourceSpec) -> tuple[str, str]:
    """Kind and compression of what is on this machine."""
    if os.path.isdir(path):
        return "folder", ""
    compression = files.compression_of(path)
    head = files.head(path, compression)
    for magic, what in _BOOKS:
        if head.startswith(magic):
            raise InputError(
                Text("{path} is {what}, which is not read", {"path": path, "what": what}),
                hints=(Text("in Excel: save as “CSV UTF-8”"),),
            )
    suffix = files.split_suffix(path)[0]
    if suffix in _IMAGES:
        raise InputError(
            Text("{path} is one image", {"path": path}),
            hints=(Text("give the folder that it is in, with input.patterns to choose from it"),),
        )
    found = "parquet" if head.startswith(b"PAR1") else _KIND_OF_SUFFIX.get(suffix)
    if found == "parquet" and compression:
        raise InputError(
            Text("{path} is compressed as a whole", {"path": path}), hints=(Text("unpack it first"),)
        )
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if found is None and begin.startswith(b"{"):
        found = "jsonl"
    if found is None:
        raise InputError(
            Text("{path}: its name does not say what kind of input it is", {"path": path}),
            hints=(
                Text("give it a suffix (.jsonl, .csv, .tsv, .parquet), or set input.format"),
                Text("known are: {kinds}", {"kinds": ", ".join(KINDS)}),
            ),
        )
    if found == "jsonl":
        if begin.startswith(b"["):
            raise no_lines(path)
        found = _kind_of_lines(head, wanted)
    return found, compression


def _kind_of_lines(head: bytes, wanted: SourceSpec) -> str:
    """Whether the lines are requests, or fields of which a prompt is made: by the first that can be read."""
    for line in head.split(b"\n"):
        try:
            names = rawjson.split_object(line.removeprefix(b"\xef\xbb\xbf"))
        except rawjson.InvalidJson:
            continue
        if wanted.messages_key in names or "body" in names:
            return "jsonl"
        return "chat_images" if PROMPT in names or wanted.prompt else "jsonl"
    return "jsonl"
