"""The headers of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Headers(Mapping[str, str]):
    """By lower-case name, decoded when asked for. A value that is no text is not there."""

    __slots__ = ("_raw",)

    def __init__(self, raw: dict[bytes, bytes]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        try:
            return self._raw[name.encode()].decode("ascii")
        except UnicodeError:
            raise KeyError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        """As a mapping's, without an exception for what is not there: most of what is asked for is not."""
        raw = self._raw.get(name.encode())
        if raw is None or not raw.isascii():
            return default
        return raw.decode("ascii")

    def __iter__(self) -> Iterator[str]:
        for name, value in self._raw.items():
            if name.isascii() and value.isascii():
                yield name.decode()

    def __len__(self) -> int:
        return sum(1 for _ in self)
