"""Any bytes as a config: either a Config, or a ConfigError that tells places; never anything else."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.keys import CONFIG
from batch_inferd.config.load import parse_config
from batch_inferd.config.schema import Config
from batch_inferd.config.variables import variables

KEYS = sorted({name for name, _ in CONFIG.places()} | {"nonsense", "<<", "X-A", "stop"})
# What may stand behind a colon, a line each.
VALUES = [
    "test",
    "openai",
    "http://127.0.0.1:8000/v1",
    "''",
    '"0.6"',
    "0.6",
    "16384",
    "-1",
    "1e999",
    ".nan",
    "~",
    "",
    "true",
    "no",
    "[]",
    "[1, {a: b}]",
    "{a: 1, a: 2}",
    "${A}",
    "${",
    "$$",
    "&a x",
    "*a",
    "!t x",
    "- 1",
    "a: b",
    "30m",
    "64MiB",
    "batch",
    "online",
    "0x1F",
    "99999999999999999999999",
    "'a\x85b'",
    "\u2028",
    "你",
]


def check(data: bytes) -> None:
    try:
        result: Config | ConfigError = parse_config(data, "config.yaml")
    except ConfigError as error:
        result = error
    if isinstance(result, Config):
        msgspec.json.encode(msgspec.to_builtins(result))
        assert isinstance(variables(result), list)
        return
    assert result.problems
    for problem in result.problems:
        assert problem.params["line"] >= 1
        assert problem.params["column"] >= 1
        assert "\n" not in problem.render("zh") + str(problem)
    msgspec.json.encode(result.to_wire())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    check(data)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["utf-8", "utf-16", "gb18030", "utf-8-sig"]))
def test_any_text(text: str, encoding: str) -> None:
    check(text.encode(encoding, "replace"))


line = st.tuples(st.sampled_from(["", "  ", "    ", "\t"]), st.sampled_from(KEYS), st.sampled_from(VALUES))


@settings(max_examples=300, deadline=None)
@given(st.lists(line, max_size=12), st.booleans())
def test_anything_that_looks_like_a_config(lines: list[tuple[str, str, str]], good: bool) -> None:
    text = "model:\n  domain: test\n  password: x\n  max_tokens: 1\n" if good else ""
    check((text + "".join(f"{indent}{key}: {value}\n" for indent, key, value in lines)).encode())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_good_config_with_one_piece_replaced(data: st.DataObject) -> None:
    good = (
        b"model:\n  domain: test\n  password: x\n  max_tokens: 1\n  extra_body: {a: [1, 'b']}\n"
        b"limits: {rpm: 3}\ntest_lines: 0\n"
    )
    at = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(at, min(len(good), at + 4)))
    check(good[:at] + data.draw(st.binary(max_size=4)) + good[end:])
