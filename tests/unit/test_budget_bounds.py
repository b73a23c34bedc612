"""What a request may cost at most, and what has none."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.money.budget import (
    MESSAGE,
    REQUEST,
    TOOLS,
    BudgetPlan,
    NanoRates,
    Unbounded,
    bounded,
    nano,
    units,
)
from batch_inferd.money.prices import Rates

RATES = NanoRates.of(Rates(input=0.15, output=0.6, cached_input=0.075))
PLAN = BudgetPlan(RATES, 100, 765)
ASK = [{"role": "user", "content": "hello"}]


def bound(endpoint="chat", own_model=False, **fields):
    body = json.dumps({"messages": ASK, "max_tokens": 16} | fields).encode()
    most = bounded(endpoint, body, PLAN, own_model=own_model)
    return most.input - len(body), most.output


SOUND = {"type": "input_audio"}


def test_the_input_has_no_more_tokens_than_bytes():
    assert bound() == (REQUEST + MESSAGE, 16)
    assert bound(messages=ASK * 3)[0] == REQUEST + 3 * MESSAGE
    assert bound(tools=[{"type": "function", "function": {}}])[0] == REQUEST + MESSAGE + TOOLS


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"n": 3}, 48),
        ({"n": 2, "best_of": 5}, 160),
        ({"n": None}, 16),
        ({"max_completion_tokens": 40}, 40),
        ({"thinking_budget": 1000}, 1016),
        ({"enable_search": False, "conversation": None}, 16),
    ],
)
def test_the_output_is_what_the_request_allows(fields, most):
    assert bound(**fields)[1] == most


def test_other_endpoints():
    assert bounded("embeddings", b'{"input": "x"}', PLAN).output == 0
    assert bounded("responses", b'{"input": "x", "max_output_tokens": 7}', PLAN).output == 7
    assert bounded("responses", b'{"input": "x"}', PLAN).output == 100


def test_the_names_of_a_service():
    plan = BudgetPlan(RATES, 100, 765, "max_new_tokens")
    assert bounded("chat", b'{"messages": [], "max_new_tokens": 300}', plan).output == 300


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": None},
        {"max_tokens": -1},
        {"max_tokens": 0},
        {"max_tokens": "16"},
        {"max_tokens": 10**11},
        {"max_tokens": 10**400},
        {"n": 1.5},
        {"search_parameters": {"mode": "on"}},
        {"models": ["dear/model"]},
        {
            "messages": [
                {"role": "user", "content": [SOUND | {"input_audio": {"data": "https://x/hour.mp3"}}]}
            ]
        },
        {"web_search_options": {"x": 1}},
        {"enable_search": True},
        {"prediction": {"type": "content", "content": "x"}},
        {"service_tier": "priority"},
        {"tools": [{"type": "web_search"}]},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
        {"own_model": True},
    ],
)
def test_what_has_no_bound_is_not_sent(fields):
    with pytest.raises(Unbounded, match="not sent, as the task has a budget"):
        bound(**fields)


def test_digits_without_end_bound_nothing():
    with pytest.raises(Unbounded):
        bounded("chat", b'{"messages": [], "max_tokens": %b}' % (b"9" * 5000), PLAN)


def test_a_recording_is_bounded_by_its_bytes():
    data = base64.b64encode(bytes(3000)).decode()
    sound = SOUND | {"input_audio": {"data": data, "format": "wav"}}
    assert bound(messages=[{"role": "user", "content": [sound]}])[0] >= REQUEST + MESSAGE


def test_an_image_whose_type_is_escaped_is_one():
    part = b'{"type": "image\\u005furl", "image_url": {"url": "x"}}'
    body = b'{"messages": [{"role": "user", "content": [%b]}]}' % part
    assert bounded("chat", body, PLAN).input >= 765


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages": \xff}', b"[" * 5000])
def test_what_is_no_request(body):
    with pytest.raises(Unbounded):
        bounded("chat", body, PLAN)


def test_an_image_counts_by_its_rule_not_by_its_bytes():
    data = base64.b64encode(bytes(30_000)).decode()
    embedded = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
    ]
    body = json.dumps({"messages": [{"role": "user", "content": embedded}], "max_tokens": 1}).encode()
    most = bounded("chat", body, PLAN).input
    assert 2 * 765 < most < 2 * 765 + 600
    reference = [{"type": "image_url", "image_url": {"url": "cat.png"}}]
    assert bound(messages=[{"role": "user", "content": reference}])[0] == REQUEST + MESSAGE + 765


def test_the_word_in_a_text_is_no_image():
    assert bound(messages=[{"role": "user", "content": 'say "image" and "video_url"'}])[1] == 16


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_costs_are_rounded_up_and_never_above_the_most(tokens_in, tokens_out, cached):
    cost = RATES.cost(tokens_in, tokens_out, cached)
    cached = min(cached, tokens_in)
    exact = ((tokens_in - cached) * 0.15 + cached * 0.075 + tokens_out * 0.6) / 1e6
    assert cost == pytest.approx(exact * 1e9, abs=1.0, rel=1e-9)
    assert cost <= RATES.most(tokens_in, tokens_out)
    assert RATES.cost(1, 0) == 150


def test_a_cache_that_costs_more_than_the_input():
    dear = NanoRates.of(Rates(input=1.0, output=0.0, cached_input=1.25))
    assert dear.most(100, 0) == dear.cost(100, 0, 100) == 125_000


def test_amounts():
    assert nano(20) == 20 * 10**9
    assert (nano(0.1), nano(1e-12), nano(1e-12, up=True)) == (10**8, 0, 1)
    assert units(nano(12.345678)) == 12.345678
