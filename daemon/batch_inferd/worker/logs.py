"""What the worker's events say in a task's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_inferd.worker.report import LogBuffer


# What `_line` has words for.
LOGGED = frozenset(
    {
        "attempt.failed",
        "attempt.not_sent",
        "attempt.cancelled",
        "record.failed",
        "answer.lost",
        "account.waiting",
        "account.back",
        "account.blocked",
        "lease.faulted",
        "lease.opened",
        "lease.sealed",
        "lease.released",
    }
)


class LogSubscriber:
    """Turns events into log records. Messages carry no secrets: they were redacted where they came in."""

    def __init__(self, log: LogBuffer) -> None:
        self._log = log

    def __call__(self, name: str, fields: dict[str, Any]) -> None:
        """An event; those that are nobody's news are left out."""
        line = _line(name, fields)
        if line is not None:
            level, message = line
            self._log.add(level, str(fields["task_id"]), fields.get("chunk"), message)


def _line(name: str, fields: dict[str, Any]) -> tuple[int, str] | None:
    match name:
        case "attempt.failed":
            where = f"line {fields['line']} attempt {fields['attempt']} failed"
            free = "no retry used up"
            cost = f"retry {fields['charged']} of {fields['allowed']}" if fields["charged"] else free
            then = f"next try in {fields['wait']:.1f} s" if fields["wait"] else "next try as soon as possible"
            return logging.WARNING, f"{where}: {fields['cls']}: {fields['message']}; {then} ({cost})"
        case "attempt.not_sent":
            return logging.WARNING, f"line {fields['line']} was not sent: network: {fields['message']}"
        case "attempt.cancelled":
            return (
                logging.WARNING,
                f"line {fields['line']} attempt {fields['attempt']} was given up in flight",
            )
        case "record.failed":
            return logging.ERROR, (
                f"line {fields['line']} failed after {fields['attempt']} attempts: "
                f"{fields['cls']}: {fields['message']}"
            )
        case "answer.lost":
            error = fields["error"]
            return (
                logging.ERROR,
                f"line {fields['line']} was answered, but that could not be recorded: {error}",
            )
        case "account.waiting":
            return logging.WARNING, f"waiting: {fields['text']}"
        case "account.back":
            return logging.INFO, "the service can be reached again"
        case "account.blocked":
            return logging.ERROR, f"nothing more is sent: {fields['code']}: {fields['message']}"
        case "lease.faulted":
            return logging.ERROR, f"the chunk's files failed: {fields['error']}"
        case "lease.opened" | "lease.sealed" | "lease.released":
            return logging.DEBUG, f"{name} {fields['lease']}: {fields['detail']}"
    return None
