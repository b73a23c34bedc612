"""From tokens to money: rates, what is unknown, and forecasts."""

import json
import random

import pytest

from batch_inferd.money.cost import cost_json, spent
from batch_inferd.money.forecast import forecast
from batch_inferd.money.prices import Price, Rates
from batch_inferd.money.survey import of_lines
from batch_inferd.money.under_way import under_way
from batch_inferd.money.used import Used
from batch_inferd.testing.billing import Tokenizer

ONLINE = Rates(input=2.0, output=10.0, cached_input=0.5)
PRICE = Price(online=ONLINE, batch=ONLINE.less(0.5), currency="USD")
USED = Used(
    answered=10, unknown=2, input=1_000_000, cached=200_000, output=100_000,
    batch_input=400_000, batch_cached=100_000, batch_output=50_000,
)  # fmt: skip


def test_each_token_has_its_rate():
    money = spent(USED, PRICE)
    online = 0.5 * 2 + 0.1 * 0.5 + 0.05 * 10
    batch = (0.3 * 2 + 0.1 * 0.5 + 0.05 * 10) / 2
    assert money.total == pytest.approx(online + batch)
    assert money.batch == pytest.approx(batch)
    assert money.output == pytest.approx(0.5 + 0.25)


def test_batches_of_unknown_price_are_unknown():
    price = Price(online=ONLINE)
    assert spent(USED, price) is None
    assert spent(USED._replace(batch_input=0, batch_cached=0, batch_output=0), price) is not None
    cost = cost_json(USED, price)
    assert cost["spent"] is cost["batch"] is cost["per_record"] is None


def test_answers_without_usage_are_counted_and_cost_nothing_known():
    cost = cost_json(USED, PRICE, 12.5)
    assert cost["unknown_records"] == 2
    assert cost["per_record"] == pytest.approx(cost["spent"] / 8)
    assert cost["forecast"] == 12.5
    assert cost_json(Used(answered=3, unknown=3), PRICE)["per_record"] is None
    assert cost_json(USED, None) is None


def test_what_is_under_way_is_committed():
    found = of_lines(
        [b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"word " * 100)] * 4, "messages"
    )
    sent = {"calls": 3, "batched": 2, "max_tokens": 1000}
    mean = 1_000_000 / 8
    each = mean * 2 + 1000 * 10
    assert under_way(PRICE, USED, None, **sent) == pytest.approx((3 * each + 2 * each / 2) / 1e6)
    assert cost_json(USED, PRICE, under_way=0.5)["committed"] == pytest.approx(spent(USED, PRICE).total + 0.5)
    before = under_way(PRICE, Used(), found, **sent)
    assert before == pytest.approx(4 * (found.first(4).total / 4 * 2 + 10_000) / 1e6)
    assert under_way(PRICE, Used(), None, **sent) is None
    assert under_way(Price(online=ONLINE), USED, None, **sent) is None
    assert under_way(PRICE, Used(), None, calls=0, batched=0, max_tokens=1000) == 0.0


def test_sums_and_differences():
    assert USED + USED - USED == USED
    assert sum([USED, USED], Used()).input == 2_000_000


def records(count, dice, chinese):
    """Conversations of varying length, English and Chinese mixed."""
    for _ in range(count):
        words = int(dice.lognormvariate(4, 0.8)) + 1
        text = "".join(
            dice.choice(
                ["温度", "你好，", "数据 "] if dice.random() < chinese else ["word ", "a ", "longer "]
            )
            for _ in range(words)
        )
        yield text


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("chinese", [0.0, 0.4, 1.0])
def test_after_a_twentieth_the_forecast_is_near_the_bill(seed, chinese):
    dice = random.Random(seed)
    rule = Tokenizer(ascii=0.31, other=1.6, message=11, answer=3.0)
    texts = list(records(2000, dice, chinese))
    lines = [json.dumps({"messages": [{"role": "user", "content": text}]}).encode() for text in texts]
    tokens = [(round(rule.count(text)) + 11, 200 + dice.randint(0, 200)) for text in texts]
    bill = spent(_used(tokens), PRICE).total
    guess = forecast(_used(tokens[:100]), PRICE, of_lines(lines, "messages"), 100, 2000)
    assert guess == pytest.approx(bill, rel=0.1)


def test_an_input_whose_lengths_grow():
    lines = [
        json.dumps({"messages": [{"role": "user", "content": "word " * n}]}).encode() for n in range(1, 2001)
    ]
    tokens = [(7 + 2 * n, 10) for n in range(1, 2001)]
    bill = spent(_used(tokens), PRICE).total
    guess = forecast(_used(tokens[:100]), PRICE, of_lines(lines, "messages"), 100, 2000)
    assert guess == pytest.approx(bill, rel=0.1)


def test_without_usage_there_is_no_forecast():
    found = of_lines([b'{"messages": []}'] * 10, "messages")
    assert forecast(Used(answered=5, unknown=5), PRICE, found, 5, 10) is None
    assert forecast(Used(), PRICE, found, 0, 10) is None


def test_what_is_unknown_is_taken_to_be_like_the_rest():
    found = of_lines([b'{"messages": []}'] * 10, "messages")
    used = Used(answered=4, unknown=2, input=2_000_000, output=0)
    assert forecast(used, PRICE, found, 4, 10) == pytest.approx(2 * 2 * 2 * 2.5)


def test_at_the_end_it_is_the_bill():
    found = of_lines([b'{"messages": [{"content": "abc"}]}'] * 10, "messages")
    used = Used(answered=10, input=1_000_000, output=500_000)
    assert forecast(used, PRICE, found, 10, 10) == pytest.approx(spent(used, PRICE).total)


def _used(tokens):
    return Used(
        answered=len(tokens), input=sum(one[0] for one in tokens), output=sum(one[1] for one in tokens)
    )
