"""The `budget` section."""

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.load import parse_config
from batch_inferd.config.schema import Budget
from batch_inferd.config.settings import differences, with_settings
from batch_inferd.config.snapshot import identity

MINIMAL = "model: {domain: test, password: x, max_tokens: 10}\n"


def parse(text):
    return parse_config((MINIMAL + text).encode(), "config.yaml")


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("", None),
        ("budget:", None),
        ("budget: {usd: null}", None),
        ("budget: {usd: 20}", Budget(20.0, "USD")),
        ("budget: {amount: 0.5}", Budget(0.5, "USD")),
        ("budget: {amount: 140, currency: CNY}", Budget(140.0, "CNY")),
    ],
)
def test_what_is_read(text, budget):
    assert parse(text).budget == budget


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budget: {usd: 20, currency: USD}", "budget.usd stands alone"),
        ("budget: {currency: CNY}", "budget has no amount; write usd: 20"),
        ("budget: {usd: -1}", "budget.usd must be a number from 0"),
        ("budget: {eur: 20}", 'unknown key "eur"'),
        ("budget: 20", "budget must be a mapping"),
    ],
)
def test_what_is_refused(text, told):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert told in str(problem)


def config(budget):
    section = None if budget is None else {"amount": budget, "currency": "USD"}
    home = {"mode": "asyncio", "processes": 1, "concurrency": 1}
    limits = dict.fromkeys(("max_concurrency", "rpm", "tpm", "bytes_in_flight"))
    logging = {"dir": None, "level": "info"}
    return {"execution": home, "limits": limits, "priority": 0, "logging": logging, "budget": section}


def test_it_is_a_setting():
    after = with_settings(config(20.0), {"budget": 30.0})
    assert after["budget"] == {"amount": 30.0, "currency": "USD"}
    assert differences(config(20.0), after) == [("budget", 20.0, 30.0)]
    assert with_settings(config(None), {"budget": 30.0})["budget"] is None


def test_it_makes_no_task_another_one():
    model = dict.fromkeys(("max_tokens", "temperature", "enable_thinking", "extra_body"))
    common = {"model": model, "test_lines": 0, "lines_per_chunk": 1, "backend": "online"}
    stored = dict.fromkeys(("service", "query", "model", "messages_key", "backend", "window"))
    assert identity(stored | {"config": common | {"budget": None}}, "p") == identity(
        stored | {"config": common | {"budget": {"amount": 1.0, "currency": "USD"}}}, "p"
    )
