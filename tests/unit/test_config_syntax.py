"""YAML that cannot be read: a plain sentence and the right place, whichever of PyYAML's parsers reads."""

import pytest
import yaml

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config import nodes
from batch_inferd.config.encoding import MAX_BYTES
from batch_inferd.config.load import parse_config
from batch_inferd.config.nodes import MAX_DEPTH

LOADERS = [yaml.SafeLoader] + ([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_LOADER", request.param)


def problems(data: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(data if isinstance(data, bytes) else data.encode(), "config.yaml")
    return [str(problem) for problem in caught.value.problems]


COLON = 'a ":" is not allowed here'
KEY = "here should be a key at the same indentation"
TAB = "a tab stands where YAML wants spaces"
CASES = [
    ("model:\n\tdomain: test\n", "2:1", TAB),
    ("model:\n  domain: test\n\tpassword: x\n", "3:1", TAB),
    ('model:\n  domain: "test\n  password: x\n', "2:11", "the quote that is opened here is never closed"),
    ('model:\n  domain: "test\n  password: "x"\n', "3:14", KEY),
    ("model:\n  domain: a: b\n", "2:12", COLON),
    ("model:\n  domain:test\n  password: x\n", "3:11", COLON),
    ("model:\n  domain: test\n   password: x\n", "3:12", COLON),
    ("model:\n  domain: test\n password: x\n", "3:2", KEY),
    ("model:\n  extra_body: {stop: []\ntest_lines: 3\n", "2:15", 'the mapping that begins here with "{"'),
    ("model:\n  extra_body: {stop: [1\n", "2:22", 'the list that begins here with "["'),
    ("model:\n  domain: @test\n", "2:11", "a value cannot begin with @"),
    ("model:\n  domain: `test`\n", "2:11", "a value cannot begin with `"),
    ("model:\n  domain: - test\n", "2:11", 'a "-" cannot begin a value'),
    ("- a\nmodel: 1\n", "2:1", "a list needs"),
    ("model:\n  domain: ]\n", "2:11", "a value is missing here"),
    ("model: {domain: test}\n---\nmodel: 1\n", "2:1", "a second document begins here"),
    ("just text\n", "1:1", "a config is made of sections, found a string"),
    ("- model\n", "1:1", "a config is made of sections, found a list"),
]


@pytest.mark.usefixtures("_loader")
@pytest.mark.parametrize(("text", "place", "sentence"), CASES)
def test_syntax(text: str, place: str, sentence: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"config.yaml:{place}: {sentence}")


@pytest.mark.usefixtures("_loader")
@pytest.mark.parametrize("escape", [r"\q", r"\Users", r"\xZZ", r"\u12"])
def test_backslashes_in_double_quotes(escape: str) -> None:
    (problem,) = problems(f'model:\n  domain: "C:{escape}"\n')
    assert problem.startswith("config.yaml:2:")
    assert "a backslash in double quotes begins an escape" in problem


@pytest.mark.usefixtures("_loader")
def test_half_a_surrogate_pair() -> None:
    found = problems('model:\n  password: x\n  max_tokens: 1\n  domain: "\\ud800"\n')
    assert found[0].startswith("config.yaml:4:")


@pytest.mark.usefixtures("_loader")
def test_depth_is_bounded_before_anything_recurses() -> None:
    (problem,) = problems("model:\n  extra_body: " + "[" * 100_000)
    assert "values are nested more than" in problem
    assert f"config.yaml:2:{15 + MAX_DEPTH - 2}:" in problem


@pytest.mark.usefixtures("_loader")
def test_aliases_cannot_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    found = problems("\n".join(lines))
    assert "the aliases (*name) here multiply" in found[-1]


@pytest.mark.usefixtures("_loader")
def test_an_alias_cannot_hold_itself() -> None:
    found = problems("model: {domain: test, password: x, max_tokens: 1, extra_body: &a {b: *a}}\n")
    assert len(found) == 1
    assert "a YAML alias" in found[0]


@pytest.mark.usefixtures("_loader")
def test_aliases_cannot_nest_deeper_than_text() -> None:
    deep = "[" * 40 + "]" * 40
    found = problems(f"model: {{extra_body: {{a: &a {deep}, b: {'[' * 40}*a{']' * 40}}}}}\n")
    assert "values are nested more than" in found[-1]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a" * (MAX_BYTES + 1), "1:1: the file has 262145 bytes, allowed are 262144; is it the right file?"),
        (
            b"model:\n  domain: \xff\xff\n",
            "2:11: the file is not text in UTF-8, UTF-16 or GB18030 from here on",
        ),
        (b"\xff\xfem\x00o", "1:2: the file is not text in UTF-8, UTF-16 or GB18030 from here on"),
        (b"model:\n  a\x00: 1", "2:4: a config cannot hold the character U+0000; remove it"),
        ("# 你\nmodel: \x1b[1m".encode(), "2:8: a config cannot hold the character U+001B; remove it"),
    ],
)
def test_bytes_that_are_no_config(data: bytes, problem: str) -> None:
    (found,) = problems(data)
    assert found.startswith(f"config.yaml:{problem}")
