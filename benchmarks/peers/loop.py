"""The frame of a peer: callers that go on until the time is up. It runs in the peer's environment."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def options() -> dict[str, Any]:
    """What kit/peers.py asks for: base_url, concurrency, seconds, records, body_bytes, folder, variant."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


def tell(records: int, seconds: float) -> None:
    """The answer to kit/peers.py."""
    print(json.dumps({"records": records, "seconds": seconds}))


async def drive(call: Callable[[int], Awaitable[object]], concurrency: int, seconds: float) -> None:
    """Makes calls, `concurrency` at a time, for `seconds`, and tells how many came back."""
    numbers = itertools.count()
    done = 0
    start = time.perf_counter()
    deadline = start + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            await call(next(numbers))
            done += 1

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    tell(done, time.perf_counter() - start)
