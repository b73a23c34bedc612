"""How parameters are renamed, moved and left out, and that the notes say so."""

from typing import Any

import pytest

from batch_inferd.config.schema import Model
from batch_inferd.services.builtin import GENERIC, PROFILES
from batch_inferd.services.parameters import map_parameters


def model(**changes: Any) -> Model:
    values: dict[str, Any] = {
        "domain": "test",
        "max_tokens": 100,
        "temperature": 0.6,
        "enable_thinking": False,
        "extra_body": {"stop": [], "continue_final_message": False},
    }
    return Model(**(values | changes))


def chat(service: str, **changes: Any) -> dict[str, Any]:
    return map_parameters(model(**changes), "m", PROFILES[service], service).defaults["chat"]


def notes(service: str, **changes: Any) -> list[str]:
    return [str(note) for note in map_parameters(model(**changes), "m", PROFILES[service], service).notes]


def test_everything_of_the_seed_reaches_the_test_service() -> None:
    assert chat("test") == {
        "model": "m",
        "temperature": 0.6,
        "max_tokens": 100,
        "enable_thinking": False,
        "stop": [],
        "continue_final_message": False,
    }
    assert notes("test") == []


def test_an_unknown_server_gets_everything_as_it_is() -> None:
    assert map_parameters(model(), "m", GENERIC, "http://h").defaults["chat"] == chat("test")


def test_openai_refuses_most_of_it_and_the_notes_say_so() -> None:
    assert chat("openai") == {"model": "m", "temperature": 0.6, "max_completion_tokens": 100}
    assert notes("openai") == [
        "max_tokens is sent as max_completion_tokens",
        "extra_body.stop is left out: openai does not take an empty list",
        "extra_body.continue_final_message is left out: openai does not take it",
        "enable_thinking is left out: openai does not take it",
    ]
    assert chat("openai", extra_body={"stop": ["x"]})["stop"] == ["x"]


@pytest.mark.parametrize(
    ("service", "off", "on"),
    [
        ("dashscope", {"enable_thinking": False}, {"enable_thinking": True}),
        (
            "vllm",
            {"chat_template_kwargs": {"enable_thinking": False}},
            {"chat_template_kwargs": {"enable_thinking": True}},
        ),
        ("bigmodel", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}),
        ("deepseek", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}),
        ("together", {"reasoning": {"enabled": False}}, {"reasoning": {"enabled": True}}),
        ("ollama", {"reasoning_effort": "none"}, {"reasoning_effort": "medium"}),
        ("azure", {}, {}),
        ("groq", {}, {}),
        ("mistral", {}, {}),
    ],
)
def test_thinking(service: str, off: dict[str, Any], on: dict[str, Any]) -> None:
    plain = chat(service, enable_thinking=None, extra_body={})
    assert chat(service, extra_body={}) == plain | off
    assert chat(service, enable_thinking=True, extra_body={}) == plain | on


def test_extra_body_wins() -> None:
    body = chat("test", extra_body={"temperature": 1, "model": "other", "max_tokens": 5})
    assert (body["temperature"], body["model"], body["max_tokens"]) == (1, "other", 5)
    assert chat("openai", extra_body={"max_tokens": 5})["max_completion_tokens"] == 5
    assert chat("bigmodel", extra_body={"thinking": {"type": "enabled"}})["thinking"] == {"type": "enabled"}


def test_template_arguments_of_both_places_are_merged() -> None:
    body = chat("vllm", extra_body={"chat_template_kwargs": {"a": 1}})
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "a": 1}
    body = chat("vllm", extra_body={"chat_template_kwargs": {"enable_thinking": True}})
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert model().extra_body == {"stop": [], "continue_final_message": False}


def test_other_endpoints() -> None:
    defaults = map_parameters(model(extra_body={"seed": 1}), "m", PROFILES["openai"], "openai").defaults
    assert defaults["embeddings"] == {"model": "m"}
    assert defaults["responses"] == {"model": "m", "temperature": 0.6, "max_output_tokens": 100, "seed": 1}
    assert set(map_parameters(model(), "m", PROFILES["deepseek"], "deepseek").defaults) == {"chat"}


def test_answers_are_never_streamed() -> None:
    assert "stream" not in chat("test", extra_body={"stream": False, "stream_options": {}})
