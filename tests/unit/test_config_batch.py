"""The section `batch`, and the limits of batches: what they become, and what is said of a wrong one."""
# ruff: noqa: E501  messages stay whole

import pytest
import yaml

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.load import parse_config
from batch_inferd.config.schema import Batch, Config, Limits, Poll

MODEL = "model: {domain: test, password: x, max_tokens: 10}\n"
OPENAI = "model: {domain: openai, name: m, max_tokens: 10}\n"


def parse(text: str, model: str = MODEL) -> Config:
    return parse_config((model + text).encode(), "config.yaml")


def problems(text: str, model: str = MODEL) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, model)
    return [str(problem).removeprefix("config.yaml:") for problem in caught.value.problems]


def test_the_defaults_leave_the_service_its_own() -> None:
    config = parse("")
    assert config.batch == Batch(None, "off", 72_000, None, None, Poll(None, None), None, None, None)
    assert config.limits == Limits(None, None, 1024, 64 * 2**20, None, None)


def test_every_key() -> None:
    config = parse(
        "batch:\n  completion_window: 24h\n  fallback: online\n  deadline: 90m\n  cancel_wait: 15s\n"
        "  settle: 1h30m\n  poll: {first: 5s, max: 1m}\n"
        "  max_requests: 1000\n  max_bytes: 10MB\n  max_line_bytes: 64KiB\n"
        "limits: {max_batches: 3, enqueued_tokens: 2000000}\n"
    )
    assert config.batch == Batch("24h", "online", 5400, 15, 5400, Poll(5, 60), 1000, 10_000_000, 65_536)
    assert (config.limits.max_batches, config.limits.enqueued_tokens) == (3, 2_000_000)


def test_empty_values_are_no_values() -> None:
    config = parse(
        "batch: {completion_window: null, fallback: ~, poll: {first: }}\nlimits: {max_batches: null}"
    )
    assert (config.batch, config.limits) == (Batch(), Limits())
    assert parse("batch:\n").batch == Batch()


@pytest.mark.parametrize("word", ["off", '"off"', "Off", "OFF", "false", "False", "FALSE", '"false"'])
def test_off_in_every_spelling(word: str) -> None:
    assert parse(f"batch: {{fallback: {word}}}").batch.fallback == "off"


@pytest.mark.parametrize("value", ["off", "online", False])
def test_what_a_yaml_1_1_writer_makes_of_it(value: object) -> None:
    text = yaml.safe_dump({"batch": {"fallback": value}})
    assert parse(text).batch.fallback == (value or "off")


@pytest.mark.parametrize(
    ("window", "model", "wanted"),
    [
        ("24h", MODEL, "24h"),
        ('"24h"', MODEL, "24h"),
        ("1d", MODEL, "1d"),
        ("86400", MODEL, "24h"),
        ("14d", "model: {domain: dashscope, name: m, max_tokens: 1}\n", "14d"),
        ("336h", "model: {domain: dashscope, name: m, max_tokens: 1}\n", "336h"),
        ("1d12h", "model: {domain: dashscope, name: m, max_tokens: 1}\n", "36h"),
    ],
)
def test_completion_windows(window: str, model: str, wanted: str) -> None:
    assert parse(f"batch: {{completion_window: {window}}}", model).batch.completion_window == wanted


def test_days_are_times_everywhere() -> None:
    assert parse("batch: {deadline: 2d}").batch.deadline == 172_800
    assert parse("daemon: {idle_exit: 1d12h}").daemon.idle_exit == 129_600


WRONG = [
    ("batch: 3", '8: batch must be a mapping, found a number; write it as lines of "key: value" below'),
    ("batch: {completion_window: 24}", "28: batch.completion_window must be a time in whole hours or days such as 24h or 7d, found the number 24; write 24h"),
    ("batch: {completion_window: 90m}", '28: batch.completion_window must be a time in whole hours or days such as 24h or 7d, found the string "90m"; write 24h'),
    ("batch: {completion_window: .inf}", "28: batch.completion_window must be a time in whole hours or days such as 24h or 7d, found the number .inf; write 24h"),
    ("batch: {completion_window: 0}", "28: batch.completion_window must be a time from 1 to 2160 hours, found the number 0; write a value in this range"),
    ("batch: {completion_window: 100d}", '28: batch.completion_window must be a time from 1 to 2160 hours, found the string "100d"; write a value in this range'),
    ("batch: {fallback: true}", "19: batch.fallback must be one of off, online, found the truth value true; write online"),
    ("batch: {fallback: [off]}", "19: batch.fallback must be one of off, online, found a list; write online"),
    ("batch: {deadline: later}", '19: batch.deadline must be a time such as 90s, 30m or 2h, or a number of seconds, found the string "later"; write 30m'),
    ("batch: {poll: 5}", '15: batch.poll must be a mapping, found a number; write it as lines of "key: value" below'),
    ("batch: {poll: {first: 0}}", "23: batch.poll.first must be a time from 0.01 to 86400 seconds, found the number 0; write a value in this range"),
    ("batch: {poll: {first: 2m, max: 1m}}", "23: poll.first must not be above poll.max; write a smaller one"),
    ("batch: {max_bytes: 1MB, max_line_bytes: 2MB}", "41: max_line_bytes must not be above max_bytes; write a smaller one"),
    ("batch: {max_bytes: many}", '20: batch.max_bytes must be a size such as 64MiB, or a number of bytes, found the string "many"; write 64MiB'),
    ("batch: {max_requests: 0}", "23: batch.max_requests must be a whole number from 1 to 10000000, found the number 0; write a value in this range"),
    ("batch: {completion_windows: 24h}", '9: unknown key "completion_windows"; did you mean "completion_window"?'),
    ("batch: {fallbak: off}", '9: unknown key "fallbak"; did you mean "fallback"?'),
    ("batch: {zzz: 1}", '9: unknown key "zzz" in batch; known keys are completion_window, fallback, deadline, cancel_wait, settle, poll, max_requests, max_bytes, max_line_bytes'),
    ("deadline: 20h", '1: unknown key "deadline" here; it belongs in batch'),
    ("batch: {first: 5}", '9: unknown key "first" here; it belongs in batch.poll'),
    ("batch: {max_batches: 5}", '9: unknown key "max_batches" here; it belongs in limits'),
    ("max_line_bytes: 5", '1: unknown key "max_line_bytes" here; it belongs in input'),
    ("limits: {max_batches: 0}", "23: limits.max_batches must be a whole number from 1 to 100000, found the number 0; write a value in this range"),
    ("limits: {enqueued_tokens: 1.5}", "27: limits.enqueued_tokens must be a whole number, found the number 1.5; write 2"),
    ("limits: {max_batch: 5}", '10: unknown key "max_batch"; did you mean "max_batches"?'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_value_is_told_with_its_place_and_the_fix(text: str, message: str) -> None:
    assert problems(text) == [f"2:{message}"]


def test_what_the_service_does_not_take() -> None:
    window = "batch: {completion_window: 48h}"
    assert problems(window, OPENAI) == [
        "2:28: completion_window 48h is not possible: openai takes 24h only; write 24h"
    ]
    dashscope = OPENAI.replace("openai", "dashscope")
    assert problems("batch: {completion_window: 15d}", dashscope) == [
        "2:28: completion_window 15d is not possible: dashscope takes 24h to 336h; write a value in this range"
    ]
    assert len(problems("batch: {completion_window: 23h}", dashscope)) == 1
    assert parse(window + "\nbackend: online", OPENAI).batch.completion_window == "48h"  # a note tells of it


@pytest.mark.parametrize("domain", ["deepseek", "vllm", "moonshot"])
def test_batch_where_there_is_none(domain: str) -> None:
    model = OPENAI.replace("openai", domain)
    found = problems("backend: batch", model)
    assert found == [f"2:10: no Batch API is known of {domain}; write online or auto"]


def test_batch_where_it_cannot_be_spoken() -> None:
    found = problems("backend: batch", OPENAI.replace("openai", "mistral"))
    assert found == ["2:10: mistral has a Batch API that this version cannot speak; write online or auto"]


def test_all_at_once() -> None:
    text = "backend: batch\nbatch:\n  completion_window: 1\n  fallbak: off\n  poll: {first: 2, max: 1}\n"
    model = "model:\n  domain: deepseek\n  name: m\n"
    assert [problem.split(": ")[0] for problem in problems(text, model)] == [
        "1:1",
        "4:10",
        "6:22",
        "7:3",
        "8:17",
    ]
