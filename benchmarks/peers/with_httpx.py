"""A plain loop with httpx; nothing is kept. Its pool is as large as the number of calls in flight."""

from __future__ import annotations

import asyncio

import httpx
from kit import records
from loop import drive, options


async def main() -> None:
    asked = options()
    size = asked["concurrency"]
    limits = httpx.Limits(max_connections=size, max_keepalive_connections=size)
    headers = {"Authorization": "Bearer x"}
    async with httpx.AsyncClient(limits=limits, headers=headers, timeout=600, trust_env=False) as client:

        async def call(n: int) -> object:
            body = records.body(n, asked["body_bytes"])
            reply = await client.post(f"{asked['base_url']}/chat/completions", json=body)
            reply.raise_for_status()
            return reply.json()["choices"][0]["message"]["content"]

        await drive(call, size, asked["seconds"])


asyncio.run(main())
