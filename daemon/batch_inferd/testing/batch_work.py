"""The work on a batch: its requests are answered one after the other, a block at a time.

A block's results are appended to the batch's part files and synced; then the store commits its bill and
how far the files count. What a kill leaves beyond that is cut off, and done again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.seams.files import O_BINARY, O_CLOEXEC, sync, write_all
from batch_inferd.testing.batch_check import BLOCK_BYTES, BLOCK_LINES, decode_request, parser_of
from batch_inferd.testing.batch_render import LineWriter, dice_of
from batch_inferd.testing.batch_rows import Batch, Billed
from batch_inferd.testing.billing import billed, told
from batch_inferd.testing.errors import ApiError, server_error

if TYPE_CHECKING:
    from pathlib import Path

    from batch_inferd.testing.controls import Controls
    from batch_inferd.testing.faults import Faults


class Block(NamedTuple):
    """What a block has come to."""

    bills: list[Billed]
    columns: dict[str, Any]  # of the batch, as they are after it


class Work:
    """One batch being worked on; holds its files open."""

    def __init__(self, folder: Path, batch: Batch, controls: Controls, faults: Faults) -> None:
        """Go on where `batch` stands. Raises OSError."""
        parse = parser_of(batch.endpoint)
        if parse is None or batch.lines is None:
            raise ValueError(f"{batch.id} cannot be worked on")
        self._parse = parse
        self._number = batch.seq
        self._model = batch.model or ""
        self._controls = controls
        self._faults = faults
        self._writer = LineWriter(batch.seq, controls)
        self._partial = batch.outcome in ("expired", "cancelled")
        self._chancy = bool(controls.batch_missing_rate or controls.batch_error_rate)
        self._batch = batch
        self._open: list[int] = []
        self._input = (folder / batch.input_file).open("rb", buffering=1 << 20)
        self._input.seek(batch.done_bytes)
        try:
            self._output = self._part(folder / f"{batch.output_ref}.part", batch.output_bytes)
            self._errors = self._part(folder / f"{batch.error_ref}.part", batch.error_bytes)
        except OSError:
            self.close()
            raise

    def _part(self, path: Path, size: int) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | O_CLOEXEC | O_BINARY, 0o600)
        self._open.append(fd)
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)
        return fd

    def close(self) -> None:
        """Close the files."""
        self._input.close()
        while self._open:
            with suppress(OSError):
                os.close(self._open.pop())

    def do(self, target: int, created: int, undone: str = "") -> Block:
        """Work on requests up to number `target`, at most a block; `undone` ends them all with this code.

        Commit the block before the next one. Raises OSError.
        """
        batch = self._batch
        account = self._account_error()
        results: tuple[list[bytes], list[bytes]] = ([], [])  # for the output file, and the error file
        bills: list[Billed] = []
        done, line, position = batch.done, batch.done_line, batch.done_bytes
        completed, failed = batch.completed, batch.failed
        while done < target and done - batch.done < BLOCK_LINES and position - batch.done_bytes < BLOCK_BYTES:
            raw = self._input.readline()
            line += 1
            position += len(raw)
            if not raw:
                raise OSError(f"{batch.input_file} is shorter than it was")
            if raw.isspace():
                continue
            request = decode_request(raw)
            custom_id = request.custom_id
            code = undone or self._end_of(done)
            done += 1
            if code:
                if not self._controls.batch_silent_end:
                    results[1].append(self._writer.undone(line, custom_id, code))
                continue
            try:
                call = self._parse(bytes(request.body))
                if account is not None:
                    raise account
                if (error := self._faults.line_error(call.text)) is not None:
                    raise error
                if self._is_lost(line):
                    continue
            except ApiError as error:
                results[1].append(self._writer.refused(line, custom_id, error))
                failed += 1
                continue
            answer = billed(call.answer((self._number << 24) + line, created), call, self._controls)
            usage = answer["usage"]
            results[0].append(self._writer.answered(line, custom_id, told(answer, call, self._controls)))
            bills.append(Billed(usage["prompt_tokens"], usage.get("completion_tokens", 0), line))
            completed += 1
        sizes = [_append(fd, lines) for fd, lines in zip((self._output, self._errors), results, strict=True)]
        columns = {
            "done": done,
            "done_line": line,
            "done_bytes": position,
            "completed": completed,
            "failed": failed,
            "output_bytes": batch.output_bytes + sizes[0],
            "error_bytes": batch.error_bytes + sizes[1],
        }
        return Block(bills, columns)

    def committed(self, block: Block) -> Batch:
        """The block counts; the batch as it is now."""
        self._batch = self._batch._replace(**block.columns)
        return self._batch

    def _account_error(self) -> ApiError | None:
        try:
            self._faults.check_account(self._model)
        except ApiError as error:
            return error
        return None

    def _end_of(self, index: int) -> str:
        """The code of a request that the batch's end leaves undone: they lie between the others."""
        share = self._controls.batch_expire_share
        if not self._partial or int((index + 1) * share) > int(index * share):
            return ""
        return "batch_expired" if self._batch.outcome == "expired" else "batch_cancelled"

    def _is_lost(self, line: int) -> bool:
        """Whether a request gets no result at all. Raises ApiError for one that fails."""
        if self._controls.batch_no_output_file:
            raise server_error()
        if not self._chancy:
            return False
        dice = dice_of(self._controls, self._number, line)
        lost = dice.random() < self._controls.batch_missing_rate
        if dice.random() < self._controls.batch_error_rate and not lost:
            raise server_error()
        return lost


def _append(fd: int, lines: list[bytes]) -> int:
    """Write lines and sync them; their bytes."""
    if not lines:
        return 0
    data = b"".join(lines)
    write_all(fd, data)
    sync(fd)
    return len(data)
