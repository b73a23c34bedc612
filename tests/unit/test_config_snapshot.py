"""What a task's folder keeps: everything but the secrets, enough to go on, and the task's identity."""

import json
from pathlib import Path
from typing import Any

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.load import parse_config
from batch_inferd.config.snapshot import identity, restore, snapshot
from batch_inferd.services.credentials import Credential, CredentialStore
from batch_inferd.services.resolve import Resolved, build_plan, resolve

INPUT = "/data/in.jsonl"


def resolved(text: str, env: dict[str, str] | None = None, **options: Any) -> Resolved:
    config = parse_config(text.encode(), "config.yaml")
    proxy = options.get("proxy", {})
    url = options.get("url", "http://127.0.0.1:5555/v1")
    return resolve(config, env or {}, proxy, test_base_url=url)


OPENAI = "model:\n  domain: openai\n  name: gpt-x\n  max_tokens: 10\n"
FULL = OPENAI + (
    "  password: hunter2\n  temperature: 0.5\n  enable_thinking: true\n"
    "  extra_body: {seed: 1, stop: [a], f: 1.5, n: null}\n"
    "  headers: {X-A: hunter2, X-B: '${B}', X-C: 'pre ${B}'}\n"
    "test_lines: 5\nlines_per_chunk: 7\nmax_retry_count: 1\nbackend: online\n"
    "execution: {concurrency: 3, timeout: {read: 5}}\nlimits: {rpm: 9}\noutput: {durability: strict}\n"
)
ENV = {"B": "hunter2-b"}
PROXY = {"https": "http://me:hunter2@proxy:1"}


def plan(result: Resolved) -> object:
    return build_plan(result, task_uuid="u", version=1, account="a", batch_id="b")


@pytest.mark.parametrize(
    ("text", "env", "proxy"),
    [
        (FULL, ENV, PROXY),
        (FULL, ENV, {"https": "http://proxy:1"}),
        (OPENAI, {"OPENAI_API_KEY": "hunter2"}, {}),
        (OPENAI + "  password: none\n", {}, {}),
        (
            "model: {domain: '${URL}', name: 'm-${SIZE}', password: 'x${B}', max_tokens: 1}",
            ENV | {"URL": "http://h/v1", "SIZE": "7b"},
            {},
        ),
    ],
)
def test_a_restored_task_makes_the_same_requests(
    text: str, env: dict[str, str], proxy: dict[str, str]
) -> None:
    before = resolved(text, env, proxy=proxy)
    stored = snapshot(before, "acc")
    written = json.dumps(stored)
    assert "hunter2" not in written
    after = restore(json.loads(written), before.credential)
    assert plan(after) == plan(before)
    assert snapshot(after, "acc") == stored
    assert (after.service, after.notes, after.warnings) == (before.service, before.notes, before.warnings)
    assert (after.backend_reason, after.max_concurrency) == (before.backend_reason, before.max_concurrency)
    assert after.config.limits == before.config.limits


def test_each_task_goes_through_its_own_proxy(tmp_path: Path) -> None:
    """Tasks of one account, saved one after the other, as after a restart of the daemon."""
    store = CredentialStore(tmp_path / "credentials.json")
    tasks = []
    for proxy in ("http://me:hunter2@one:1", "http://me:hunter3@one:1", "http://plain:1", None, "http://x@y"):
        before = resolved(FULL, ENV, proxy={"https": proxy} if proxy else {})
        account = store.fingerprint(before.service, before.credential)
        store.save(account, before.credential)
        stored = json.dumps(snapshot(before, account))
        assert "hunter" not in stored
        tasks.append((account, stored, before))
    assert len({account for account, _, _ in tasks}) == 1
    for account, stored, before in tasks:
        credential = store.load(account)
        assert credential is not None
        after = restore(json.loads(stored), credential)
        assert plan(after) == plan(before)
        assert after.credential == before.credential


def test_without_its_proxy_a_task_does_not_go_another_way() -> None:
    stored = snapshot(resolved(FULL, ENV, proxy=PROXY), "acc")
    for proxy in (None, "http://me:other@proxy:1"):
        with pytest.raises(ConfigError, match="proxy"):
            restore(stored, Credential("hunter2", proxy=proxy))
    older = stored | {"proxy": {"literal": True}}
    assert restore(older, Credential("hunter2", proxy="http://a:b@c:1")).proxy == "http://a:b@c:1"
    with pytest.raises(ConfigError, match="proxy"):
        restore(older, Credential("hunter2"))


def test_references_stay_and_literals_go() -> None:
    model = snapshot(resolved(FULL, ENV), "acc")["config"]["model"]
    assert model["password"] == {"literal": True}
    assert model["headers"] == {"X-A": {"literal": True}, "X-B": "${B}", "X-C": {"literal": True}}
    reference = snapshot(resolved(OPENAI + "  password: ${B}\n", ENV), "acc")
    assert reference["config"]["model"]["password"] == "${B}"
    assert reference["account"] == "acc"


def test_the_test_service_may_move() -> None:
    text = "model: {domain: test, password: x, max_tokens: 1}"
    one, two = resolved(text, url="http://127.0.0.1:1/v1"), resolved(text, url="http://127.0.0.1:2/v1")
    assert identity(snapshot(one, "a"), INPUT) == identity(snapshot(two, "a"), INPUT)
    assert one.service == two.service
    moved = restore(snapshot(one, "a"), Credential("x"), test_base_url="http://127.0.0.1:3/v1")
    assert moved.base_url == "http://127.0.0.1:3/v1"


@pytest.mark.parametrize(
    "damage",
    [
        {"config": 3},
        {"config": {}},
        {"config": {"model": {}}},
        {"profile": None},
        {"profile": {"name": 1}},
        {"notes": 3},
    ],
)
def test_a_damaged_snapshot_is_one_kind_of_error(damage: dict[str, Any]) -> None:
    stored = snapshot(resolved(FULL, ENV), "acc")
    with pytest.raises(ValueError, match="damaged"):
        restore(stored | damage, Credential())


def test_a_snapshot_that_lacks_something() -> None:
    stored = snapshot(resolved(FULL, ENV), "acc")
    for key in stored.keys() - {"schema", "account"}:
        with pytest.raises(ValueError, match="damaged"):
            restore({name: value for name, value in stored.items() if name != key}, Credential())


def digest(text: str, env: dict[str, str] | None = None, path: str = INPUT, account: str = "a") -> str:
    return identity(snapshot(resolved(text, env), account), path)


BASE = OPENAI + "  password: x\n  extra_body: {a: 1, b: 2}\n"


@pytest.mark.parametrize(
    "same",
    [
        BASE.replace("password: x", "password: y"),
        BASE.replace("password: x", "password: ${B}"),
        BASE + "  headers: {X-A: '1'}\n",
        BASE.replace("{a: 1, b: 2}", "{b: 2, a: 1}"),
        BASE.replace("domain: openai", "domain: https://api.openai.com/v1/"),
        BASE.replace("name: gpt-x", "name: 'gpt-${X}'"),
        BASE + "  messages_key: messages\n",
        BASE + "max_retry_count: 9\n",
        BASE + "limits: {rpm: 1, max_batches: 2, enqueued_tokens: 3}\nexecution: {concurrency: 2}\n",
        BASE
        + "batch: {fallback: online, deadline: 1h, cancel_wait: 1, settle: 1, poll: {first: 1, max: 2}}\n",
        BASE + "batch: {max_requests: 5, max_bytes: 1MB, max_line_bytes: 1KiB, completion_window: 1d}\n",
        BASE + "logging: {level: debug}\ndaemon: {idle_exit: 1h}\noutput: {durability: strict}\n",
        "# a comment\n" + BASE,
    ],
)
def test_what_may_be_mended_leaves_the_identity(same: str) -> None:
    assert digest(same, {"B": "k", "X": "x"}, account="other") == digest(BASE)


@pytest.mark.parametrize(
    "different",
    [
        BASE.replace("gpt-x", "gpt-y"),
        BASE.replace("domain: openai", "domain: https://other.example/v1"),
        BASE.replace("max_tokens: 10", "max_tokens: 11"),
        BASE.replace("a: 1", "a: 2"),
        BASE + "  messages_key: talk\n",
        BASE + "  temperature: 0\n",
        BASE + "  enable_thinking: false\n",
        BASE + "test_lines: 1\n",
        BASE + "lines_per_chunk: 1\n",
        BASE + "backend: online\n",
        BASE + "backend: batch\n",
    ],
)
def test_what_makes_another_task(different: str) -> None:
    assert digest(different) != digest(BASE)


def test_the_input_is_part_of_the_identity() -> None:
    assert digest(BASE, path="/data/other.jsonl") != digest(BASE)
    assert len(digest(BASE)) == 64
