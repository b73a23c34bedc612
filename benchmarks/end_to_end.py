"""Records a second through the whole of batch_infer, and its memory, against the embedded test service.

    python benchmarks/end_to_end.py [--records 20000] [--json]

The reference in the same run is a plain aiohttp loop with the same number of calls in flight, which
sends the same requests to the same service and keeps nothing. The service's latency is off; it runs on
the same machine, so neither figure is what a faster service would allow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import aiohttp
import psutil

from batch_inferd.testing.process import start_service

CONCURRENCY = 64


def record(n: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": f"question {n} " + "x" * 300}]}


async def plain_loop(base_url: str, count: int) -> float:
    numbers = iter(range(count))
    start = time.perf_counter()
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer x"}, trust_env=False) as session:

        async def caller() -> None:
            for n in numbers:
                body = {"model": "test-model", "max_tokens": 64, **record(n)}
                async with session.post(f"{base_url}/chat/completions", json=body) as reply:
                    assert reply.status == 200
                    await reply.read()

        await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
    return count / (time.perf_counter() - start)


class Memory(threading.Thread):
    """Samples the peak RSS of the daemon and its workers, in bytes."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()
        self._workspace = str(workspace)

    def run(self) -> None:
        while not self.done.wait(0.1):
            total = 0
            for process in psutil.process_iter(["cmdline"]):
                command = " ".join(process.info["cmdline"] or [])
                if "batch_inferd" in command and self._workspace in command and "testing" not in command:
                    try:
                        total += process.memory_info().rss
                    except psutil.Error:
                        continue
            self.peak = max(self.peak, total)


def measure(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "w"
        work.mkdir()
        env = os.environ | {"BATCH_INFER_STATE_DIR": f"{folder}/state"}
        with start_service(Path(folder) / "service") as service:
            config = {"domain": service.base_url, "name": "test-model", "password": "x", "max_tokens": 64}
            limits = {"max_concurrency": CONCURRENCY}
            text = {"model": config, "limits": limits, "lines_per_chunk": 1000}
            (work / "config.yaml").write_text(json.dumps(text))
            (work / "config.yaml").chmod(0o600)
            with (work / "in.jsonl").open("w") as file:
                for n in range(count):
                    file.write(json.dumps(record(n)) + "\n")
            reference = asyncio.run(plain_loop(service.base_url, count))
            memory = Memory(work)
            memory.start()
            start = time.perf_counter()
            command = [sys.executable, "-m", "batch_infer"]
            submit = [*command, "-pipeline", "in.jsonl", "-task-id", "A", "-wait"]
            subprocess.run(submit, cwd=work, env=env, check=True, capture_output=True)
            ours = count / (time.perf_counter() - start)
            memory.done.set()
            memory.join()
            subprocess.run([*command, "-daemon", "stop"], cwd=work, env=env, check=False, capture_output=True)
    return {
        "records": count,
        "records_per_s": round(ours),
        "plain_loop_per_s": round(reference),
        "ratio": round(ours / reference, 2),
        "peak_rss_mb": round(memory.peak / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.records)
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"{found['records']} records: {found['records_per_s']}/s from submit to outputs; a plain loop "
        f"{found['plain_loop_per_s']}/s; ratio {found['ratio']}; peak memory {found['peak_rss_mb']} MB"
    )


if __name__ == "__main__":
    main()
