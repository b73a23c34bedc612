"""Prices: the config's go first, genai-prices is asked apart, and nobody guesses."""

import subprocess

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.load import parse_config
from batch_inferd.money.lookup import look_up as look_up_here
from batch_inferd.money.prices import Price, PriceBook, Query, Rates, look_up, query_of, stored_price

BASE = "model: {domain: openai, name: gpt-4o, max_tokens: 10, password: x}\n"


def snapshot(service="https://api.openai.com/v1", prices=None, name="openai"):
    return {"service": service, "model": "gpt-4o", "profile": {"prices": name}, "config": {"prices": prices}}


def test_a_known_model():
    price = stored_price(snapshot(), look_up_here("openai", "", "gpt-4o"))
    assert price.online.output > price.online.input > price.online.cached_input > 0
    assert 0 < price.batch.input < price.online.input
    assert price.currency == "USD"
    assert price.source.startswith("genai-prices ")


def test_a_service_is_found_by_its_address():
    assert look_up_here("", "https://api.openai.com/v1", "gpt-4o") == look_up_here("openai", "", "gpt-4o")


@pytest.mark.parametrize("query", [("openai", "", "no-such"), ("", "https://llm.example.com/v1", "gpt-4o")])
def test_what_is_not_known(query):
    assert look_up_here(*query) == {}
    assert stored_price(snapshot(), {}) is None


def test_steps_begin_with_the_first():
    assert look_up_here("google", "", "gemini-2.5-pro")["online"]["input"] == 1.25


async def test_it_is_asked_in_a_process_of_its_own():
    assert await look_up(Query("openai", "", "gpt-4o")) == look_up_here("openai", "", "gpt-4o")


async def test_each_query_is_asked_once():
    asked = []

    async def look(query):
        asked.append(query)
        return {"n": len(asked)}

    book, query = PriceBook(look), Query("a", "b", "c")
    assert await book.find(query) == await book.find(query) == {"n": 1}
    assert await book.find(query._replace(model="d")) == {"n": 2}


async def test_what_failed_is_asked_again(caplog):
    answers = [subprocess.TimeoutExpired("x", 1), ValueError("no JSON"), {}]

    async def look(_query):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    book, query = PriceBook(look), Query("a", "b", "c")
    assert [await book.find(query) for _ in range(3)] == [None, None, {}]
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("service", "prices", "asked"),
    [
        ("https://api.openai.com/v1", None, True),
        ("https://api.openai.com/v1", {"batch_discount": 0.3}, True),
        ("https://api.openai.com/v1", {"input": 1.0, "output": 2.0}, False),
        ("http://127.0.0.1:8000/v1", None, False),
        ("test", None, False),
    ],
)
def test_who_is_asked(service, prices, asked):
    assert (query_of(snapshot(service, prices)) is not None) == asked


def test_the_config_goes_first():
    prices = {"input": 4.0, "output": 8.0, "batch_discount": 0.25, "currency": "CNY"}
    price = stored_price(snapshot(prices=prices), look_up_here("openai", "", "gpt-4o"))
    online = Rates(input=4.0, output=8.0, cached_input=4.0)
    batch = Rates(input=3.0, output=6.0, cached_input=3.0)
    assert price == Price(online=online, batch=batch, currency="CNY", source="config")
    assert stored_price(snapshot(prices={**prices, "batch_discount": None}), None).batch is None


def test_a_discount_alone_changes_the_batches_of_a_known_model():
    found = look_up_here("openai", "", "gpt-4o")
    price = stored_price(snapshot(prices={"batch_discount": 0.1}), found)
    assert price.batch.input == pytest.approx(0.9 * price.online.input)


def test_in_a_config():
    text = BASE + "prices: {input: 2, output: 8.5, cached_input: 0, batch_discount: 0.5, currency: CNY}\n"
    prices = parse_config(text.encode(), "c.yaml").prices
    assert (prices.input, prices.output, prices.cached_input, prices.currency) == (2, 8.5, 0, "CNY")


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("{input: 2}", "stand together"),
        ("{currency: EUR}", "stand together"),
        ("{input: -1, output: 2}", "a number from {low} to {high}"),
        ("{input: 1, output: 2, batch_discount: 50}", "a number from {low} to {high}"),
        ("{input: 1, output: 2, currency: euro}", "three capital letters"),
    ],
)
def test_wrong_prices_are_refused(prices, said):
    with pytest.raises(ConfigError) as failed:
        parse_config(f"{BASE}prices: {prices}\n".encode(), "c.yaml")
    assert said in str(failed.value.problems)
