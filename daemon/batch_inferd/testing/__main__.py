"""`python -m batch_inferd.testing --state DIR`: the test service, for any program that speaks OpenAI's API.

Whoever starts it can wait for it: `--ready-fd FD` gets one JSON line, `{"base_url", "pid"}` once it
listens or `{"error", "held"}` when it cannot, and is then turned into the log (stderr).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_inferd.testing.batch_store import StoreError
from batch_inferd.testing.controls import ControlsError, parse_controls
from batch_inferd.testing.ledger_writer import LedgerError
from batch_inferd.testing.server import CannotServe, Held, Options, serve

if TYPE_CHECKING:
    from batch_inferd.testing.state import Beacon


def main() -> int:
    """Serve until told to stop: 0; or say why not: 1 (2 for the command line)."""
    arguments = _parser().parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(process)d %(message)s"
    )
    ready_fd: int | None = arguments.ready_fd

    def announce(beacon: Beacon) -> None:
        if ready_fd is None:
            sys.stdout.write(f"{beacon.base_url}\n")
            sys.stdout.flush()
        else:
            _report(ready_fd, {"base_url": beacon.base_url, "pid": beacon.pid})

    try:
        options = Options(
            state_dir=arguments.state,
            host=arguments.host,
            port=arguments.port,
            controls=parse_controls(arguments.controls),
            idle_exit_s=arguments.idle_exit,
        )
        asyncio.run(serve(options, announce))
    except (ControlsError, CannotServe, LedgerError, StoreError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        if ready_fd is not None:
            _report(ready_fd, {"error": str(error), "held": isinstance(error, Held)})
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m batch_inferd.testing",
        description="A local OpenAI-compatible service that needs no key and can misbehave as it is told.",
    )
    parser.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="holds ledger and service.json"
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="default: the last one, else any free one")
    parser.add_argument("--controls", default="{}", metavar="JSON", help="as POST /_control takes them")
    parser.add_argument(
        "--idle-exit", type=float, metavar="SECONDS", help="end after so long without a request"
    )
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="report readiness there, as JSON")
    return parser


def _report(fd: int, message: dict[str, object]) -> None:
    try:
        os.write(fd, msgspec.json.encode(message) + b"\n")
    except OSError:
        logging.getLogger(__name__).warning("whoever started the service is gone")
    os.dup2(2, fd)


if __name__ == "__main__":
    sys.exit(main())
