"""Result files as arrays: for each line of a submission, where its result stands.

A service may return results in any order, twice, of lines that nobody sent, or not at all. What is no
result of a line, or its second one, is set aside in the quarantine file.
"""

from __future__ import annotations

import errno
import os
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from batch_inferd.lines import BLOCK, read_range, scan_lines
from batch_inferd.seams.files import sync, write_all
from batch_inferd.worker.batch.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_inferd.backends.batch.provider import ResultLine
    from batch_inferd.worker.batch.context import JobContext
    from batch_inferd.worker.batch.messages import Ranges, ResultFile

_CHECK_EVERY = 256  # lines
_KEY_CHARS = 20


class Expected:
    """The lines of a submission in the order of its packed file, by position from 0."""

    def __init__(self, ranges: Iterable[Ranges]) -> None:
        """For ranges that ascend."""
        self._first = array("q")
        self._last = array("q")
        self._position = array("q")
        self.count = 0
        for first, last in (pair for part in ranges for pair in part):
            if last < first or (self._last and first <= self._last[-1]):
                raise ValueError("the ranges of a submission do not ascend")
            self._first.append(first)
            self._last.append(last)
            self._position.append(self.count)
            self.count += last + 1 - first

    def position(self, key: str | None) -> int:
        """Of the line whose id this is; -1 where it is none of ours."""
        if key is None or key[:1] != "r" or key[1:2] == "0" or len(key) > _KEY_CHARS:
            return -1
        digits = key[1:]
        if not (digits.isascii() and digits.isdigit()):
            return -1
        number = int(digits)
        at = bisect_right(self._first, number) - 1
        if at < 0 or number > self._last[at]:
            return -1
        return self._position[at] + number - self._first[at]


class ResultIndex:
    """Where each result stands: 17 bytes a line of the submission, whatever the files hold."""

    def __init__(self, context: JobContext, expected: Expected, quarantine: str) -> None:
        self._context = context
        self._expected = expected
        self._files: list[tuple[int, str, Window]] = []
        self._file = array("b", b"\xff" * expected.count)  # -1: no result
        self._offset = array("q", bytes(8 * expected.count))
        self._length = array("q", bytes(8 * expected.count))
        self._aside = _Aside(context, quarantine)
        # Of an answer, escaped in a string at worst; what is longer would not be held in memory.
        self._limit = 2 * context.plan.max_response_bytes + 64 * 1024
        self.unknown = self.duplicate = self.unreadable = 0

    @property
    def quarantine(self) -> str | None:
        """The quarantine file's name, if there is anything in it."""
        return self._aside.name if self._aside.used else None

    @property
    def found(self) -> int:
        """How many lines have a result."""
        return self._expected.count - self._file.count(-1)

    def read_files(self, files: Iterable[ResultFile]) -> None:
        """Index all files, answers first. What is set aside is durable then.

        Raises OSError, JobCancelled.
        """
        for file in sorted(files, key=lambda file: file.kind != "output"):
            fd = self._context.directory.open(file.file, os.O_RDONLY)
            self._files.append((fd, file.file, Window(fd, file.file)))
            self._read_file(len(self._files) - 1)
        self._aside.finish()

    def _read_file(self, number: int) -> None:
        fd, _, window = self._files[number]
        decode = self._context.provider.decode_line
        position = self._expected.position
        for index, offset, length, blank in scan_lines(fd, start_of_input=True):
            if not index % _CHECK_EVERY:
                self._context.check()
            if blank:
                continue
            if length > self._limit:
                self.unreadable += 1
                self._aside.add(fd, offset, length)
                continue
            line = window.read(offset, length)
            try:
                at = position(decode(line).key)
            except ValueError:
                self.unreadable += 1
                self._aside.add(fd, offset, length)
                continue
            if at < 0:
                self.unknown += 1
                self._aside.add(fd, offset, length)
            elif self._file[at] >= 0 and not self._is_better(at, decode(line)):
                self.duplicate += 1
                self._aside.add(fd, offset, length)
            else:
                if self._file[at] >= 0:
                    self.duplicate += 1
                    self._aside.add(self._files[self._file[at]][0], self._offset[at], self._length[at])
                self._file[at] = number
                self._offset[at] = offset
                self._length[at] = length

    def _is_better(self, position: int, other: ResultLine) -> bool:
        """Whether a second result is an answer, and the first one is none: the answer was paid for."""
        first = self.result(position)
        return _is_answer(other) and not (first is not None and _is_answer(first))

    def result(self, position: int) -> ResultLine | None:
        """The result of a line; None where there is none. Raises OSError."""
        number = self._file[position]
        if number < 0:
            return None
        _, name, window = self._files[number]
        try:
            return self._context.provider.decode_line(
                window.read(self._offset[position], self._length[position])
            )
        except ValueError as error:
            raise OSError(errno.EIO, "the result file has changed while it was read", name) from error

    def close(self) -> None:
        """Give all files back."""
        for fd, _, _ in self._files:
            os.close(fd)
        self._files.clear()
        self._aside.close()


def _is_answer(result: ResultLine) -> bool:
    return result.body is not None and result.status is not None and 200 <= result.status < 300


class _Aside:
    """The quarantine file of a submission: raw lines. Each run of its collecting begins it anew."""

    def __init__(self, context: JobContext, name: str) -> None:
        self.name = name
        self.used = False
        self._directory = context.directory
        self._fd = -1
        self._directory.unlink(name)

    def add(self, fd: int, offset: int, length: int) -> None:
        """Copy a line that stands in `fd`. Raises OSError."""
        if not self.used:
            self._fd = self._directory.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            self.used = True
        end = offset + length
        while offset < end:
            data = read_range(fd, offset, min(BLOCK, end - offset))
            if not data:
                break
            offset += len(data)
            write_all(self._fd, data if offset < end else data + b"\n", self.name)

    def finish(self) -> None:
        """Make it durable. Raises OSError."""
        if self.used:
            sync(self._fd, self.name)
            self._directory.sync(self.name.rpartition("/")[0] or ".")

    def close(self) -> None:
        """Close it; nothing if it is closed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
