"""The workers' loop tells of faults, and not of connections that were given up."""

from __future__ import annotations

import asyncio
import logging

import pytest

from batch_inferd.loops import loop_factory

pytest.importorskip("uvloop")
GIVEN_UP = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


@pytest.mark.parametrize(
    ("message", "error", "told"),
    [
        ("Fatal error on SSL protocol", GIVEN_UP, False),
        ("Fatal error on SSL protocol", RuntimeError("oh"), True),
        ("Fatal error on SSL protocol", OSError("the handler is closed"), True),
        ("Exception in callback x", GIVEN_UP, True),
    ],
)
def test_what_is_told(caplog, message, error, told):
    with asyncio.Runner(loop_factory=loop_factory()) as runner, caplog.at_level(logging.INFO):
        runner.get_loop().call_exception_handler({"message": message, "exception": error})
    assert [record.levelname for record in caplog.records] == ["ERROR"] * told
