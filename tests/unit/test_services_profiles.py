"""From a domain to a profile: built-in names, base URLs, the user's services.yaml."""
# ruff: noqa: E501, ISC004  messages stay whole

from pathlib import Path

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.services import profiles
from batch_inferd.services.builtin import GENERIC, PROFILES
from batch_inferd.services.catalogue import load_services
from batch_inferd.services.profiles import find_profile
from batch_inferd.services.urls import UrlError, is_loopback, parse_url

ALL = {
    "test", "openai", "azure", "dashscope", "bigmodel", "deepseek", "moonshot", "groq", "together", "mistral",
    "ollama", "vllm", "anthropic", "gemini", "bedrock",
}  # fmt: skip


def refused(domain: str) -> str:
    with pytest.raises(ConfigError) as caught:
        find_profile(domain)
    (problem,) = caught.value.problems
    return str(problem)


def test_the_built_in_names() -> None:
    assert set(PROFILES) == ALL
    for name, profile in PROFILES.items():
        assert profile.name == name
        if profile.backends and not profile.embedded:
            assert find_profile(name) is profile
            assert not profile.base_url.endswith("/")
            assert profile.variable or profile.keyless
        if profile.base_url.startswith("http") and profile.backends:
            assert parse_url(profile.base_url).url == profile.base_url
            assert parse_url(profile.base_url).path.endswith(profile.default_path)


def test_names_in_any_case() -> None:
    assert find_profile("OpenAI").name == "openai"


@pytest.mark.parametrize("name", ["anthropic", "gemini", "bedrock"])
def test_services_of_later_versions(name: str) -> None:
    assert f"the service {name} is known, but this version cannot call it" in refused(name)


@pytest.mark.parametrize(
    ("url", "profile", "base"),
    [
        ("http://127.0.0.1:8000/v1", "openai-compatible", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "openai-compatible", "http://127.0.0.1:8000/v1"),
        ("HTTP://HOST:8000/V1", "openai-compatible", "http://host:8000/V1"),
        ("http://host/v1/chat/completions", "openai-compatible", "http://host/v1"),
        ("http://host/v1/chat/completions/", "openai-compatible", "http://host/v1"),
        ("http://host/v1/embeddings", "openai-compatible", "http://host/v1"),
        ("http://[::1]:8000/v1", "openai-compatible", "http://[::1]:8000/v1"),
        ("http://host", "openai-compatible", "http://host"),
        ("https://api.openai.com/v1", "openai", "https://api.openai.com/v1"),
        ("https://api.openai.com", "openai", "https://api.openai.com/v1"),
        ("https://me.openai.azure.com/", "azure", "https://me.openai.azure.com/openai/v1"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope", None),
        ("https://ws1.ap-southeast-1.maas.aliyuncs.com", "dashscope", None),
        ("https://api.openai.com.evil.example/v1", "openai-compatible", None),
    ],
)
def test_base_urls(url: str, profile: str, base: str | None) -> None:
    found = find_profile(url)
    assert found.name == profile
    if base is not None:
        assert parse_url(found.base_url, found.default_path).url == base


def test_azure_with_an_api_version() -> None:
    url = "https://me.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
    parsed = parse_url(find_profile(url).base_url)
    assert parsed.url == "https://me.openai.azure.com/openai/deployments/d"
    assert parsed.query == {"api-version": "2024-10-21"}


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///v1",
        "http://a b/v1",
        "http://host:x/v1",
        "http://[::1/v1",
        "gopher://h",
        "http://u@h/v1",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(UrlError):
        parse_url(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("api.localhost.", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "services.yaml"
    monkeypatch.setattr(profiles, "services_path", lambda: path)
    return path


def test_a_service_of_the_users_own(services: Path) -> None:
    services.write_text(
        "gateway:\n  base_url: https://llm.example/v1\n  like: openai\n  variable: GATEWAY_KEY\n"
        "  model: big\n  omit: [seed]\n  rename: {max_tokens: limit}\n  credit_codes: [broke]\n"
        "  max_concurrency: 5\n"
        "local:\n  base_url: ${LOCAL_URL}\n  auth: none\n",
        encoding="utf-8",
    )
    gateway = find_profile("gateway")
    assert (gateway.name, gateway.base_url, gateway.variable) == (
        "gateway",
        "https://llm.example/v1",
        "GATEWAY_KEY",
    )
    assert gateway.thinking == "omit"  # of openai
    assert (gateway.omit, gateway.rename, gateway.credit_codes) == (
        ("seed",),
        {"max_tokens": "limit"},
        ("broke",),
    )
    assert (gateway.model, gateway.max_concurrency, gateway.keyless) == ("big", 5, False)
    local = find_profile("local")
    assert (local.auth, local.keyless, local.variable) == ("none", True, None)
    assert 'did you mean "gateway"?' in refused("gatewey")


def test_batches_of_the_users_own_services_are_for_those_who_ask(services: Path) -> None:
    services.write_text(
        "mine: {base_url: http://h/v1}\n"
        "glm: {base_url: http://h/v1, like: bigmodel}\n"
        "served: {base_url: http://h/v1, like: vllm}\n"
        "le: {base_url: http://h/v1, like: mistral}\n",
        encoding="utf-8",
    )
    found = {name: find_profile(name) for name in ("mine", "glm", "served", "le")}
    assert {profile.backends for profile in found.values()} == {("online",)}
    assert found["glm"].batch == PROFILES["bigmodel"].batch
    assert found["mine"].batch == found["served"].batch == GENERIC.batch
    assert (found["le"].batch, found["le"].batch_later) == (None, True)


def test_which_services_make_batches() -> None:
    by_itself = {name for name, profile in PROFILES.items() if "batch" in profile.backends}
    assert by_itself == {"test", "openai", "azure", "dashscope", "bigmodel", "groq", "together"}
    assert by_itself == {name for name, profile in PROFILES.items() if profile.batch is not None}
    later = {name for name, profile in PROFILES.items() if profile.batch_later}
    assert later == {"mistral", "anthropic", "gemini", "bedrock"}


def test_all_problems_of_services_yaml(services: Path) -> None:
    services.write_text(
        "openai: {base_url: http://h/v1}\n"
        "a b: {base_url: http://h/v1}\n"
        "none: {}\n"
        "wrong:\n  base_url: ftp://h\n  auth: basic\n  omit: seed\n  rename: [a]\n  typ: x\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        find_profile("mine")
    assert [str(problem) for problem in caught.value.problems] == [
        'services.yaml:1:1: "openai" is the name of a built-in service; choose another one',
        'services.yaml:2:1: "a b" cannot be a service\'s name; use letters, digits, . _ -',
        'services.yaml:3:1: the service "none" has no base_url; add one',
        "services.yaml:5:13: a base URL must begin with http:// or https://; write it like https://host/v1",
        'services.yaml:6:9: wrong.auth must be one of bearer, api-key, none, found the string "basic"; write bearer',
        'services.yaml:7:9: wrong.omit must be a list, found the string "seed"; write it like [one, two]',
        "services.yaml:8:11: wrong.rename must be a mapping, found a list; "
        "write it like {max_tokens: max_completion_tokens}",
        'services.yaml:9:3: unknown key "typ" in wrong; known keys are base_url, like, auth, variable, model, '
        "thinking, rename, omit, credit_codes, model_codes, max_concurrency",
    ]


def test_built_in_names_do_not_need_a_good_services_yaml(services: Path) -> None:
    services.write_text("][", encoding="utf-8")
    assert find_profile("vllm").name == "vllm"
    with pytest.raises(ConfigError):
        find_profile("mine")


def test_no_services_yaml(tmp_path: Path) -> None:
    assert load_services(tmp_path / "services.yaml") == {}


def test_services_yaml_that_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "services.yaml"
    folder.mkdir()
    with pytest.raises(ConfigError) as caught:
        load_services(folder)
    assert "services.yaml cannot be read: it is a folder, and no file; check its permissions" in str(
        caught.value.problems[0]
    )
