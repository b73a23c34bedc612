"""Hello: the secret first, compared in constant time, then the protocol.

Who does not know the secret learns nothing, not even that this is a batch_infer daemon.
"""

from __future__ import annotations

import hmac
from typing import Any, NamedTuple

from batch_infer.protocol import rpc
from batch_infer.protocol.errors import Incompatible
from batch_infer.protocol.text import Text


class Identity(NamedTuple):
    """What the daemon says of itself to a client that knows the secret. `started` is in unix seconds."""

    secret: str
    pid: int
    version: str
    started: float
    protocol: tuple[int, int] = (rpc.PROTOCOL_MIN, rpc.PROTOCOL_MAX)


class Stranger(Exception):  # noqa: N818  who, not what
    """The client did not say hello, or not with the secret: hang up without a word."""


def greet(message: dict[str, Any], identity: Identity) -> dict[str, Any]:
    """The result for a client's first message.

    Raises Stranger, or Incompatible: a client of ours, but of another protocol.
    """
    params = message.get("params")
    if message.get("method") != rpc.HELLO or not isinstance(params, dict):
        raise Stranger
    secret = params.get("secret")
    # Bytes, because compare_digest refuses text that is not ASCII.
    if not isinstance(secret, str) or not hmac.compare_digest(
        secret.encode("utf-8", "surrogatepass"), identity.secret.encode()
    ):
        raise Stranger
    lowest, highest = identity.protocol
    wanted = params.get("protocol")
    if not (isinstance(wanted, list) and len(wanted) == 2 and all(isinstance(n, int) for n in wanted)):
        raise Stranger
    common = min(highest, wanted[1])
    if common < max(lowest, wanted[0]):
        raise Incompatible(
            Text(
                "the daemon is batch_infer {daemon} and this command is {client}: they cannot talk",
                {"daemon": identity.version, "client": str(params.get("version", "?"))[:64]},
            ),
            data={"protocol": [lowest, highest], "version": identity.version},
        )
    return {
        "protocol": common,
        "version": identity.version,
        "pid": identity.pid,
        "started": identity.started,
    }
