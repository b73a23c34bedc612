"""Which backend a task gets and why, and the Batch API that it is given, with what the config changes."""

import json

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.config.load import parse_config
from batch_inferd.config.schema import Batch, Limits, Poll
from batch_inferd.config.snapshot import identity, restore, snapshot
from batch_inferd.services import builtin
from batch_inferd.services.batch_settings import (
    batch_problems,
    choose_backend,
    window_hours,
    window_of,
    with_settings,
)
from batch_inferd.services.builtin import GENERIC, PROFILES
from batch_inferd.services.catalogue import services_path
from batch_inferd.services.profile import Profile
from batch_inferd.services.resolve import Resolved, build_plan, resolve

WINDOWS = BatchApi(windows=("24h", "336h"), window_max_h=336)
PLAIN = BatchApi()


def resolved(text: str, domain: str = "test", env: dict[str, str] | None = None) -> Resolved:
    model = f"model: {{domain: '{domain}', name: m, password: x, max_tokens: 10}}\n"
    config = parse_config((model + text).encode(), "config.yaml")
    return resolve(config, env or {}, {}, test_base_url="http://127.0.0.1:5555/v1")


def api_of(result: Resolved) -> BatchApi:
    assert result.batch is not None
    return result.batch


def problems(text: str, domain: str, env: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolved(text, domain, env)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("domain", ["test", "openai", "dashscope", "bigmodel", "groq", "together"])
def test_auto_takes_batch_where_it_is_known(domain: str) -> None:
    result = resolved("", domain)
    why = f"{result.service} has a Batch API; backend: online makes calls instead"
    assert (result.backend, str(result.backend_reason)) == ("batch", why)
    assert result.batch == result.profile.batch
    assert result.window == api_of(result).windows[0]


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        ("deepseek", "no Batch API is known of https://api.deepseek.com/v1"),
        (
            "mistral",
            "https://api.mistral.ai/v1 has a Batch API, but this version cannot speak it",
        ),
        (
            "http://h/v1",
            "no Batch API is known of http://h/v1; backend: batch uses one that speaks like OpenAI's",
        ),
    ],
)
def test_auto_takes_online_elsewhere(domain: str, reason: str) -> None:
    result = resolved("", domain)
    assert (result.backend, str(result.backend_reason)) == ("online", reason)
    assert (result.batch, result.window) == (None, None)
    assert build_plan(result, task_uuid="u", version=1, account="a", batch_id="b").batch is None


@pytest.mark.parametrize("backend", ["batch", "online"])
def test_what_the_config_says_holds(backend: str) -> None:
    for domain in ("test", "openai", "http://h/v1"):
        result = resolved(f"backend: {backend}", domain)
        assert (result.backend, str(result.backend_reason)) == (backend, "the config says so")
        assert (result.batch is not None) == (backend == "batch")


def test_a_service_of_ones_own_is_batched_only_when_asked() -> None:
    path = services_path()
    path.parent.mkdir(parents=True)
    path.write_text("gateway: {base_url: 'http://h/v1'}\nproxied: {base_url: 'http://h/v2', like: openai}\n")
    for name in ("gateway", "proxied"):
        assert resolved("", name).backend == "online"
        assert resolved("backend: batch", name).batch is not None


def test_the_plan_carries_it() -> None:
    text = (
        "backend: batch\nlimits: {max_batches: 3, enqueued_tokens: 9}\nbatch: {settle: 5, max_requests: 7}\n"
    )
    result = resolved(text)
    made = build_plan(result, task_uuid="u", version=1, account="a", batch_id="b", title="night")
    assert made.batch is not None
    assert (made.batch.title, made.batch.window) == ("night", "24h")
    api = made.batch.api
    assert (api.max_in_flight, api.enqueued_tokens, api.settle_s, api.max_requests) == (3, 9, 5, 7)


def test_settings_go_over_the_services_own() -> None:
    batch = Batch("24h", "off", 9, 11, 12, Poll(13, 14), 15, 16_000, 1_700)
    made = with_settings(PLAIN, batch, Limits(max_batches=18, enqueued_tokens=19))
    assert (made.cancel_s, made.settle_s, made.poll_first_s, made.poll_max_s) == (11, 12, 13, 14)
    assert (made.max_requests, made.max_bytes, made.max_line_bytes) == (15, 16_000, 1_700)
    assert (made.max_in_flight, made.enqueued_tokens) == (18, 19)
    assert with_settings(PLAIN, Batch(), Limits()) == PLAIN


def test_settings_stay_in_order() -> None:
    embeddings = BatchApi(max_requests_of={"embeddings": 10_000})
    fewer = with_settings(embeddings, Batch(max_requests=100), Limits())
    assert fewer.max_requests_of == {"embeddings": 100}
    more = with_settings(embeddings, Batch(max_requests=100_000), Limits())
    assert more.max_requests_of == {"embeddings": 10_000}  # the service's limit of that endpoint
    small = with_settings(PLAIN, Batch(max_bytes=2_000), Limits())
    assert (small.max_bytes, small.max_line_bytes) == (2_000, 2_000)


@pytest.mark.parametrize(
    ("poll", "least", "wanted"),
    [
        (Poll(), 1, (5, 60)),
        (Poll(first=90), 1, (90, 90)),
        (Poll(max=2), 1, (2, 2)),
        (Poll(first=2), 60, (60, 60)),
        (Poll(first=2, max=10), 60, (60, 60)),
        (Poll(first=120, max=600), 60, (120, 600)),
    ],
)
def test_polls_keep_to_the_services_least(poll: Poll, least: float, wanted: tuple[float, float]) -> None:
    made = with_settings(BatchApi(poll_min_s=least), Batch(poll=poll), Limits())
    assert (made.poll_first_s, made.poll_max_s) == wanted


def test_too_eager_polls_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile(name="slow", hosts=("slow",), batch=BatchApi(poll_min_s=60))
    monkeypatch.setitem(builtin.PROFILES, "slow", profile)
    result = resolved("backend: batch\nbatch: {poll: {first: 5, max: 2m}}", "http://slow/v1")
    assert [str(text) for text in result.warnings] == [
        "batch.poll.first is taken as 60 s: slow may not be asked more often"
    ]


def test_a_deadline_beyond_the_window_is_told() -> None:
    late = "batch: {fallback: online, deadline: 24h}"
    assert [str(text) for text in resolved(late).warnings] == [
        "batch.deadline, 24 hours, is not before the end of the window of 24h"
    ]
    assert resolved("batch: {fallback: online}").warnings == ()
    assert resolved("batch: {deadline: 24h}").warnings == ()  # nothing falls back


def test_what_has_no_effect_is_told() -> None:
    text = "backend: online\nbatch: {settle: 5}\nlimits: {max_batches: 2, enqueued_tokens: 3, rpm: 4}"
    assert [str(note) for note in resolved(text).notes] == [
        "batch has no effect: the records go out as online calls",
        "limits.max_batches has no effect: the records go out as online calls",
        "limits.enqueued_tokens has no effect: the records go out as online calls",
    ]
    assert resolved(text.replace("online", "batch")).notes == ()
    assert resolved("backend: online").notes == ()


@pytest.mark.parametrize(
    ("asked", "api", "sent"),
    [
        (None, PLAIN, "24h"),
        ("1d", PLAIN, "24h"),
        ("14d", WINDOWS, "336h"),
        ("7d", WINDOWS, "7d"),
        ("48h", WINDOWS, "48h"),
    ],
)
def test_the_window_that_is_sent(asked: str | None, api: BatchApi, sent: str) -> None:
    assert window_of(Batch(completion_window=asked), api) == sent


def test_of_an_unknown_service_any_window_may_be_asked() -> None:
    text = "backend: batch\nbatch: {completion_window: %s}"
    assert resolved(text % "7d", "http://h/v1").window == "7d"
    assert resolved("backend: batch", "http://h/v1").window == "24h"


def test_hours_of_windows() -> None:
    assert [window_hours(window) for window in ("24h", "1d", "14d")] == [24, 24, 336]


def test_a_domain_from_a_variable_is_checked_when_it_is_known() -> None:
    found = problems("backend: batch", "${D}", {"D": "deepseek"})
    assert found == ["config.yaml:2:10: no Batch API is known of deepseek; write online or auto"]
    found = problems("batch: {completion_window: 2d}", "${D}", {"D": "openai"})
    assert found == [
        "config.yaml:2:28: completion_window 2d is not possible: openai takes 24h only; write 24h"
    ]


def test_a_service_with_a_least_number_of_requests() -> None:
    profile = Profile(name="big", backends=("online", "batch"), batch=BatchApi(min_requests=100))
    ((key, text),) = batch_problems("auto", profile, None, 99)
    assert (key, str(text)) == (
        "batch.max_requests",
        "big takes no batch of less than 100 requests; write more",
    )
    assert batch_problems("auto", profile, None, 100) == []
    assert batch_problems("online", profile, None, 99) == []


def test_a_profile_that_claims_batch_without_one_goes_online() -> None:
    assert choose_backend("auto", Profile(name="odd", backends=("online", "batch")), "odd")[0] == "online"


def test_every_profile_that_auto_batches_has_a_batch_api() -> None:
    for profile in PROFILES.values():
        assert "batch" not in profile.backends or profile.batch is not None
    assert GENERIC.batch is not None


def test_a_restored_task_keeps_its_batch_api() -> None:
    text = "batch: {max_requests: 5, completion_window: 1d, fallback: online}\nlimits: {max_batches: 2}"
    before = resolved(text)
    stored = json.loads(json.dumps(snapshot(before, "acc")))
    after = restore(stored, before.credential)
    assert (after.backend, after.batch, after.window) == ("batch", before.batch, "24h")
    assert after.config.batch == before.config.batch
    assert stored["config"]["batch"]["fallback"] == "online"
    assert snapshot(after, "acc") == stored


def digest(text: str, domain: str = "openai", env: dict[str, str] | None = None) -> str:
    return identity(snapshot(resolved(text, domain, env), "acc"), "/in.jsonl")


def test_the_window_and_the_backend_make_a_task() -> None:
    base = "backend: batch\nbatch: {completion_window: %s}"
    assert digest(base % "24h", "dashscope") == digest(base % "1d", "dashscope")
    assert digest(base % "48h", "dashscope") != digest(base % "24h", "dashscope")
    assert digest("backend: online", "openai") == digest("backend: online\nbatch: {completion_window: 2d}")


def test_auto_that_is_decided_anew_is_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest("")
    known = PROFILES["openai"]
    known = Profile(name="openai", base_url=known.base_url, hosts=known.hosts)
    monkeypatch.setitem(builtin.PROFILES, "openai", known)
    assert digest("") != before
