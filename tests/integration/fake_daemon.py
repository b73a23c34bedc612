"""The real daemon process around a tiny application: run as `python -m fake_daemon` in batch_inferd's place.

It is steered by files in the workspace, and leaves files that tell what happened to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.lifecycle import lastresort
from batch_inferd.main import main


class App:
    """Remembers what was submitted; busy while something is."""

    def __init__(self, workspace, clock, events, logs):
        self.root = workspace.root
        self.clock = clock
        if self.told("fail-constructor"):
            raise ConfigError(Text("the thing {name} is broken", {"name": "X"}), hints=(Text("mend it"),))

    def told(self, name):
        return (self.root / name).exists()

    def tell(self, name):
        with (self.root / name).open("a") as file:
            file.write(f"{os.getpid()}\n")

    async def until(self, name):
        while not self.told(name):  # noqa: ASYNC110  another process makes the file
            await asyncio.sleep(0.01)

    @property
    def busy(self):
        return self.told("submitted") and not self.told("finished")

    @property
    def idle_exit_s(self):
        return 300.0 if self.told("short-idle") else None

    async def start(self):
        if self.told("slow-start"):
            await self.until("go-on")
        if self.told("fail-start"):
            raise OSError("the recovery failed")
        self.tell("started")

    async def drain(self):
        self.tell("draining")
        if self.told("slow-drain"):
            await self.until("go-on")
        self.tell("drained")

    async def stop(self):
        with contextlib.suppress(FileNotFoundError):
            self.tell("stopped")

    def handlers(self):
        return {"list": self.list, "submit": self.submit, "wait": self.wait, "hang": self.hang}

    async def list(self, params, peer):
        return {"pid": os.getpid(), "files": len(os.listdir("/proc/self/fd"))}

    async def submit(self, params, peer):
        self.tell("submitted")
        return {"pid": os.getpid()}

    async def wait(self, params, peer):
        self.tell("waiting")
        await self.until("go-on")
        return {}

    async def hang(self, params, peer):
        """As on a disk that is gone: no cancelling helps."""
        lastresort.END_S = 1.0
        self.tell("hanging")
        await asyncio.to_thread(threading.Event().wait)

    def status(self):
        return {"tasks": {}, "extra": "of the application"}


if __name__ == "__main__":
    sys.exit(main(make_app=App))
