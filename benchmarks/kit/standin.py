"""A small static server, for machines without nginx: `python standin.py PORT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aiohttp import web

from kit.endpoint import SIZES
from kit.records import answer


async def serve(port: int) -> None:
    answers = {f"/{size}/v1/chat/completions": answer(size) for size in SIZES}

    async def handler(request: web.BaseRequest) -> web.Response:
        while await request.content.readany():
            pass
        found = answers.get(request.path.removeprefix("/read"))
        if found is None:
            return web.Response(status=404)
        return web.Response(body=found, content_type="application/json")

    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
