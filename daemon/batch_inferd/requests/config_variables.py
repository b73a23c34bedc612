"""`config.variables`: which variables of the submitting shell a config wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_inferd.config.load import parse_config
from batch_inferd.config.variables import S3_VARIABLES, variables
from batch_inferd.intake.choose import describe
from batch_inferd.requests.params import data, overrides, string

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.config.schema import Config
    from batch_inferd.server.peer import Peer


async def handle(_app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{variables: […]}`, for the input that is meant, if any. Raises ConfigError with all problems."""
    meant = string(params, "input", "") or None
    if params.get("config") is None:
        return {"variables": list(S3_VARIABLES)}  # what is prepared without a config
    own = overrides(params)
    config = await asyncio.to_thread(parse_config, data(params, "config"), string(params, "path"), None, own)
    storage = meant is not None and await asyncio.to_thread(_may_lead_away, meant, config)
    return {"variables": variables(config, storage=storage)}


def _may_lead_away(path: str, config: Config) -> bool:
    """Whether records of the input at `path` may refer to object storage; plain lines do not."""
    try:
        return describe(path, config.input, config.model.messages_key, "").kind != "jsonl"
    except InputError:
        return True  # what is wrong with it is told by whoever reads it
