"""Tokens of images: the services' own examples, and what holds for every rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.money.image_tokens import GUESS, GUESS_MOST, most_tokens, rule_of, tokens

MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1-nano",
    "o3",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5.2",
    "gpt-5.4",
    "gpt-5.5",
    "gpt-6",
    "claude-haiku-4-5",
    "claude-opus-4-7",
    "gemini-2.5-flash",
    "gemini-3-pro",
    "qwen2.5-vl-72b-instruct",
    "qwen3-vl-plus",
    "glm-4.5v",
)


@pytest.mark.parametrize(
    ("model", "size", "detail", "wanted"),
    [
        ("gpt-4o", (1024, 1024), "high", 765),  # 768 x 768 in four tiles
        ("gpt-4o", (2048, 4096), "", 1105),  # 768 x 1536 in six
        ("gpt-4o", (4096, 8192), "low", 85),
        ("gpt-4o", (768, 512), "", 425),  # small images are not scaled up
        ("gpt-4o-mini", (1024, 1024), "", 25501),
        ("gpt-5", (1024, 1024), "", 630),
        ("o1", (1024, 1024), "auto", 675),
        ("gpt-5-mini", (1024, 1024), "", 1659),  # 1024 patches, 1.62 tokens each
        ("gpt-5-mini", (1800, 2400), "", 2353),  # 1452 patches
        ("gpt-5-mini", (1024, 1024), "low", 415),  # 256 patches
        ("gpt-5.4", (640, 480), "high", 360),
        ("gpt-5.4", (2880, 864), "high", 1536),  # 2048 x 614, within its longer side
        ("gpt-6", (2880, 864), "high", 2916),
        ("gpt-6", (3200, 960), "original", 3600),
        ("gpt-6", (3200, 960), "", 3600),  # as it is, unless the request says otherwise
        ("gpt-5.4", (3200, 960), "", 1536),
        ("claude-sonnet-4-5", (1920, 1080), "", 1560),
        ("claude-opus-4-7", (1920, 1080), "", 2691),
        ("claude-opus-4-7", (3840, 2160), "", 4784),
        ("claude-opus-4-7", (3024, 1964), "", 4760),
        ("claude-opus-4-7", (4032, 3024), "", 4740),
        ("gemini-2.0-flash", (384, 384), "", 258),
        ("gemini-2.0-flash", (960, 540), "", 6 * 258),  # tiles of 360 pixels
        ("gemini-3-pro", (960, 540), "", 1120),
        ("glm-4.5v", (280, 280), "", 102),
        ("qwen2.5-vl-7b-instruct", (280, 280), "", 102),
        ("qwen3-vl-plus", (320, 320), "", 102),
        ("qwen3-vl-plus", (1, 1), "", 6),  # four at least, and two around them
    ],
)
def test_published_examples(model: str, size: tuple[int, int], detail: str, wanted: int) -> None:
    assert tokens(model, *size, detail=detail) == wanted


def test_dashscope_takes_less_of_a_large_image_than_a_server_of_ones_own() -> None:
    for model, cell, usual in (("qwen2.5-vl-72b-instruct", 28, 1280), ("qwen3-vl-plus", 32, 2560)):
        here = tokens(model, 4000, 3000, service="dashscope")
        assert 0.9 * usual < here <= usual + 2
        assert tokens(model, 4000, 3000) == pytest.approx(4000 * 3000 / cell**2, rel=0.02)


def test_a_model_is_known_by_its_name_wherever_it_runs() -> None:
    for same in ("openai/gpt-4o-2024-11-20", "GPT-4o", "my-gpt-4o-deployment", "chatgpt-4o-latest"):
        assert rule_of(same) == rule_of("gpt-4o")
    assert rule_of("us.anthropic.claude-sonnet-4-5-20250929-v1:0") == rule_of("claude-3-5-sonnet-20241022")
    assert rule_of("claude-sonnet-4-20250514") == rule_of("claude-haiku-4-5")
    assert rule_of("claude-opus-5") == rule_of("claude-opus-4.8") != rule_of("claude-opus-4-6")
    assert rule_of("Qwen/Qwen2.5-VL-7B-Instruct") == rule_of("qvq-max") != rule_of("qwen-vl-max")


@pytest.mark.parametrize(
    "model", ["test-model", "qwen-plus", "qwen3-max", "glm-4.6", "gpt-oss-120b", "gpt-4", "deepseek-chat", ""]
)
def test_others_are_guessed(model: str) -> None:
    assert rule_of(model) is None
    assert (tokens(model, 5000, 5000), most_tokens(model)) == (GUESS, GUESS_MOST)


@given(
    model=st.sampled_from(MODELS),
    width=st.integers(0, 70_000),
    height=st.integers(0, 70_000),
    detail=st.sampled_from(["", "low", "high", "auto", "original", "of another service"]),
    service=st.sampled_from(["", "dashscope", "openai"]),
)
def test_no_image_has_more_than_the_most(
    model: str, width: int, height: int, detail: str, service: str
) -> None:
    found = tokens(model, width, height, detail=detail, service=service)
    assert 0 < found <= most_tokens(model)


@given(model=st.sampled_from(MODELS), width=st.integers(1, 9000), height=st.integers(1, 9000))
def test_a_turned_image_counts_the_same(model: str, width: int, height: int) -> None:
    assert tokens(model, width, height) == tokens(model, height, width)
