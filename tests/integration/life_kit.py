"""A workspace with the fake daemon in it, and how tests reach, start, end and look at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from batch_infer import launch, spawn
from batch_infer.protocol import beacon
from batch_infer.protocol.workspace import Workspace
from harness import wait_for

HERE = Path(__file__).parent


class Place:
    """One workspace; `start` is what any client does."""

    def __init__(self, root, tmp_path):
        self.workspace = Workspace(root)
        self.root = root
        self.clock = tmp_path / "clock"
        self.offset = 0.0

    def start(self, **options):
        return launch.connect_or_start(self.workspace, **options)

    def existing(self, **options):
        return launch.connect_existing(self.workspace, **options)

    def beacon(self):
        return beacon.read(self.workspace.beacon)

    def make(self, name):
        (self.root / name).touch()

    def lines(self, name):
        path = self.root / name
        return path.read_text().split() if path.exists() else []

    def wait_for_file(self, name):
        wait_for(lambda: self.lines(name), name)

    def advance(self, seconds):
        """Move the daemon's clock (it must run under `moving_clock`)."""
        self.offset += seconds
        temporary = self.clock.with_suffix(".new")
        temporary.write_text(str(self.offset))
        os.replace(temporary, self.clock)

    def log(self):
        return "\n".join(path.read_text() for path in sorted(self.workspace.logs.glob("*.log")))

    def run_foreground(self, *args):
        """The daemon by hand, as systemd would."""
        return subprocess.Popen(
            [sys.executable, "-m", "fake_daemon", "--workspace", str(self.root), *args],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def daemons(self):
        """All living daemon processes of this workspace."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if "fake_daemon" in words and str(self.root) in words:
                found.append(process)
        return found


def end(pid, number=signal.SIGKILL):
    """Signal a daemon and wait until it is gone."""
    process = psutil.Process(pid)
    process.send_signal(number)
    process.wait(20)


@pytest.fixture
def place(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(spawn, "MODULE", "fake_daemon")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    return Place(workspace, tmp_path)


@pytest.fixture
def moving_clock(place, monkeypatch):
    monkeypatch.setenv("BATCH_INFER_CLOCK_FILE", str(place.clock))
    place.advance(0)
    return place
