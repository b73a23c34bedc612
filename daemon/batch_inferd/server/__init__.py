"""The daemon's front door: accepting clients, frames, hello, dispatch."""

from batch_inferd.server.greeting import Identity
from batch_inferd.server.peer import Handler, Peer
from batch_inferd.server.server import Server

__all__ = ["Handler", "Identity", "Peer", "Server"]
