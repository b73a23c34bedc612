"""examples/questions.jsonl: 300 requests, each valid, and as varied as real inputs are."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

QUESTIONS = Path(__file__).resolve().parents[2] / "examples" / "questions.jsonl"
URLS = {"/v1/chat/completions": "messages", "/v1/embeddings": "input", "/v1/responses": "input"}
ENVELOPE = {"custom_id", "method", "url", "body"}
OVERRIDES = {"temperature", "top_p", "max_tokens", "seed", "stop", "response_format"}

Record = dict[str, Any]


@pytest.fixture(scope="module")
def data() -> bytes:
    return QUESTIONS.read_bytes()


@pytest.fixture(scope="module")
def records(data: bytes) -> list[Record]:
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def body_of(record: Record) -> Record:
    """The request's body: the record itself without its custom_id, or that of an OpenAI batch line."""
    return record["body"] if "body" in record else {k: v for k, v in record.items() if k != "custom_id"}


def texts_of(record: Record) -> list[str]:
    body = body_of(record)
    return [body["input"]] if "input" in body else [message["content"] for message in body["messages"]]


def script_of(record: Record) -> str:
    """The script that tells the language, roughly: kana before Han, and Latin for whatever is left."""
    text = "".join(texts_of(record))
    found = Counter(unicodedata.name(char, "").split(" ")[0] for char in text if char.isalpha())
    for script in ("HIRAGANA", "KATAKANA", "HANGUL", "CYRILLIC", "ARABIC", "DEVANAGARI"):
        if found[script] * 10 >= sum(found.values()):
            return script
    return "CJK" if found["CJK"] * 5 >= sum(found.values()) else "LATIN"


def has_emoji(record: Record) -> bool:
    return any(ord(char) >= 0x1F300 for text in texts_of(record) for char in text)


def test_there_are_exactly_300_lines(data: bytes) -> None:
    assert data.count(b"\n") == 300
    assert data.endswith(b"}\n")


def test_the_file_is_plain_utf8_without_traps_for_editors(data: bytes) -> None:
    text = data.decode("utf-8")
    assert not text.startswith("\ufeff")
    assert b"\r" not in data
    assert b"\\u" not in data, "written as characters, not as escapes"
    assert len(text.splitlines()) == 300, "no U+2028, U+0085 or form feed"
    assert unicodedata.is_normalized("NFC", text)


def test_each_line_is_an_object_that_stands_on_one_line(data: bytes) -> None:
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        assert isinstance(json.loads(line), dict), number


def test_openai_batch_lines_have_all_their_members(records: list[Record]) -> None:
    lines = [record for record in records if "body" in record]
    assert len(lines) in range(3, 6)
    for record in lines:
        assert set(record) == ENVELOPE
        assert record["method"] == "POST"
        assert URLS[record["url"]] in record["body"]
    assert [record["url"] for record in lines].count("/v1/embeddings") == 1


def test_conversations_are_well_formed(records: list[Record]) -> None:
    for number, record in enumerate(records, 1):
        body = body_of(record)
        if "input" in body:
            assert body["input"].strip(), number
            continue
        roles = [message["role"] for message in body["messages"]]
        assert all(set(message) == {"role", "content"} for message in body["messages"]), number
        assert all(message["content"].strip() for message in body["messages"]), number
        turns = roles[1:] if roles[0] == "system" else roles
        assert len(turns) % 2 == 1, number
        assert turns == (["user", "assistant"] * len(turns))[: len(turns)], number


def test_no_line_names_a_model(records: list[Record]) -> None:
    assert all("model" not in body_of(record) for record in records), "they must run with any model"


def test_overrides_are_known_and_of_the_right_type(records: list[Record]) -> None:
    overridden = 0
    for record in records:
        more = {key: value for key, value in body_of(record).items() if key not in ("messages", "input")}
        overridden += bool(more)
        assert set(more) <= OVERRIDES
        assert 0 <= more.get("temperature", 0) <= 2
        assert 0 < more.get("max_tokens", 1) <= 4096
        if "response_format" in more:
            assert more["response_format"] == {"type": "json_object"}
            # OpenAI refuses this mode when no message speaks of JSON.
            assert any("JSON" in text for text in texts_of(record))
    assert 5 <= overridden <= 40


def test_custom_ids_are_strings_and_used_once(records: list[Record]) -> None:
    ids = [record["custom_id"] for record in records if "custom_id" in record]
    assert 15 <= len(ids) <= 100, "some lines have one, most have none"
    assert all(isinstance(custom_id, str) and custom_id for custom_id in ids)
    assert len(set(ids)) == len(ids)


def test_no_request_occurs_twice(records: list[Record]) -> None:
    lasts = [texts_of(record)[-1] for record in records]
    assert len(set(lasts)) == 300
    openings = Counter(text[:20] for text in lasts)
    assert max(openings.values()) <= 3, openings.most_common(3)


def test_languages(records: list[Record]) -> None:
    scripts = Counter(map(script_of, records))
    assert scripts["CJK"] >= 120
    assert scripts["LATIN"] >= 120
    others = {"HIRAGANA", "HANGUL", "CYRILLIC", "ARABIC", "DEVANAGARI"}
    assert all(scripts[script] >= 1 for script in others), scripts
    marked = [record for record in records if re.search("[ñçãßüéęółşı¿„«ệẽ]", "".join(texts_of(record)))]
    assert len(marked) >= 10, "other languages in Latin letters"


def test_shapes(records: list[Record]) -> None:
    bodies = [body_of(record) for record in records]
    roles = [[message["role"] for message in body.get("messages", [])] for body in bodies]
    assert sum("system" in each for each in roles) >= 40
    assert sum("assistant" in each for each in roles) >= 10
    assert sum(each.count("assistant") >= 2 for each in roles) >= 4
    assert sum(map(has_emoji, records)) >= 10


def test_lengths(records: list[Record]) -> None:
    sizes = sorted(sum(len(text.encode()) for text in texts_of(record)) for record in records)
    assert sizes[0] <= 40
    assert sum(1024 <= size <= 4096 + 1024 for size in sizes) >= 8, "several of 1 to 4 KB"
    assert sizes[-1] < 8192


def test_no_credentials_or_reachable_addresses(data: bytes) -> None:
    text = data.decode("utf-8")
    assert not re.search(r"sk-[A-Za-z0-9]{8}|AKIA[A-Z0-9]{8}|ghp_", text)
    hosts = re.findall(r"https?://([^/\s\"，。]+)", text)
    assert all(host.endswith((".example", "example.com", "example.org")) for host in hosts), hosts
