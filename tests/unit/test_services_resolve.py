"""A config and a shell's environment, resolved: credentials, proxy, base URL, and the workers' plan."""
# ruff: noqa: E501  messages stay whole

from typing import Any

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.load import parse_config
from batch_inferd.config.variables import variables
from batch_inferd.services.credentials import Credential
from batch_inferd.services.resolve import Resolved, build_plan, resolve, wants_test_service

TEST_URL = "http://127.0.0.1:5555/v1"


def resolved(
    text: str,
    env: dict[str, str] | None = None,
    proxy: dict[str, str] | None = None,
    test_base_url: str | None = TEST_URL,
) -> Resolved:
    config = parse_config(text.encode(), "config.yaml")
    return resolve(config, env or {}, proxy or {}, test_base_url=test_base_url)


def problems(text: str, env: dict[str, str] | None = None, proxy: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolved(text, env, proxy)
    return [str(problem) for problem in caught.value.problems]


def plan(result: Resolved) -> dict[str, Any]:
    made = build_plan(result, task_uuid="u", version=2, account="acc", batch_id="batch_1")
    return {name: getattr(made, name) for name in made.__struct_fields__}


TEST = "model: {domain: test, password: YOUR_PASSWORD, max_tokens: 10, temperature: 0.6}\n"
OPENAI = "model:\n  domain: openai\n  name: gpt-x\n  max_tokens: 10\n"


def test_the_test_service() -> None:
    result = resolved(TEST)
    assert (result.service, result.base_url, result.model) == ("test", TEST_URL, "test-model")
    assert result.credential == Credential("YOUR_PASSWORD")
    assert (result.backend, result.notes, result.warnings) == ("batch", (), ())
    assert plan(result)["headers"] == {"Authorization": "Bearer YOUR_PASSWORD"}


def test_the_test_service_gets_a_key_where_the_config_has_none() -> None:
    result = resolved(TEST.replace("YOUR_PASSWORD", "none"))
    assert result.credential == Credential(None)
    assert plan(result)["headers"] == {"Authorization": "Bearer none"}
    own = resolved(TEST.replace("YOUR_PASSWORD", "none, headers: {authorization: Bearer mine}"))
    assert plan(own)["headers"] == {"authorization": "Bearer mine"}


def test_the_test_service_needs_its_address() -> None:
    with pytest.raises(ValueError, match="address"):
        resolved(TEST, test_base_url=None)


@pytest.mark.parametrize(
    ("domain", "env", "wanted"),
    [
        ("test", {}, True),
        ("vllm", {}, False),
        ("${D}", {"D": "test"}, True),
        ("${D}", {"D": "vllm"}, False),
        ("${D}", {}, False),
    ],
)
def test_who_needs_the_test_service(domain: str, env: dict[str, str], wanted: bool) -> None:
    text = f"model: {{domain: '{domain}', name: m, password: x, max_tokens: 1}}"
    assert wants_test_service(parse_config(text.encode(), "config.yaml"), env) is wanted


def test_the_plan_has_everything() -> None:
    text = (
        "model:\n  domain: https://me.openai.azure.com/?api-version=preview\n  name: gpt-x\n"
        "  password: ${KEY}\n  max_tokens: 10\n  messages_key: conversation\n  headers: {X-A: '1'}\n"
        "max_retry_count: 5\nexecution: {timeout: {connect: 1, read: 2m, total: 3m}}\n"
        "input: {max_line_bytes: 2048}\noutput: {durability: strict}\n"
    )
    made = plan(resolved(text, {"KEY": "k1"}))
    assert made["base_url"] == "https://me.openai.azure.com/openai/v1"
    assert made["query"] == {"api-version": "preview"}
    assert made["headers"] == {"api-key": "k1", "X-A": "1"}
    assert made["messages_key"] == "conversation"
    assert made["paths"]["chat"] == "/chat/completions"
    assert made["defaults"]["chat"] == {"model": "gpt-x", "max_completion_tokens": 10}
    assert made["rename"] == {"max_tokens": "max_completion_tokens"}
    assert {"stream", "enable_thinking"} <= set(made["omit"])
    assert (made["retry"].max_count, made["durability"], made["max_line_bytes"]) == (5, "strict", 2048)
    assert (made["timeouts"].connect, made["timeouts"].read, made["timeouts"].total) == (1, 120, 180)
    assert (made["task"], made["version"], made["account"], made["batch_id"]) == ("u", 2, "acc", "batch_1")
    assert "DeploymentNotFound" in made["model_codes"]


def test_the_usual_variable_stands_in_for_the_password() -> None:
    result = resolved(OPENAI, {"OPENAI_API_KEY": "sk-1\n", "OTHER": "x"})
    assert result.credential.password == "sk-1"
    assert result.base_url == "https://api.openai.com/v1"
    assert [str(note) for note in result.notes] == ["max_tokens is sent as max_completion_tokens"]
    reason = "https://api.openai.com/v1 has a Batch API; backend: online makes calls instead"
    assert str(result.backend_reason) == reason


def test_variables_in_every_string_of_model() -> None:
    text = (
        "model:\n  domain: ${URL}\n  name: m-${SIZE}\n  password: a$$b${KEY}\n  max_tokens: 1\n"
        "  messages_key: ${FIELD}\n  headers: {X-A: 'v ${KEY}'}\n  extra_body: {literal: '${KEY}'}\n"
    )
    env = {"URL": "http://h/v1/", "SIZE": "7b", "KEY": "k", "FIELD": "talk"}
    result = resolved(text, env)
    assert (result.base_url, result.model, result.messages_key) == ("http://h/v1", "m-7b", "talk")
    assert result.credential == Credential("a$bk", {"X-A": "v k"})
    assert result.config.model.extra_body == {"literal": "${KEY}"}
    assert variables(result.config) == ["URL", "SIZE", "KEY", "FIELD"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (OPENAI, ["OPENAI_API_KEY"]),
        (OPENAI + "  password: x\n", []),
        (OPENAI + "  password: none\n", []),
        (OPENAI + "  password: ${A}${B}${A}\n", ["A", "B"]),
        ("model: {domain: azure, name: d, max_tokens: 1}", ["AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"]),
        ("model: {domain: ollama, name: q, max_tokens: 1}", []),
        (TEST, []),
    ],
)
def test_which_variables_a_config_needs(text: str, names: list[str]) -> None:
    assert variables(parse_config(text.encode(), "config.yaml")) == names


def test_azure_by_name() -> None:
    text = "model: {domain: azure, name: d, max_tokens: 1}"
    env = {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/", "AZURE_OPENAI_API_KEY": "k"}
    assert resolved(text, env).base_url == "https://me.openai.azure.com/openai/v1"


def test_all_missing_variables_at_once_and_in_place() -> None:
    text = OPENAI + "  password: ${KEY}\n  headers:\n    X-Org: ${ORG}\n"
    assert problems(text, {"ORG": ""}) == [
        "config.yaml:5:13: the variable KEY is not set; set it in this shell or in .env: KEY=…",
        "config.yaml:7:12: the variable ORG is empty; set it in this shell or in .env: ORG=…",
    ]
    assert problems(OPENAI) == [
        "config.yaml:1:1: the variable OPENAI_API_KEY is not set; set it in this shell or in .env: OPENAI_API_KEY=…"
    ]


def test_a_domain_that_only_the_environment_tells() -> None:
    text = "model:\n  domain: ${SERVICE}\n  max_tokens: 1\n"
    found = problems(text, {"SERVICE": "opnai"})
    assert found == ['config.yaml:2:11: there is no service "opnai"; did you mean "openai"?']
    assert problems(text, {"SERVICE": "http://h/v1"}) == [
        "config.yaml:1:1: name is missing, and openai-compatible has no default model; add the model's name",
        "config.yaml:1:1: password must not be empty in the config file",
    ]
    assert problems(text, {"SERVICE": "http://u:p@h/v1"}) == [
        "config.yaml:2:11: a base URL must not hold a password; put it into model.password"
    ]


@pytest.mark.parametrize(
    ("value", "end"),
    [
        ("YOUR_PASSWORD", "write the real one, or ${NAME}"),
        ("k\nk", "only ASCII can stand in it"),
        ("密", "in it"),
    ],
)
def test_values_that_cannot_be_a_password(value: str, end: str) -> None:
    (problem,) = problems(OPENAI, {"OPENAI_API_KEY": value})
    assert problem.endswith(end)


def test_header_values_are_checked_too() -> None:
    (problem,) = problems(OPENAI + "  password: x\n  headers: {X-A: '${A}'}\n", {"A": "a\r\nX-B: b"})
    assert problem.startswith("config.yaml:6:18: headers.X-A has characters")


def test_services_without_a_password() -> None:
    result = resolved("model: {domain: vllm, name: q, max_tokens: 1}")
    assert (result.credential.password, plan(result)["headers"]) == (None, {})
    keyed = resolved("model: {domain: vllm, name: q, max_tokens: 1, password: k}")
    assert plan(keyed)["headers"] == {"Authorization": "Bearer k"}
    assert (
        plan(resolved("model: {domain: 'http://h/v1', name: q, max_tokens: 1, password: None}"))["headers"]
        == {}
    )


def test_own_headers_win() -> None:
    text = OPENAI + "  password: x\n  headers: {authorization: 'Bearer mine'}\n"
    assert plan(resolved(text))["headers"] == {"authorization": "Bearer mine"}


def test_the_proxy_of_the_shell() -> None:
    proxy = {"https": "http://proxy:3128"}
    result = resolved(OPENAI + "  password: x\n", proxy=proxy)
    assert (result.proxy, plan(result)["proxy"], result.credential.proxy) == (
        *2 * ("http://proxy:3128",),
        None,
    )
    secret = resolved(OPENAI + "  password: x\n", proxy={"https": "http://me:pw@proxy:1"})
    assert secret.proxy == secret.credential.proxy == "http://me:pw@proxy:1"
    assert resolved(TEST, proxy={"http": "http://proxy:1", "all": "socks5://p:1"}).proxy is None
    (problem,) = problems(OPENAI + "  password: x\n", proxy={"all": "socks5://p:1"})
    assert problem.startswith("config.yaml:2:11: the shell's proxy is of the kind socks5")


@pytest.mark.parametrize(
    ("text", "most", "warned"),
    [
        (TEST, 1024, False),
        (TEST + "limits: {max_concurrency: 5}\n", 5, False),
        (TEST + "limits: {max_concurrency: 5}\nexecution: {concurrency: 6}\n", 5, True),
        (TEST + "execution: {concurrency: 2000}\n", 1024, True),
        ("model: {domain: ollama, name: q, max_tokens: 1}\n", 8, False),
        ("model: {domain: ollama, name: q, max_tokens: 1}\nlimits: {max_concurrency: 1024}\n", 1024, False),
    ],
)
def test_concurrency(text: str, most: int, warned: bool) -> None:
    result = resolved(text)
    assert result.max_concurrency == most
    assert any("which holds" in str(warning) for warning in result.warnings) is warned


def test_a_base_url_without_a_path_is_warned_about() -> None:
    (warning,) = resolved("model: {domain: 'http://h:8000', name: q, max_tokens: 1, password: x}").warnings
    assert str(warning) == "the base URL http://h:8000 has no path such as /v1; is it complete?"


def test_repr_shows_no_secret() -> None:
    result = resolved(
        OPENAI + "  password: hunter2\n  headers: {X-A: hunter2}\n", proxy={"https": "http://u:hunter2@p"}
    )
    assert "hunter2" not in repr(result) + repr(result.credential)
