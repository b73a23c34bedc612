"""What stands in an answer's headers never costs the answer."""

from __future__ import annotations

import pytest

from batch_inferd.backends.headers import Headers
from batch_inferd.worker.seen import Seen


def test_a_header_that_is_no_text_is_not_there():
    odd = {b"x-served-by": b"\xff", b"x-ratelimit-odd": b"caf\xe9", b"x-\xff": b"1"}
    headers = Headers({**odd, b"x-ratelimit-limit-requests": b"9"})
    assert dict(headers) == {"x-ratelimit-limit-requests": "9"}
    assert len(headers) == 1
    seen = Seen()
    seen.take_quota(headers)
    assert seen.quota == {"x-ratelimit-limit-requests": "9"}
    for name in ("x-served-by", "x-absent", "\xff"):
        assert headers.get(name) is None
        with pytest.raises(KeyError):
            headers[name]
