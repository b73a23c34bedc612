"""The online backend: one HTTP call a record."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from batch_inferd import failures
from batch_inferd.backends.body import BodyBuilder, Request
from batch_inferd.backends.redact import Redactor
from batch_inferd.backends.traffic import TRAFFIC
from batch_inferd.backends.transport import HttpReply, HttpTransport, NotSent, SentFailed, Target
from batch_inferd.journal.body import check_body
from batch_inferd.journal.format import text_bytes
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.backends.transport import Room
    from batch_inferd.failures import Verdict
    from batch_inferd.seams.clock import Clock

_SHOWN_BODY = 64 * 1024  # of a failed reply that is kept in an error record


class Prepared:
    """A plan with everything that is computed once: targets, body builder, redactor."""

    def __init__(self, plan: RequestPlan) -> None:
        self.plan = plan
        self.images = plan.images
        self.budget = plan.budget
        most = plan.defaults.get("chat", {}).get("max_tokens")
        self.most_tokens = most if isinstance(most, int) else 0  # of an answer, as the config says
        self.builder = BodyBuilder(plan)
        self.redactor = Redactor(plan)
        query = f"?{urlencode(plan.query)}" if plan.query else ""
        typed = any(name.lower() == "content-type" for name in plan.headers)
        headers = plan.headers if typed else {**plan.headers, "Content-Type": "application/json"}
        self.targets = {
            endpoint: Target(
                f"{plan.base_url}{path}{query}",
                headers,
                plan.timeouts,
                plan.proxy,
                plan.max_response_bytes,
            )
            for endpoint, path in plan.paths.items()
        }


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What came of a call. `network` is set when nothing was sent, `ms` is the call's time."""

    verdict: Verdict
    reply: HttpReply | None
    network: NotSent | None
    ms: int


class OnlineBackend:
    """Sends requests through a transport and judges what comes back."""

    def __init__(self, transport: HttpTransport, clock: Clock) -> None:
        self.transport = transport
        self._clock = clock

    async def call(self, prepared: Prepared, request: Request, room: Room | None = None) -> Outcome:
        """One attempt. Never raises for what the network or the service does."""
        plan = prepared.plan
        begun = self._clock.monotonic()
        reply: HttpReply | None = None
        network: NotSent | None = None
        sent = len(request.body)
        try:
            reply = await self.transport.post(prepared.targets[request.endpoint], request.body, room)
            _check_proxy(reply, plan)
            verdict = failures.classify_reply(
                reply.status, reply.headers, reply.body, plan, self._clock.now(), prepared.redactor.data
            )
        except NotSent as error:
            reply, network, sent = None, error, 0
            verdict = failures.classify_exception(error)
        except SentFailed as error:
            verdict = failures.classify_exception(error)
        TRAFFIC.add(sent=sent, received=len(reply.body) if reply is not None else 0)
        if reply is not None:
            failpoint("call.answered")
        if verdict.message:
            verdict = msgspec.structs.replace(verdict, message=prepared.redactor.text(verdict.message))
        return Outcome(verdict, reply, network, int((self._clock.monotonic() - begun) * 1000))


def _check_proxy(reply: HttpReply, plan: RequestPlan) -> None:
    """Raises NotSent for a reply of the proxy, which kept the request to itself.

    Through a tunnel the service answers, whatever it says.
    """
    if reply.status == 407 and plan.proxy and urlsplit(plan.base_url).scheme == "http":
        address = urlsplit(plan.proxy).netloc.rpartition("@")[2]
        raise NotSent("proxy", "it asks for a credential of its own", address)


def shown_body(prepared: Prepared, body: bytes) -> bytes | None:
    """A failed reply's body as one JSON value without secrets: raw JSON, or its text, shortened."""
    if not body:
        return None
    body = prepared.redactor.data(body)
    if len(body) <= _SHOWN_BODY and check_body(body) is None:
        return body
    return text_bytes(body[:_SHOWN_BODY].decode("utf-8", "replace"))
