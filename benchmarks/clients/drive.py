"""One client in a process of its own: makes calls and prints their rate as JSON.

    python benchmarks/clients/drive.py CLIENT URL CALLS CONCURRENCY

CLIENT is `http1` (the product's) or `aiohttp`, through the transport; or `plain pyreqwest`, with nothing of
ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import records

from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.transport import Target
from batch_inferd.loops import loop_factory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call = Callable[[], Awaitable[int]]
    Close = Callable[[], Awaitable[None]]

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer x"}
WARM_UP = 0.1  # of the calls, made before the clock starts


def _client(client: str, url: str) -> tuple[Call, Close]:
    body = json.dumps(records.body(0, records.KB)).encode()
    if client == "plain pyreqwest":
        from pyreqwest.client import ClientBuilder

        plain = ClientBuilder().no_proxy().default_headers(HEADERS).build()

        async def bare() -> int:
            response = await plain.post(url).body_bytes(body).build().send()
            await response.bytes()
            return response.status

        return bare, plain.close
    transport: Any
    if client == "aiohttp":
        from clients.aiohttp_transport import AiohttpTransport

        transport = AiohttpTransport()
    else:
        from batch_inferd.backends.http1_transport import Http1Transport

        transport = Http1Transport()
    target = Target(url, HEADERS, Timeouts(), None, 64 * records.MB)

    async def call() -> int:
        return int((await transport.post(target, body)).status)

    return call, transport.close


async def _drive(client: str, url: str, count: int, concurrency: int) -> dict[str, float]:
    call, close = _client(client, url)

    async def caller(numbers: Any) -> None:
        for _ in numbers:
            if await call() != 200:
                raise RuntimeError("the endpoint did not answer 200")

    async def run(calls: int) -> None:
        numbers = iter(range(calls))
        await asyncio.gather(*(caller(numbers) for _ in range(concurrency)))

    await run(max(concurrency, int(count * WARM_UP)))
    begun, cpu = time.perf_counter(), time.process_time()
    await run(count)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    await close()
    return {
        "per_s": round(count / took),
        "cpu_us": round(cpu / count * 1e6, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    client, url, count, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        print(json.dumps(runner.run(_drive(client, url, count, concurrency))))
        sys.stdout.flush()
        os._exit(0)  # as a worker ends: a client's thread is not asked to stop


if __name__ == "__main__":
    main()
