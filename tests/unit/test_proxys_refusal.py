"""A 407 is the proxy's word only where the proxy could have read the request; else the service said it."""

from __future__ import annotations

import pytest
from worker_kit import FakeTransport, ManualClock, make_plan

from batch_inferd.backends.body import Request
from batch_inferd.backends.online import OnlineBackend, Prepared
from batch_inferd.backends.transport import HttpReply
from batch_inferd.failures import Action

PROXY = "http://us:pw@proxy.example:3128"


@pytest.mark.parametrize(
    ("base_url", "proxy", "sent"),
    [
        ("http://service.example/v1", PROXY, False),
        ("https://service.example/v1", PROXY, True),
        ("http://service.example/v1", None, True),
    ],
)
async def test_who_refused(base_url, proxy, sent):
    transport = FakeTransport(HttpReply(407, {}, b"{}"))
    backend = OnlineBackend(transport, ManualClock())
    prepared = Prepared(make_plan(base_url, proxy=proxy))
    outcome = await backend.call(prepared, Request("chat", b"{}", b'"1"', own_model=False))
    assert (outcome.network is None) == sent
    assert (outcome.verdict.action is Action.NETWORK) != sent
    assert "pw" not in outcome.verdict.message
