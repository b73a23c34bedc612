"""Memory (PSS) and CPU seconds of processes, sampled while they run."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from kit import cores

if TYPE_CHECKING:
    from collections.abc import Callable

    Found = list[tuple[str, psutil.Process]]

EVERY_S = 0.1


def pss(process: psutil.Process) -> int:
    """Bytes of this process, with its part of what it shares (PSS); RSS where the kernel tells no PSS."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(process.memory_info().rss)


def of_workspace(workspace: Path) -> Callable[[], Found]:
    """The daemon and the workers of a workspace, as they are now."""

    def find() -> Found:
        beacons = [("daemon", workspace / ".daemon.json")]
        beacons += [("worker", path) for path in (workspace / ".workers").glob("*.json")]
        found = []
        for name, path in beacons:
            try:
                found.append((name, psutil.Process(int(json.loads(path.read_text())["pid"]))))
            except (OSError, ValueError, KeyError, psutil.Error):
                continue
        return found

    return find


def of_process(pid: int) -> Callable[[], Found]:
    """A process and what it started."""

    def find() -> Found:
        try:
            top = psutil.Process(pid)
            return [("process", each) for each in (top, *top.children(recursive=True))]
        except psutil.Error:
            return []

    return find


class Sampler(threading.Thread):
    """The peaks in bytes, and the CPU seconds, of the processes that `find` names.

    `peaks` has one entry a name (its processes together) and `sum`: the highest of all at one moment.
    `worker_cores` is where the processes named `worker` are put.
    """

    def __init__(self, find: Callable[[], Found], worker_cores: set[int] | None = None) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, int] = {"sum": 0}
        self._cpu: dict[tuple[str, int], float] = {}
        self._find = find
        self._worker_cores = worker_cores or set()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(EVERY_S):
            self._sample()

    def stop(self) -> None:
        """Takes a last sample, and ends."""
        self._done.set()
        self.join()
        self._sample()

    def cpu(self, name: str) -> float:
        """CPU seconds of all processes of that name, all threads, from their beginning."""
        return sum(seconds for (of, _), seconds in self._cpu.items() if of == name)

    def count(self, name: str) -> int:
        """How many processes of that name there were."""
        return sum(of == name for of, _ in self._cpu)

    def _sample(self) -> None:
        now: dict[str, int] = {}
        for name, process in self._find():
            try:
                now[name] = now.get(name, 0) + pss(process)
                times = process.cpu_times()
                self._cpu[name, process.pid] = times.user + times.system
            except psutil.Error:
                continue
            if name == "worker":
                cores.place(process.pid, self._worker_cores)
        now["sum"] = sum(now.values())
        for name, size in now.items():
            self.peaks[name] = max(self.peaks.get(name, 0), size)
