"""Secrets in what is logged."""

from typing import Any

import msgspec
import pytest

from batch_inferd.config.load import parse_config
from batch_inferd.services.masking import mask


def test_a_config_can_be_logged() -> None:
    text = (
        "model:\n  domain: openai\n  name: m\n  password: hunter2\n  max_tokens: 10\n  messages_key: talk\n"
        "  headers: {Authorization: hunter2, X-API-Key: hunter2, X-Team: red}\n"
        "  extra_body: {token: hunter2, metadata: {api_key: hunter2}, max_completion_tokens: 5}\n"
    )
    masked = mask(msgspec.to_builtins(parse_config(text.encode(), "config.yaml")))
    assert "hunter2" not in str(masked)
    assert masked["model"]["headers"]["X-Team"] == "red"
    assert masked["model"]["max_tokens"] == 10
    assert masked["model"]["messages_key"] == "talk"
    assert masked["model"]["extra_body"]["max_completion_tokens"] == 5


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ({"password": "${OPENAI_API_KEY}"}, {"password": "${OPENAI_API_KEY}"}),
        ({"password": "x${OPENAI_API_KEY}"}, {"password": "***"}),
        ({"password": "none"}, {"password": "none"}),
        ({"password": ""}, {"password": ""}),
        ({"password": None}, {"password": None}),
        ({"password": {"literal": True}}, {"password": {"literal": True}}),
        ({"Ocp-Apim-Subscription-Key": "a"}, {"Ocp-Apim-Subscription-Key": "***"}),
        ({"Cookie": "a"}, {"Cookie": "***"}),
        ({"x-auth-token": "a"}, {"x-auth-token": "***"}),
        ({"tokens": "a", "monkey": "b", "key_id": "c"}, {"tokens": "a", "monkey": "b", "key_id": "c"}),
        (["http://me:pw@proxy:1/"], ["http://***@proxy:1/"]),
        ("Authorization: Bearer abcdefgh", "Authorization: Bearer ***"),
        ("authorization: abc", "authorization: ***"),
        ("OPENAI_API_KEY=abc next", "OPENAI_API_KEY=*** next"),
        ("password: ${KEY}", "password: ${KEY}"),
        ('"password": "a b"', '"password": ***'),
        ("key sk-abcdefghijklmnop is wrong", "key *** is wrong"),
        ("nothing here, max_tokens: 5", "nothing here, max_tokens: 5"),
        (5, 5),
        (None, None),
    ],
)
def test_values(value: Any, masked: Any) -> None:
    assert mask(value) == masked


def test_known_secrets_are_found_anywhere() -> None:
    assert (
        mask("the service said: wrong key qwerty-12", ["qwerty-12", ""]) == "the service said: wrong key ***"
    )
    assert mask("abc", ["abc"]) == "abc"  # too short to be told from words
