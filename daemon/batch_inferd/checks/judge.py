"""Judging answers by a schema that has regular expressions: in a process of its own.

While Python matches, no other thread of the process runs; and some expressions take years on some texts.
The process ends itself when an answer takes it too long, and another one judges the rest.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import subprocess
import sys
import traceback
import weakref
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError, from_wire
from batch_inferd.config.answer_schema import acceptor, unusable

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0  # for one answer
_END_S = 5.0
_TOO_LONG = "a pattern of the schema takes too long on it"
_TIMEOUT = 1  # what faulthandler exits with
_BUG = 3
_PATTERNS = ('"pattern"', '"patternProperties"')


def judge_of(schema: Any, path: str, patience: float = PATIENCE_S) -> Callable[[str], str | None]:
    """As `acceptor`; an answer on which a pattern takes longer than `patience` seconds is a wrong one."""
    accepts = acceptor(schema, path)
    text = json.dumps(schema)
    return Judge(schema, path, patience) if any(name in text for name in _PATTERNS) else accepts


class Judge:
    """Says what is wrong with an answer's text, one at a time. Its process ends with this object."""

    def __init__(self, schema: Any, path: str, patience: float) -> None:
        self._path = path
        self._first = json.dumps([schema, path, patience])
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, text: str) -> str | None:
        """See `acceptor`. Blocks. Raises InputError."""
        if self._process is None:
            self._process = self._start()
        told = self._ask(self._process, text)
        if told is None:
            status = _status(self._process)
            self._process = None
            if status != _TIMEOUT:
                raise unusable(self._path, f"its process ended with {status}")
            return _TOO_LONG
        answer = json.loads(told)
        if isinstance(answer, dict):
            raise from_wire(answer)
        return None if answer is None else str(answer)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "batch_inferd.checks.judge"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the daemon
        )
        weakref.finalize(self, _end, process)
        if self._ask(process, self._first, as_json=False) is None:
            raise unusable(self._path, f"its process ended with {_status(process)}")
        return process

    @staticmethod
    def _ask(process: subprocess.Popen[bytes], text: str, *, as_json: bool = True) -> bytes | None:
        """The line that the process answers; None when it has ended."""
        assert process.stdin is not None  # noqa: S101  a pipe, as `_start` made it
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write((json.dumps(text) if as_json else text).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        return process.stdout.readline() or None


def _end(process: subprocess.Popen[bytes]) -> int:
    """End it, whatever it does, and close its pipes; its exit status. May be called again."""
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    return process.wait()


def _status(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process that has closed its pipes."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    return _end(process)


def main() -> None:
    """The process: a schema comes, then answers; what is wrong with each goes back."""
    schema, path, patience = json.loads(sys.stdin.buffer.readline())
    accepts = acceptor(schema, path)
    with open(os.devnull, "w", encoding="ascii") as nowhere:
        _tell(None)
        for line in sys.stdin.buffer:
            # It needs no interpreter lock, which the match holds. It exits with _TIMEOUT.
            faulthandler.dump_traceback_later(patience, exit=True, file=nowhere)
            try:
                found: Any = accepts(json.loads(line))
            except InputError as error:
                found = error.to_wire()
            faulthandler.cancel_dump_traceback_later()
            _tell(found)


def _tell(value: Any) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001  whatever it is, its status must not look like that of a timeout
        traceback.print_exc()
        sys.exit(_BUG)
