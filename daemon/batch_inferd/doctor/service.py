"""The service behind a config: its credential, the model, and the backends that answer.

All of it is told by two calls that cost nothing: the list of models, and a short list of batches.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.backends.batch.errors import Blocked, NotFound, ProviderError, Refused, Throttled
from batch_inferd.backends.batch.registry import make_provider
from batch_inferd.backends.batch.verdicts import NO_BATCH_API
from batch_inferd.backends.plan import BatchPlan, RequestPlan, Timeouts
from batch_inferd.backends.transport import NotSent
from batch_inferd.doctor.check import Check, without
from batch_inferd.services.resolve import build_plan

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from batch_inferd.seams.clock import Clock
    from batch_inferd.services.resolve import Resolved

T = TypeVar("T")

CALL_S = 30.0
# Where a model that is not in the list does not exist. Elsewhere the list may be a part of what there is
# (gateways), or the service takes any name (test).
_WHOLE_LISTS = frozenset({"openai", "groq", "mistral", "deepseek", "moonshot", "vllm", "ollama"})


class Answer(NamedTuple, Generic[T]):
    """What came of a call: a value, or the error. `ms` is how long it took."""

    value: T | None
    error: ProviderError | NotSent | None
    ms: int

    @property
    def came(self) -> bool:
        """Whether the service did what it was asked."""
        return self.error is None

    def blocked_by(self, cls: str) -> bool:
        """Whether the service refuses for this reason: auth, credit, model."""
        return isinstance(self.error, Blocked) and self.error.cls == cls


async def service(resolved: Resolved, clock: Clock) -> list[Check]:
    """`credential`, `credit` (only when it is spent), `model`, `online` and `batch`."""
    provider = make_provider(_plan(resolved), clock)
    try:
        models = await _ask(provider.models())
        batches: Answer[None] | None = None
        if resolved.profile.batch is not None and not models.blocked_by("auth"):
            batches = await _ask(provider.ping_batches())
    finally:
        await provider.close()
    checks = [_credential(resolved, models, batches), *_credit(models, batches), _model(resolved, models)]
    checks += [_online(resolved, models), _batch(resolved, batches)]
    return [_clean(check, resolved) for check in checks]


def _plan(resolved: Resolved) -> RequestPlan:
    """A plan for the two calls: with a Batch API in any case, and short timeouts."""
    made = build_plan(resolved, task_uuid="", version=1, account="", batch_id="")
    api = resolved.batch or resolved.profile.batch or BatchApi()
    timeouts = Timeouts(min(made.timeouts.connect, CALL_S), min(made.timeouts.read, CALL_S), CALL_S)
    batch = BatchPlan(api, resolved.window or api.windows[0], "")
    return msgspec.structs.replace(made, batch=batch, timeouts=timeouts)


async def _ask(call: Coroutine[Any, Any, T]) -> Answer[T]:
    begin = time.monotonic()
    value: T | None = None
    error: ProviderError | NotSent | None = None
    try:
        async with asyncio.timeout(CALL_S):
            value = await call
    except (ProviderError, NotSent) as failure:
        error = failure
    except TimeoutError:
        error = ProviderError(Text("no answer within {seconds} s", {"seconds": f"{CALL_S:g}"}))
    return Answer(value, error, round((time.monotonic() - begin) * 1000))


def _credential(resolved: Resolved, models: Answer[list[str] | None], batches: Answer[None] | None) -> Check:
    asked: list[Answer[Any]] = [models] if batches is None else [models, batches]
    refused = next((answer for answer in asked if answer.blocked_by("auth")), None)
    # A key may be good for calls and not for batches.
    if refused is not None and (models.value is None or resolved.backend == "batch"):
        text = Text("the service refuses it: {error}", {"error": _words(refused)})
        return Check("credential", False, text, _mend(resolved))
    heard = next(
        (answer for answer in asked if answer.came and (answer is batches or answer.value is not None)), None
    )
    if heard is not None:
        ms = {"ms": heard.ms}
        if resolved.credential.password is None and not resolved.credential.headers:
            return Check("credential", True, Text("the service answers without one ({ms} ms)", ms))
        return Check("credential", True, Text("the service answers with it ({ms} ms)", ms))
    if any(answer.blocked_by("credit") for answer in asked):
        return Check("credential", True, Text("the service knows it"))
    failed = next((answer for answer in asked if answer.error), None)
    if failed is None:
        none = Text("the service has no list to ask for: the first call will show whether it is good")
        return Check("credential", None, none)
    text = Text("it cannot be told whether it is good: {error}", {"error": _words(failed)})
    return Check("credential", None, text, _later(failed))


def _mend(resolved: Resolved) -> Text:
    profile = resolved.profile
    if resolved.config.model.password is None and profile.variable:
        return Text("set {name} in this shell or in .env to a valid key", {"name": profile.variable})
    return Text(
        "put a valid key into model.password; check that it is one for {url}", {"url": resolved.base_url}
    )


def _later(answer: Answer[Any]) -> Text | None:
    if isinstance(answer.error, Throttled):
        return Text("ask again later: the service limits how often it is asked")
    if isinstance(answer.error, NotSent):
        return Text("check the network, and the shell's proxy: https_proxy, http_proxy, all_proxy, no_proxy")
    if isinstance(answer.error, NotFound | Refused):
        return Text("check the path of the base URL: {domain}", {"domain": "model.domain"})
    return None


def _credit(*asked: Answer[Any] | None) -> list[Check]:
    spent = next((answer for answer in asked if answer and answer.blocked_by("credit")), None)
    if spent is None:
        return []
    text = Text("the account has no credit: {error}", {"error": _words(spent)})
    return [Check("credit", False, text, Text("top up the account; waiting tasks go on by themselves"))]


def _model(resolved: Resolved, models: Answer[list[str] | None]) -> Check:
    name = resolved.model
    known = resolved.profile.batch.model_urls if resolved.profile.batch else {}
    params: dict[str, Any] = {"model": name, "count": len(models.value or ())}
    if name in known or name == resolved.profile.model:
        return Check("model", True, Text("{model} is known", params))
    if models.value is None:
        return Check("model", None, Text("there is no list to look for {model} in", params))
    names = models.value
    if name in names or f"{name}:latest" in names:  # as ollama lists them
        return Check("model", True, Text("{model} is among the {count} models of the service", params))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = Text('did you mean "{near}"?', {"near": near[0]}) if near else None
    text = Text("{model} is not among the {count} models that the service lists", params)
    if resolved.profile.name in _WHOLE_LISTS:
        return Check("model", False, text, hint or Text("check model.name"))
    return Check("model", None, text, hint or Text("it may work all the same; test_lines: 1 tries it"))


def _online(resolved: Resolved, models: Answer[Any]) -> Check:
    params = {"service": resolved.service}
    if isinstance(models.error, NotSent):
        text = Text("no call reaches {service}: {error}", params | {"error": _words(models)})
        return Check("online", False, text, _later(models))
    return Check("online", True, Text("{service} can be called; none was made, as it would cost", params))


def _batch(resolved: Resolved, asked: Answer[None] | None) -> Check:
    params: dict[str, Any] = {"service": resolved.service}
    wanted = resolved.backend == "batch"
    if resolved.profile.batch is None:
        if resolved.profile.batch_later:
            text = Text("{service} has a Batch API, but this version cannot speak it", params)
        else:
            text = Text("no Batch API is known of {service}", params)
        return Check("batch", None, text)
    if asked is None:
        return Check("batch", None, Text("the Batch API was not asked, as the credential is refused"))
    if asked.error is None:
        return Check("batch", True, Text("the Batch API answers ({ms} ms)", {"ms": asked.ms}))
    text = Text("the Batch API does not answer as it should: {error}", {"error": _words(asked)})
    ok = None
    hint = _later(asked)
    if isinstance(asked.error, Refused) and asked.error.code == NO_BATCH_API:
        text = Text("there is no Batch API at {service}", params)
        ok, hint = False, Text("write backend: online")
    elif asked.blocked_by("auth"):
        text = Text("the credential is not good for batches: {error}", {"error": _words(asked)})
        ok, hint = False, _mend(resolved)
    return Check("batch", ok, text, hint) if wanted else Check("batch", None, text)


def _words(answer: Answer[Any]) -> Text | str:
    if isinstance(answer.error, NotSent):
        params = {"address": answer.error.address, "error": answer.error.detail}
        if answer.error.reason == "proxy":
            return Text("the proxy {address}: {error}", params)
        return Text("no connection to {address}: {error}", params)
    return answer.error.text if answer.error is not None else ""


def _clean(check: Check, resolved: Resolved) -> Check:
    """A service may repeat in its answer what it was sent."""
    credential = resolved.credential
    found = [credential.password, credential.proxy, *credential.headers.values()]
    return check._replace(text=without(check.text, [secret for secret in found if secret]))
