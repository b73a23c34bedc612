"""A test service in a process of its own, for tests: ours, and those of whoever uses batch_infer.

with start_service(tmp_path / "service", {"error_rate": 0.1}) as service:
    ...  # call service.base_url
    service.control(error_rate=0)
    assert service.summary().billed_again == 0
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import httpx
import msgspec

from batch_inferd.testing import batch_ledger
from batch_inferd.testing.controls import ControlsError
from batch_inferd.testing.ledger import LedgerRow, LedgerSummary, read_ledger, summarise
from batch_inferd.testing.spawn import read_report, spawn

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from batch_inferd.testing.batch_ledger import BatchRow, LineRow

_START_S = 30.0
_END_S = 10.0
_CALL_S = 10.0
_IDLE_EXIT_S = 600.0  # a service whose test run was killed goes away by itself


class RunningService:
    """A running service. As a context manager, synchronous or not, it is stopped at the end."""

    def __init__(self, process: subprocess.Popen[bytes], state_dir: Path, base_url: str) -> None:
        """What `start_service` makes."""
        self.base_url = base_url  # "http://127.0.0.1:PORT/v1"
        self.pid = process.pid
        self.state_dir = state_dir
        self._process = process
        self._client = httpx.Client(
            base_url=base_url.removesuffix("/v1"),
            trust_env=False,
            timeout=_CALL_S,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # there is no TLS: load no certificates
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return httpx.URL(self.base_url).port or 80

    def control(self, **changes: Any) -> dict[str, Any]:
        """Change controls; all of them as they are now. Raises ControlsError."""
        response = self._client.post("/_control", json=changes)
        body = response.json()
        if response.is_error:
            raise ControlsError(body["error"]["message"])
        controls: dict[str, Any] = body["controls"]
        return controls

    def ledger(self) -> list[LedgerRow]:
        """All that reached the service, in all its lives; also after its end."""
        self._flush()
        return read_ledger(self.state_dir)

    def summary(self) -> LedgerSummary:
        """The ledger in counts; also after the service's end."""
        self._flush()
        return summarise(self.state_dir)

    def batches(self) -> list[BatchRow]:
        """All batches in the order of their creation; also after the service's end."""
        return batch_ledger.read_batches(self.state_dir)

    def batch_lines(self, batch_id: str | None = None) -> list[LineRow]:
        """The lines of one batch or of all. `batch_ledger.read_batch_lines` is for very many."""
        return list(batch_ledger.read_batch_lines(self.state_dir, batch_id))

    def overlapping_lines(self) -> list[str]:
        """Content digests that were in two batches that were live at the same time."""
        return batch_ledger.overlapping_lines(self.state_dir)

    def billed_twice_in_batches(self) -> list[str]:
        """Content digests that were billed in more than one batch."""
        return batch_ledger.billed_twice(self.state_dir)

    def stop(self) -> None:
        """End it with SIGTERM and wait; nothing happens to one that has ended.

        Raises subprocess.TimeoutExpired, after it was killed, when it does not end.
        """
        self._process.terminate()
        self._wait()

    def kill(self) -> None:
        """End it as kill -9 does, and wait."""
        self._process.kill()
        self._wait()

    def _wait(self) -> None:
        self._client.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _flush(self) -> None:
        """Have the service write down what it knows; a dead one has nothing to add."""
        if self._process.poll() is None:
            with suppress(httpx.TransportError):
                self._client.get("/_ledger", params={"limit": 0})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def start_service(state_dir: Path, controls: dict[str, Any] | None = None, port: int = 0) -> RunningService:
    """Start a service and return once it listens.

    Port 0 is that of the last service of this directory if it is free, else any: starting again after
    `stop` or `kill` brings it back where its clients look for it. Raises SpawnError.
    """
    text = msgspec.json.encode(controls or {}).decode()
    process = spawn(state_dir, controls=text, port=port, idle_exit_s=_IDLE_EXIT_S)
    timer = threading.Timer(_START_S, process.kill)
    timer.start()
    try:
        base_url = read_report(process, state_dir)
    finally:
        timer.cancel()
    return RunningService(process, state_dir, base_url)
