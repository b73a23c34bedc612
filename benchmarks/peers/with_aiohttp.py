"""A plain loop with aiohttp; nothing is kept."""

from __future__ import annotations

import asyncio

import aiohttp
from kit import records
from loop import drive, options


async def main() -> None:
    asked = options()
    connector = aiohttp.TCPConnector(limit=asked["concurrency"])
    headers = {"Authorization": "Bearer x"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def call(n: int) -> object:
            body = records.body(n, asked["body_bytes"])
            async with session.post(f"{asked['base_url']}/chat/completions", json=body) as reply:
                reply.raise_for_status()
                return (await reply.json())["choices"][0]["message"]["content"]

        await drive(call, asked["concurrency"], asked["seconds"])


asyncio.run(main())
