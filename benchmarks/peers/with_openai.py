"""A loop with the openai SDK; nothing is kept. `variant: aiohttp` takes the SDK's own aiohttp client."""

from __future__ import annotations

import asyncio

import openai
from kit import records
from loop import drive, options


async def main() -> None:
    asked = options()
    http = openai.DefaultAioHttpClient() if asked["variant"] == "aiohttp" else None
    async with openai.AsyncOpenAI(base_url=asked["base_url"], api_key="x", http_client=http) as client:

        async def call(n: int) -> object:
            reply = await client.chat.completions.create(
                model=records.MODEL,
                max_tokens=records.MAX_TOKENS,
                messages=records.message(n, asked["body_bytes"]),
            )
            return reply.choices[0].message.content

        await drive(call, asked["concurrency"], asked["seconds"])


asyncio.run(main())
