"""What an input is: a file that is cut where it lies, or a source whose records are spooled first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.regular import open_regular
from batch_infer.protocol.text import Text
from batch_inferd.intake.source import starts_as_json
from batch_inferd.sources.open import detect
from batch_inferd.sources.spec import SourceSpec
from batch_inferd.sources.text import text_blocks

if TYPE_CHECKING:
    from batch_inferd.config.schema import Input

TOPICS = "topics"  # the input of a task whose topics stand in its config or on the command line
_LIST_SUFFIX = ".txt"
_LIST_BYTES = 16 * 2**20


def choose(path: str, given: Input, messages_key: str, base: str) -> SourceSpec | None:
    """The source at `path`, as the config's section `input` wants it; None for a plain JSON Lines file.

    Relative paths of the section count from the folder `base`. Blocks. Raises InputError.
    """
    spec = describe(path, given, messages_key, base)
    plain = spec.kind == "jsonl" and not spec.compression and not given.done
    whole = spec.start_row == 0 and spec.end_row is None and spec.iterations == 1
    return None if plain and whole else spec


def describe(path: str, given: Input, messages_key: str, base: str) -> SourceSpec:
    """As `choose`; a plain file is a source here as all others are."""
    wanted = SourceSpec(
        kind="" if given.format == "auto" else given.format,
        path=path,
        start_row=given.start_row,
        end_row=given.end_row,
        prompt=given.prompt,
        system=given.system,
        id_column=given.id_column,
        image_columns=given.image_columns,
        image_folder=from_config(given.image_folder, base),
        encoding=given.encoding,
        delimiter=given.delimiter,
        iterations=given.iterations,
        pattern=given.patterns,
        messages_key=messages_key,
    )
    topics = _topics(path, given, base)
    if topics is not None:
        return msgspec.structs.replace(wanted, kind=TOPICS, path="", topics=topics)
    return detect(path, wanted)


def found_note(path: str, spec: SourceSpec) -> tuple[Text, ...]:
    """Which table was found, where the input at `path` is a folder."""
    if spec.kind not in ("csv", "tsv") or os.path.dirname(spec.path) != path.rstrip(os.sep):
        return ()
    values = {"path": spec.path}
    return (Text("the input is the table {path}; input.format: folder takes the images instead", values),)


def from_config(path: str | None, base: str) -> str | None:
    """A path that stands in a config: relative to the config's folder `base`. `s3://…` stays."""
    if path is None or path.startswith("s3://"):
        return path
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def _topics(path: str, given: Input, base: str) -> list[str] | None:
    """The topics, if that is what the input is."""
    if path == TOPICS and given.format in ("auto", TOPICS):
        listed = from_config(given.topics_file, base)
        return given.topics if listed is None else _lines(listed, given.encoding)
    if given.format == TOPICS or (
        given.format == "auto" and path.lower().endswith(_LIST_SUFFIX) and not starts_as_json(path)
    ):
        return _lines(path, given.encoding)
    return None


def _lines(path: str, encoding: str | None) -> list[str]:
    """The lines of a small text file that have something in them."""
    try:
        if os.path.getsize(path) > _LIST_BYTES:
            raise InputError(
                Text(
                    "the list of topics {path} has more than {n} MiB", {"path": path, "n": _LIST_BYTES >> 20}
                )
            )
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(_LIST_BYTES)
    except OSError as error:
        raise InputError(
            Text(
                "the input {path} cannot be read: {error}",
                {"path": path, "error": error.strerror or str(error)},
            )
        ) from error
    text = "".join(text_blocks(iter([data]), encoding, path))
    return [line.strip() for line in text.splitlines() if line.strip()]
