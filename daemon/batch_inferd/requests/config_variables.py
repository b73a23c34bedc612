"""`config.variables`: which variables of the submitting shell a config wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from batch_inferd.config.load import parse_config
from batch_inferd.config.variables import variables
from batch_inferd.requests.params import data, string

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(_app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{variables: […]}`. Raises ConfigError with all problems of the file."""
    config = await asyncio.to_thread(parse_config, data(params, "config"), string(params, "path"))
    return {"variables": variables(config)}
