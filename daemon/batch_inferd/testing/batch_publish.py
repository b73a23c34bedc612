"""Makes the result files of a batch from its part files, with the disorder that was ordered."""

from __future__ import annotations

import array
import os
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.seams.files import Directory, read_at
from batch_inferd.testing.batch_render import LineWriter, dice_of
from batch_inferd.testing.file_rows import File

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_inferd.testing.batch_rows import Batch
    from batch_inferd.testing.controls import Controls

_BUFFER = 1 << 20


class Published(NamedTuple):
    """The result files: to be written down, and by their kind."""

    files: list[File]
    output: str | None
    errors: str | None


def publish(folder: Path, batch: Batch, controls: Controls, now: float) -> Published:
    """Put the result files into place; a second time it finds them there. Raises OSError."""
    files: dict[str, File] = {}
    for kind, ref, size in (
        ("output", batch.output_ref, batch.output_bytes),
        ("error", batch.error_ref, batch.error_bytes),
    ):
        part, final = folder / f"{ref}.part", folder / ref
        if not size and not (kind == "error" and controls.batch_empty_error_file):
            part.unlink(missing_ok=True)
            continue
        if part.exists() or not final.exists():
            _finish(part, final, batch, controls, kind)
        name = f"{batch.id}_{kind}.jsonl"
        files[kind] = File(0, ref, "batch_output", name, final.stat().st_size, None, now)
    directory = Directory(folder)
    try:
        directory.sync()
    finally:
        directory.close()
    output, errors = (files[kind].id if kind in files else None for kind in ("output", "error"))
    return Published(list(files.values()), output, errors)


def _finish(part: Path, final: Path, batch: Batch, controls: Controls, kind: str) -> None:
    if not part.exists():
        part.touch(mode=0o600)  # an empty error file
    disorder = (
        controls.batch_shuffle
        or controls.batch_duplicate_rate
        or controls.batch_unknown
        or controls.batch_crlf
        or controls.batch_no_final_newline
    )
    if not disorder:
        part.replace(final)
        return
    temporary = final.with_name(f"{final.name}.tmp")
    with part.open("rb") as source, temporary.open("wb", buffering=_BUFFER) as target:
        temporary.chmod(0o600)
        last = b""
        for line in _disordered(source.fileno(), batch, controls, kind):
            target.write(last)
            last = line[:-1] + b"\r\n" if controls.batch_crlf else line
        target.write(last.rstrip(b"\r\n") if controls.batch_no_final_newline else last)
        target.flush()
        os.fsync(target.fileno())
    temporary.replace(final)
    part.unlink()


def _disordered(source: int, batch: Batch, controls: Controls, kind: str) -> Iterator[bytes]:
    """The lines in the order wanted: some twice, some that nobody asked for."""
    dice = dice_of(controls, batch.seq, kind)
    starts, sizes = array.array("q"), array.array("q")
    with os.fdopen(source, "rb", closefd=False) as lines:
        position = 0
        for line in lines:
            for _ in range(2 if dice.random() < controls.batch_duplicate_rate else 1):
                starts.append(position)
                sizes.append(len(line))
            position += len(line)
    order = list(range(len(starts)))
    if kind == "output":
        order += [-1 - index for index in range(controls.batch_unknown)]
    if controls.batch_shuffle:
        dice.shuffle(order)
    writer = LineWriter(batch.seq, controls)
    for index in order:
        yield writer.unknown(-index) if index < 0 else read_at(source, sizes[index], starts[index])
