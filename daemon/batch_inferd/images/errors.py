"""What can be wrong with an image."""

from __future__ import annotations

from typing import Literal, get_args

Failure = Literal["image_missing", "image_invalid", "image_too_large", "image_unreadable"]
FAILURES: frozenset[str] = frozenset(get_args(Failure))


class ImageError(Exception):
    """An image cannot be sent; its message names it.

    `cls` is the class of the record's failure. `transient`: it is the network or the machine, and may go
    well later.
    """

    def __init__(self, cls: Failure, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.cls: Failure = cls
        self.transient = transient
