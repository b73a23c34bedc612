"""A bug in the worker: it goes the way of a failed write, and is told as what it is."""

from __future__ import annotations


class Bug(OSError):  # noqa: N818  what ends a lease is an OSError, or this
    """Ends a lease as a disk does that fails. The stack trace is logged where it is caught."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(None, repr(error))
