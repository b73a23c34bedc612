"""The thread that takes batches from state to state, all live ones in turn.

    created ─▶ validating ─┬─▶ in_progress ─┬─▶ finalizing ─▶ completed
                           └─▶ failed       └─▶ expired, cancelled, failed
    cancelling, from any of them that is not final ─▶ cancelled

The state on disk is all there is: whoever cancels writes it there, and what was being done in another
state does not count any more. A new life goes on from it.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from batch_inferd.testing import batch_rows
from batch_inferd.testing.batch_check import Check, Problem
from batch_inferd.testing.batch_publish import publish
from batch_inferd.testing.batch_store import StoreError
from batch_inferd.testing.batch_work import Work
from batch_inferd.testing.controls import Controls
from batch_inferd.testing.file_rows import add_file, is_deleted

if TYPE_CHECKING:
    import sqlite3

    from batch_inferd.seams.clock import Clock
    from batch_inferd.testing.batch_rows import Batch
    from batch_inferd.testing.batch_store import BatchStore
    from batch_inferd.testing.faults import Faults

_log = logging.getLogger(__name__)
_LOOK_S = 0.02  # how often waiting batches are looked at: the clock may jump, and controls may change
_LOOK_EACH_S = 0.0005  # very many of them are looked at less often
_FAILED_S = 1.0  # before something that could not be done is tried again
# Shares of a batch's latency at which it leaves a state.
_CREATED, _VALIDATED, _WORKED = 0.05, 0.1, 0.9


class _Live:
    """What is kept in memory for a live batch; it can be made anew at any time."""

    def __init__(self, batch: Batch) -> None:
        self.controls = msgspec.json.decode(batch.controls, type=Controls)
        self.check: Check | None = None
        self.work: Work | None = None
        self.not_before = 0.0  # monotonic

    @property
    def is_reading(self) -> bool:
        return self.check is not None and not self.check.ended

    def drop_check(self) -> None:
        if self.check is not None:
            self.check.close()
            self.check = None

    def drop_work(self) -> None:
        if self.work is not None:
            self.work.close()
            self.work = None

    def close(self) -> None:
        self.drop_check()
        self.drop_work()


class BatchRunner:
    """Works on the batches of a store."""

    def __init__(self, store: BatchStore, faults: Faults, clock: Clock) -> None:
        self._store = store
        self._faults = faults
        self._clock = clock
        self._live: dict[int, _Live] = {}
        self._wake = threading.Event()
        self._ending = False
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def start(self) -> None:
        """Begin, or go on where the last life was ended."""
        self._thread.start()

    def wake(self) -> None:
        """There is a new batch."""
        self._wake.set()

    def stop(self) -> None:
        """End after what is being done at the moment; blocks until then."""
        self._ending = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def idle_s(self) -> float:
        """Seconds since something was last done for a batch."""
        return time.monotonic() - self._last

    def _run(self) -> None:
        while not self._ending:
            self._wake.clear()
            try:
                pause = self._round()
            except StoreError as error:
                _log.error("batches cannot be gone on with: %s", error)
                pause = _FAILED_S
            if pause != 0:
                self._wake.wait(pause)
        for live in self._live.values():
            live.close()

    def _round(self) -> float | None:
        """A step for each live batch; seconds to wait then, None until woken. Raises StoreError."""
        batches = self._store.run(batch_rows.live_batches)
        numbers = {batch.seq for batch in batches}
        for number in [number for number in self._live if number not in numbers]:
            self._live.pop(number).close()
        busy = False
        for batch in batches:
            if self._ending:
                return 0
            busy |= self._try(batch)
        if busy:
            self._last = time.monotonic()
            return 0
        return _LOOK_S + len(batches) * _LOOK_EACH_S if batches else None

    def _try(self, batch: Batch) -> bool:
        live = self._live.get(batch.seq)
        if live is None:
            live = self._live[batch.seq] = _Live(batch)
        if time.monotonic() < live.not_before:
            return False
        try:
            return self._step(batch, live)
        except Exception:  # noqa: BLE001  one batch's trouble is not the others'
            _log.exception("%s cannot be gone on with", batch.id)
            live.drop_check()
            live.drop_work()
            live.not_before = time.monotonic() + _FAILED_S
            return False

    def _step(self, batch: Batch, live: _Live) -> bool:
        """Do the next thing for a batch; whether there was any."""
        now = self._clock.now()
        match batch.state:
            case "created":
                due = self._is_due(batch, live, batch.created + _CREATED * batch.latency, now)
                return due and self._enter(batch, "validating", now)
            case "validating":
                return self._validate(batch, live, now)
            case "in_progress":
                return self._work(batch, live, now)
            case "finalizing":
                due = self._is_due(batch, live, batch.created + batch.latency, now)
                return due and self._finish(batch, live, "completed", now)
            case _:
                return self._cancel(batch, live, now)

    def _is_due(self, batch: Batch, live: _Live, when: float, now: float) -> bool:
        return now >= when and not self._is_held(batch, live)

    def _is_held(self, batch: Batch, live: _Live) -> bool:
        shown = live.controls.first_state if batch.state == "created" else batch.state
        return self._faults.controls.batch_state_hold == shown

    def _enter(self, batch: Batch, state: str, now: float) -> bool:
        self._store.run(lambda database: batch_rows.enter(database, batch, state, now))
        return True

    def _validate(self, batch: Batch, live: _Live, now: float) -> bool:
        check = live.check
        if check is None:
            if any(other.is_reading for other in self._live.values()):
                return False  # one after the other: the ids of a file are kept in memory
            check = live.check = Check(self._store.folder / batch.input_file, batch.endpoint, live.controls)
            self._store.run(lambda database: batch_rows.forget_lines(database, batch))
        if not check.ended:
            listed = check.read_block()
            self._store.run(lambda database: batch_rows.add_lines(database, batch, listed))
            return True
        if not self._is_due(batch, live, batch.created + _VALIDATED * batch.latency, now):
            return False
        self._store.run(lambda database: self._judge(database, batch, check, now))
        live.drop_check()
        self._forget_input(batch)
        return True

    def _judge(self, database: sqlite3.Connection, batch: Batch, check: Check, now: float) -> None:
        """End the validation; runs in the store's thread, so that tokens are counted against a limit."""
        columns = {"model": check.model, "lines": check.lines}
        problems = _problems(batch, check)
        limit = self._faults.controls.max_enqueued_tokens
        if not problems and limit is not None:
            enqueued = batch_rows.enqueued_tokens(database, batch)
            if enqueued + check.tokens > limit:
                problems = [_token_limit(check.model, limit)]
        if problems:
            batch_rows.enter(database, batch, "failed", now, problems=_as_json(problems), **columns)
        else:
            batch_rows.enter(database, batch, "in_progress", now, tokens=check.tokens, **columns)

    def _work(self, batch: Batch, live: _Live, now: float) -> bool:
        lines = batch.lines or 0
        held = self._is_held(batch, live)
        if batch.outcome == "failed":
            due = self._is_due(batch, live, batch.created + batch.latency, now)
            return due and self._fail(batch, now)
        expired = now >= batch.expires and not held
        target = int(lines * self._faults.controls.batch_hold_share) if held else lines
        if batch.latency:
            share = (min(now, batch.expires) - batch.created) / batch.latency
            target = min(target, int(lines * (share - _VALIDATED) / (_WORKED - _VALIDATED)))
        elif expired:
            target = 0
        if batch.done < target:
            return self._do(batch, live, target, now)
        if expired:
            if batch.done < lines:
                return self._do(batch, live, lines, now, "batch_expired")
            return self._finish(batch, live, "expired", now)
        if held or batch.done < lines:
            return False
        if batch.outcome in ("expired", "cancelled"):
            due = now >= batch.created + batch.latency
            return due and self._finish(batch, live, batch.outcome, now)
        return now >= batch.created + _WORKED * batch.latency and self._enter(batch, "finalizing", now)

    def _fail(self, batch: Batch, now: float) -> bool:
        """The end of a batch that fails by itself; nothing was done for it."""
        problems = _as_json([Problem("server_error", "The batch failed: an error of the service.")])
        self._store.run(lambda database: batch_rows.enter(database, batch, "failed", now, problems=problems))
        self._forget_input(batch)
        return True

    def _do(self, batch: Batch, live: _Live, target: int, now: float, undone: str = "") -> bool:
        """A block of the batch's requests, and its bill."""
        work = live.work
        if work is None:
            work = live.work = Work(self._store.folder, batch, live.controls, self._faults)
        block = work.do(target, int(now), undone)
        if self._store.run(lambda database: batch_rows.bill(database, batch, block.bills, **block.columns)):
            work.committed(block)
        else:
            live.drop_work()  # it was cancelled meanwhile: what was just done is cut off
        return True

    def _cancel(self, batch: Batch, live: _Live, now: float) -> bool:
        live.drop_check()
        due = (batch.cancelling_at or 0.0) + self._faults.controls.batch_cancel_s
        if not self._is_due(batch, live, due, now):
            return False
        if batch.done < (batch.lines or 0):
            return self._do(batch, live, batch.lines or 0, now, "batch_cancelled")
        return self._finish(batch, live, "cancelled", now)

    def _finish(self, batch: Batch, live: _Live, state: str, now: float) -> bool:
        """The last state, with the result files."""
        live.drop_work()
        published = publish(self._store.folder, batch, live.controls, now)

        def end(database: sqlite3.Connection) -> None:
            columns = {"output_file": published.output, "error_file": published.errors}
            if batch_rows.enter(database, batch, state, now, **columns):
                for file in published.files:
                    add_file(database, file)

        self._store.run(end)
        self._forget_input(batch)
        return True

    def _forget_input(self, batch: Batch) -> None:
        """Remove the input's bytes if it was deleted while they were needed."""

        def is_over(database: sqlite3.Connection) -> bool:
            now = batch_rows.find_batch(database, batch.id)
            return now is not None and now.ended is not None and is_deleted(database, batch.input_file)

        if self._store.run(is_over):
            with suppress(FileNotFoundError):
                (self._store.folder / batch.input_file).unlink()


def _problems(batch: Batch, check: Check) -> list[Problem]:
    """Why a batch fails at its validation."""
    if batch.outcome == "token_limit_exceeded":
        return [_token_limit(check.model, 2_000_000)]
    if batch.outcome == "validation_none":
        return [Problem("invalid_request", "The input file could not be validated.")]
    if check.problems:
        return check.problems
    invalid = check.invalid or ([1] if batch.outcome == "validation_lines" else [])
    message = "This request is not valid: a control of the test service says so."
    if invalid and check.controls.batch_invalid_unnamed:
        return [Problem("invalid_request", message)]
    return [Problem("invalid_request", message, line, "body.messages") for line in invalid]


def _as_json(problems: list[Problem]) -> str:
    return msgspec.json.encode([problem._asdict() for problem in problems]).decode()


def _token_limit(model: str | None, limit: int) -> Problem:
    return Problem(
        "token_limit_exceeded",
        f"Enqueued token limit reached for {model} in organization org-test. Limit: {limit:,} enqueued"
        " tokens. Please try again once some in_progress batches have been completed.",
    )
