"""A process that uses the transport as a worker does ends as a worker ends: two hundred times in a row.

The worker leaves by `os._exit`, after its last flush.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transport_kit import OK, ROOT, RawServer

TIMES = 200
AT_ONCE = 3

_SCRIPT = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.http1_transport import Http1Transport
from batch_inferd.backends.transport import Target
from batch_inferd.loops import loop_factory

async def main():
    transport = Http1Transport()
    target = Target({url!r}, {{"Authorization": "Bearer x"}}, Timeouts(), None, 1 << 20)
    answered = 0
    enough = asyncio.Event()

    async def caller():
        nonlocal answered
        while True:
            reply = await transport.post(target, b"{{}}")
            answered += reply.status == 200
            if answered >= 40:
                enough.set()

    calls = [asyncio.create_task(caller()) for _ in range(16)]
    await enough.wait()
    mode = {mode!r}
    if mode != "in flight":
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    if mode == "closed":
        await transport.close()
    sys.stdout.write("flushed")
    sys.stdout.flush()
    os._exit(0)

with asyncio.Runner(loop_factory=loop_factory()) as runner:
    runner.run(main())
"""
MODES = ["in flight", "cancelled", "closed"]


def newest() -> str | None:
    """Another Python on this machine that is newer than the one that runs the tests."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(sys.version_info.minor + 5, sys.version_info.minor, -1):
        found = [*sorted(versions.glob(f"3.{minor}.*/bin/python")), shutil.which(f"python3.{minor}")]
        for python in filter(None, found):
            if (
                subprocess.run(
                    [python, "-c", "import ssl, venv"], capture_output=True, check=False
                ).returncode
                == 0
            ):
                return str(python)
    return None


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One with the client installed. Skips where there is none, or no way to install it."""
    base = newest()
    if base is None:
        pytest.skip("there is no newer Python on this machine")
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([base, "-m", "venv", folder], check=True, capture_output=True)
    python = folder / "bin" / "python"
    wanted = ["brotli>=1.2", "httptools>=0.6.2", "msgspec>=0.19", "uvloop>=0.21"]
    command = [python, "-m", "pip", "install", "-q", "--retries", "0", "--timeout", "20", *wanted]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("the client cannot be installed for a newer Python: no answer in time")
    if done.returncode != 0:
        pytest.skip("the client cannot be installed for a newer Python")
    return str(python)


async def exits(python: str) -> list[tuple[int | None, bytes, bytes]]:
    """How each of the processes ended."""
    ends: list[tuple[int | None, bytes, bytes]] = []
    path = [str(ROOT / "client"), str(ROOT / "daemon")]

    async def answer(_, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)

    async with RawServer(answer) as server:

        async def run(numbers) -> None:
            for number in numbers:
                script = _SCRIPT.format(path=path, url=server.url, mode=MODES[number % len(MODES)])
                process = await asyncio.create_subprocess_exec(
                    python, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                out, err = await asyncio.wait_for(process.communicate(), 60)
                ends.append((process.returncode, out, err))

        shared = iter(range(TIMES))
        await asyncio.gather(*(run(shared) for _ in range(AT_ONCE)))
    return ends


@pytest.mark.slow
@pytest.mark.timeout(300)  # half a minute each on a quiet machine of two cores
async def test_clean_exits_of_the_python_that_runs_the_tests():
    asyncio.get_running_loop().set_debug(enabled=False)
    assert set(await exits(sys.executable)) == {(0, b"flushed", b"")}


@pytest.mark.slow
@pytest.mark.timeout(300)  # half a minute each on a quiet machine of two cores
@pytest.mark.skipif(sys.platform == "win32", reason="looks for the other Python where Unix has it")
async def test_clean_exits_of_a_newer_python(other_python):
    asyncio.get_running_loop().set_debug(enabled=False)
    assert set(await exits(other_python)) == {(0, b"flushed", b"")}
