"""What stands in an answer's headers never costs the answer."""

from __future__ import annotations

import pytest
from pyreqwest.http import HeaderMap

from batch_inferd.backends.pyreqwest_transport import _Headers
from batch_inferd.worker.seen import Seen


class _Map(dict[str, str]):
    """As pyreqwest's map: a value that is no text raises where it is asked for."""

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        if value == "?":
            raise ValueError("not text")
        return value

    def get(self, name, default=None):
        try:
            return self[name]
        except KeyError:
            return default


def test_a_header_that_is_no_text_is_not_there():
    headers = _Headers(_Map({"x-served-by": "?", "x-ratelimit-limit-requests": "9", "x-ratelimit-odd": "?"}))
    assert dict(headers) == {"x-ratelimit-limit-requests": "9"}
    assert len(headers) == 1
    seen = Seen()
    seen.take_quota(headers)
    assert seen.quota == {"x-ratelimit-limit-requests": "9"}
    with pytest.raises(KeyError):
        headers["x-served-by"]


def test_the_real_map_is_read_alike():
    headers = _Headers(HeaderMap({"X-Request-Id": "r1", "Retry-After": "3"}))
    assert dict(headers) == {"x-request-id": "r1", "retry-after": "3"}
