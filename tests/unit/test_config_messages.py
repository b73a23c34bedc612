"""Every message about a config: its place, what was found, what was expected, the fix."""
# ruff: noqa: E501  the messages of the tables stay whole

import pytest

from batch_infer.protocol.errors import ConfigError, from_wire
from batch_infer.protocol.text import Text
from batch_inferd.config.load import parse_config
from batch_inferd.config.problems import MAX_PROBLEMS

HEAD = "model:\n  domain: test\n  password: x\n  max_tokens: 10\n"  # what follows begins on line 5


def problems(text: str | bytes) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ConfigError) as caught:
        parse_config(data, "/somewhere/config.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_the_example_of_the_design() -> None:
    text = 'model:\n  domain: test\n  password: x\n  max_tokens: 10\n\n  # numbers\n  temperature: "0.6"\n'
    assert problems(text) == [
        'config.yaml:7:16: temperature must be a number, found the string "0.6"; remove the quotes'
    ]


@pytest.mark.parametrize("key", ["domain", "password", "max_tokens"])
@pytest.mark.parametrize("value", [None, "", '""', "~", "null", "'  '"])
def test_the_required_keys_of_the_seed(key: str, value: str | None) -> None:
    values = {"domain": "test", "password": "x", "max_tokens": "10"}
    lines = [f"  {name}: {value if name == key else good}" for name, good in values.items()]
    if value is None:
        lines = [line for line in lines if not line.startswith(f"  {key}:")]
    with pytest.raises(ConfigError) as caught:
        parse_config(("# config\nmodel:\n" + "\n".join(lines)).encode(), "config.yaml")
    (problem,) = caught.value.problems
    # The Chinese catalogue translates exactly these two.
    assert problem.msgid == "{file}:{line}:{column}: {problem}"
    assert problem.params["problem"] == Text(f"{key} must not be empty in the config file")
    line = 2 if value is None else 3 + list(values).index(key)
    assert problem.params["line"] == line
    if value is None:
        assert problem.params["column"] == 1  # the section's own place


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "model:\n", "model: {}\n", "test_lines: 3\n"])
def test_an_empty_config_lacks_all_three(text: str) -> None:
    assert problems(text) == [
        "config.yaml:1:1: domain must not be empty in the config file",
        "config.yaml:1:1: password must not be empty in the config file",
        "config.yaml:1:1: max_tokens must not be empty in the config file",
    ]


MODEL = [
    ("temperature: '0.6'", '16: temperature must be a number, found the string "0.6"; remove the quotes'),
    ("temperature: warm", '16: temperature must be a number, found the string "warm"; write a number such as 0.6'),
    ("temperature: 3", "16: temperature must be a number from 0 to 2, found the number 3; write a value in this range"),
    ("temperature: .nan", "16: temperature must be a number, found the number .nan; write a number such as 0.6"),
    ("temperature: .inf", "16: temperature must be a number from 0 to 2, found the number .inf; write a value in this range"),
    ("temperature: true", "16: temperature must be a number, found the truth value true; write a number such as 0.6"),
    ("temperature: [1]", "16: temperature must be a number, found a list; write a number such as 0.6"),
    ("enable_thinking: no", '20: enable_thinking must be true or false, found the string "no"; write false'),
    ("enable_thinking: 'true'", '20: enable_thinking must be true or false, found the string "true"; remove the quotes'),
    ("enable_thinking: 1", "20: enable_thinking must be true or false, found the number 1; write true or false"),
    ("name: [a]", "9: name must be a string, found a list; write one value, in quotes"),
    ("name: ''", "9: name must not be empty; write a value, or remove the key"),
    ('name: "a\\nb"', "9: name must be one line of text without control characters; rewrite it"),
    ("name: ${}", '9: name has a "${" without a name and a "}"; write ${NAME} for a variable, $$ for a $'),
    ("extra_body: [1]", '15: extra_body must be a mapping, found a list; write it as lines of "key: value" below'),
    ("extra_body: {stop: [on]}", '23: extra_body.stop holds the bare word on; write true, or "on" if text is meant'),
    ("extra_body: {a: -.inf}", "19: extra_body.a must be a finite number: JSON has no other"),
    ("extra_body: {a: 99999999999999999999}", "19: extra_body.a is too big for a JSON number; put quotes around it"),
    ("extra_body: {messages: []}", "16: extra_body cannot hold messages: it comes from the input lines; remove it"),
    ("extra_body: {stream: true}", "24: answers cannot be streamed here; remove stream"),
    ("extra_body: {a: 1, a: 2}", '22: the key "a" stands twice, on line 5 and on line 5; keep one'),
    ("headers: {a b: c}", '13: "a b" cannot be the name of a header; use letters, digits and "-"'),
    ("headers: {Host: c}", '13: the header "Host" is set by the HTTP client; remove it'),
    ("headers: {X-A: 1, x-a: 2}", '21: the key "x-a" stands twice, on line 5 and on line 5; keep one'),
    ("headers: {X-A: 值}", "18: headers.X-A has characters that an HTTP header cannot carry; only ASCII can stand in it"),
    ("temprature: 1", '3: unknown key "temprature"; did you mean "temperature"?'),
    ("top_p: 0.5", '3: unknown key "top_p" in model; other request fields belong in extra_body'),
    ("test_lines: 3", '3: unknown key "test_lines" in model; it belongs at the top level, unindented'),
    ("rpm: 3", '3: unknown key "rpm" here; it belongs in limits'),
    ("domain: other", '3: the key "domain" stands twice, on line 2 and on line 5; keep one'),
    ("[a, b]: 1", "3: a key must be one word, found a list or a mapping"),
    ("<<: {a: 1}", "3: merge keys (<<) are not supported; write the keys out"),
    ("name: !!python/object:os.system x", "9: YAML tags (!…) are not supported; remove it, or use quotes"),
    ("name: *gone", "9: a value that begins with * is a YAML alias, and there is none of that name; quote it"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), MODEL)
def test_keys_of_model(line: str, message: str) -> None:
    assert problems(f"{HEAD}  {line}\n") == [f"config.yaml:5:{message}"]


TOP = [
    ("test_lines: -1", "13: test_lines must be a whole number from 0 to 1000000000000, found the number -1; write a value in this range"),
    ("lines_per_chunk: 0", "18: lines_per_chunk must be a whole number from 1 to 100000, found the number 0; write a value in this range"),
    ("lines_per_chunk: 2.5", "18: lines_per_chunk must be a whole number, found the number 2.5; write 2"),
    ("lines_per_chunk: 1_000", '18: lines_per_chunk must be a whole number, found the string "1_000"; write 1000'),
    ("lines_per_chunk: '200'", '18: lines_per_chunk must be a whole number, found the string "200"; remove the quotes'),
    ("max_retry_count: 101", "18: max_retry_count must be a whole number from 0 to 100, found the number 101; write a value in this range"),
    ("backend: batched", '10: backend must be one of auto, batch, online, found the string "batched"; write auto'),
    ("temperature: 0.5", '1: unknown key "temperature" here; it belongs in model'),
    ("test_line: 5", '1: unknown key "test_line"; did you mean "test_lines"?'),
    ("bunting: {usd: 3}", '1: unknown key "bunting"; known keys are model, test_lines, lines_per_chunk, max_retry_count, backend, priority, execution, limits, batch, input, images, output, prices, budget, logging, daemon'),
    ("limits: 3", '9: limits must be a mapping, found a number; write it as lines of "key: value" below'),
    ("limits: {rpm: 0}", "15: limits.rpm must be a whole number from 1 to 1000000000, found the number 0; write a value in this range"),
    ("limits: {rps: 1}", '10: unknown key "rps"; did you mean "rpm"?'),
    ("logging: {color: 1}", '11: unknown key "color" in logging; known keys are level, keep_days, dir, format'),
    ("execution: {mode: async}", '19: execution.mode must be one of asyncio, threading, multiprocessing, found the string "async"; write asyncio'),
    ("execution: {processes: 4}", "24: processes must be 1 in mode asyncio; write mode: multiprocessing for more"),
    ("execution: {timeout: {read: soon}}", '29: execution.timeout.read must be a time such as 90s, 30m or 2h, or a number of seconds, found the string "soon"; write 30m'),
    ("execution: {timeout: {read: 0}}", "29: execution.timeout.read must be a time from 0.1 to 86400 seconds, found the number 0; write a value in this range"),
    ("input: {max_line_bytes: big}", '25: input.max_line_bytes must be a size such as 64MiB, or a number of bytes, found the string "big"; write 64MiB'),
    ("input: {max_line_bytes: 1}", "25: input.max_line_bytes must be a size from 1024 to 1073741824 bytes, found the number 1; write a value in this range"),
    ("output: {durability: paranoid}", '22: output.durability must be one of normal, strict, found the string "paranoid"; write normal'),
    ("logging: {level: loud}", '18: logging.level must be one of debug, info, warning, error, found the string "loud"; write debug'),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), TOP)
def test_keys_at_the_top(line: str, message: str) -> None:
    assert problems(f"{HEAD}{line}\n") == [f"config.yaml:5:{message}"]


# Whole models: what stands in them beside max_tokens.
SERVICES = [
    ("domain: opnai, password: x", '17: there is no service "opnai"; did you mean "openai"?'),
    ("domain: '127.0.0.1:8000/v1', password: x", '17: there is no service "127.0.0.1:8000/v1"; write an address with http:// or https://'),
    ("domain: ftp://host/v1, password: x", "17: a base URL must begin with http:// or https://; write it like https://host/v1"),
    ("domain: http://me:pw@host/v1, password: x", "17: a base URL must not hold a password; put it into model.password"),
    ("domain: http://host/v1?key=1, password: x", "17: a base URL may have no query but api-version; put keys into model.headers"),
    ("domain: 'http://[::1/v1', password: x", "17: this is not a valid URL; write it like https://host/v1"),
    ("domain: http://host:99999/v1, password: x", "17: this is not a valid URL; write it like https://host/v1"),
    ("domain: anthropic, password: x", "17: the service anthropic is known, but this version cannot call it; choose another one"),
    ("domain: openai, password: x, name: ", "1: name is missing, and openai has no default model; add the model's name"),
    ("domain: openai, password: x", "1: name is missing, and openai has no default model; add the model's name"),
    ("domain: openai, name: m, password: YOUR_PASSWORD", '44: password is still the placeholder "YOUR_PASSWORD"; write the real one, or ${NAME}'),
    ("domain: openai, name: m, password: 密码", "44: password has characters that an HTTP header cannot carry; only ASCII can stand in it"),
    ("domain: http://host/v1, name: m", "1: password must not be empty in the config file"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "message"), SERVICES)
def test_the_service(model: str, message: str) -> None:
    assert problems(f"model: {{{model}, max_tokens: 1}}\n") == [f"config.yaml:1:{message}"]


def test_a_name_that_is_like_none_lists_all() -> None:
    (problem,) = problems("model: {domain: zzzz, password: x, max_tokens: 1}\n")
    assert problem.startswith('config.yaml:1:17: there is no service "zzzz"; known are test, openai, azure, ')
    assert problem.endswith(", or write a base URL")


def test_all_at_once_and_in_the_files_order() -> None:
    text = (
        'max_retry_count: "3"\n'
        "model:\n"
        "  domain: opnai\n"
        '  password: ""\n'
        '  max_tokens: "16384"\n'
        "  temprature: 0.6\n"
        "backend: batched\n"
        "backend: auto\n"
    )
    assert [problem.split(": ")[0] for problem in problems(text)] == [
        "config.yaml:1:18",
        "config.yaml:3:11",
        "config.yaml:4:13",
        "config.yaml:5:15",
        "config.yaml:6:3",
        "config.yaml:7:10",
        "config.yaml:8:1",
    ]


def test_a_flood_of_problems_is_cut() -> None:
    found = problems(HEAD + "".join(f"key_{n}: 1\n" for n in range(500)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == f"config.yaml:504:1: and {500 - MAX_PROBLEMS} more problems"


def test_a_long_value_is_shortened_to_one_line() -> None:
    (problem,) = problems(HEAD + '  temperature: "' + "a\\n" * 200 + '"\n')
    assert "\n" not in problem
    assert "…" in problem
    assert len(problem) < 200


def test_problems_travel_over_the_wire() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(b"model: {domain: opnai, password: x, max_tokens: '1'}", "config.yaml")
    received = from_wire(caught.value.to_wire())
    assert isinstance(received, ConfigError)
    assert [str(p) for p in received.problems] == [str(p) for p in caught.value.problems]
    assert received.exit_code == 2


def test_no_message_repeats_a_secret() -> None:
    secret = "hunter2hunter2"
    texts = [
        f"model: {secret}\n",
        f"{secret}\n",
        f"model:\n  domain: http://me:{secret}@host/v1\n",
        f"model:\n  domain: me:{secret}@host/v1\n",
        f"model:\n  password: [{secret}]\n",
        f"model:\n  password: *{secret}\n",
        f"model:\n  password: !{secret} x\n",
        f"model:\n  password: @{secret}\n",
        f"model:\n  password: {secret}: {secret}\n",
        f"model:\n  password: '{secret}\n",
        f'model:\n  password: "{secret}\\q"\n',
        f"model:\n  password: ${{{secret}!}}\n",
        f"model:\n  domain: openai\n  password: {secret}密\n",
        f"model:\n  headers: {{Authorization: [{secret}]}}\n",
        f"model:\n  headers: {secret}\n",
        f"model:\n  headers: {{Authorization: {secret}密}}\n",
    ]
    for text in texts:
        assert not any(secret in problem for problem in problems(text)), text
