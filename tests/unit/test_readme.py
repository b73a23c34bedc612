"""The READMEs agree with each other and with the program: sections, options, links, configs, messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = ROOT / "README.md"
CHINESE = ROOT / "README.zh-CN.md"
BOTH = pytest.mark.parametrize("path", [ENGLISH, CHINESE], ids=["en", "zh"])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str


def blocks(path: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks, in order."""
    found = [Block(*match.groups()) for match in FENCE.finditer(path.read_text("utf-8"))]
    return [block for block in found if language in (None, block.language)]


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text("utf-8"))


def headings(path: Path) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    found = re.findall(r"^(#+) (.+)$", prose(path), re.MULTILINE)
    return [(len(marks), text) for marks, text in found]


def commands(path: Path) -> list[str]:
    """What follows the word batch_infer, in shell blocks and in code spans; and spans that are an option."""
    lines = [line for block in blocks(path, "sh") for line in block.text.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", prose(path))
    found = [span for span in spans if re.match(r"-{1,2}[a-z]", span)]
    for text in [*lines, *spans]:
        found += re.findall(r"(?:^|[\s/])batch_infer (-[^&|;#]*)", text)
    return found


def flags(path: Path) -> set[str]:
    return {flag for text in commands(path) for flag in re.findall(r"(?:^|\s)-{1,2}([a-z][a-z-]*)", text)}


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_both_have_the_same_sections() -> None:
    assert [level for level, _ in headings(ENGLISH)] == [level for level, _ in headings(CHINESE)]
    assert len(headings(ENGLISH)) >= 15


def test_both_show_the_same_blocks() -> None:
    english, chinese = blocks(ENGLISH), blocks(CHINESE)
    assert [block.language for block in english] == [block.language for block in chinese]
    for ours, theirs in zip(english, chinese, strict=True):
        if ours.language in ("sh", "yaml"):
            assert without_comments(ours.text) == without_comments(theirs.text)


def without_comments(text: str) -> list[str]:
    lines = [re.sub(r"\s+#.*$", "", line) for line in text.splitlines()]
    return [re.sub(r"<[^>]+>", "<>", line) for line in lines]


def test_both_have_the_same_tables_and_questions() -> None:
    for pattern in (r"^\|", r"^\*\*\d\. ", r"^- "):
        count = {path: len(re.findall(pattern, prose(path), re.MULTILINE)) for path in (ENGLISH, CHINESE)}
        assert count[ENGLISH] == count[CHINESE] > 0, pattern


@BOTH
def test_the_first_lines_say_what_it_is_with_three_commands(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[:10]
    shown = [line for line in first if line.startswith(("batch_infer -", "head "))]
    assert len(shown) == 3


@BOTH
def test_the_fresh_machine_comes_first(path: Path) -> None:
    first, second = blocks(path, "sh")[:2]
    assert first.text.startswith("batch_infer -pipeline")
    assert [line.split("#")[0].strip() for line in second.text.splitlines()] == ["make demo", "make test"]


@BOTH
def test_every_option_exists(path: Path) -> None:
    from batch_infer.cli.options import BY_NAME

    assert flags(path) <= set(BY_NAME)


@BOTH
def test_every_option_is_mentioned(path: Path) -> None:
    from batch_infer.cli.options import BY_NAME

    assert set(BY_NAME) <= flags(path)


@BOTH
def test_complete_commands_are_understood(path: Path) -> None:
    import shlex

    from batch_infer.cli.parser import parse

    shown = [
        text
        for block in blocks(path, "sh")
        for text in re.findall(r"^batch_infer (-.*)$", block.text, re.MULTILINE)
    ]
    shown += re.findall(r"`batch_infer (-[^`]*)`", prose(path))
    assert len(shown) >= 15
    for command in shown:
        parse(shlex.split(command.replace("…", ""), comments=True))


@BOTH
def test_every_link_leads_somewhere(path: Path) -> None:
    anchors = {slug(text) for _, text in headings(path)}
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    assert len(targets) >= 8
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file(), target


@BOTH
def test_named_files_and_make_targets_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    for name in ("config.yaml.example", "examples/questions.jsonl"):
        assert name in text
        assert (ROOT / name).is_file()
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@BOTH
def test_every_config_is_valid(path: Path) -> None:
    from batch_inferd.config.load import parse_config

    configs = [block.text for block in blocks(path, "yaml") if block.text.startswith("model:")]
    assert len(configs) == 3
    for text in configs:
        parse_config(text.encode(), "config.yaml")


@BOTH
def test_every_json_line_is_json(path: Path) -> None:
    shown = [json.loads(line) for block in blocks(path, "json") for line in block.text.splitlines()]
    outcomes = [line for line in shown if "id" in line]
    assert [set(line) for line in outcomes] == [{"id", "custom_id", "response", "error"}] * 2
    counts = next(line["counts"] for line in shown if "counts" in line)
    assert counts["input"] == counts["output"] + counts["error"] + counts["missing"]


@BOTH
def test_exit_codes_are_those_of_the_program(path: Path) -> None:
    from batch_infer.protocol import errors

    told = {int(code) for code in re.findall(r"^\| (\d+) \|", prose(path), re.MULTILINE)}
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    codes = {cls.exit_code for cls in classes if issubclass(cls, errors.BatchInferError)}
    assert told == codes | {errors.EXIT_DONE, errors.EXIT_DONE_WITH_ERRORS, errors.EXIT_INTERRUPTED}


@pytest.mark.parametrize(("path", "lang"), [(ENGLISH, "en"), (CHINESE, "zh")], ids=["en", "zh"])
def test_the_faq_quotes_the_real_messages(path: Path, lang: str) -> None:
    from batch_infer.protocol.errors import ConfigError, TaskIdError
    from batch_infer.protocol.workspace import check_task_id
    from batch_inferd.config.load import parse_config
    from batch_inferd.tasks.folder import exists_error

    text = path.read_text("utf-8")
    with pytest.raises(TaskIdError) as no_id:
        check_task_id("")
    assert f"`{no_id.value.text.render(lang)}`" in text

    assert f"`{exists_error('my_task').text.render(lang)}`" in text

    with pytest.raises(ConfigError) as no_domain:
        parse_config(b"model:\n  name: m\n  password: none\n  max_tokens: 5\n", "config.yaml")
    assert any(quotes(text, problem.render(lang)) for problem in no_domain.value.problems)

    lines = "model:\n  domain: test\n  name: m\n  password: none\n  max_tokens: 16\n"
    lines += '  messages_key: messages\n  temperature: "0.6"\n'
    with pytest.raises(ConfigError) as quoted:
        parse_config(lines.encode(), "config.yaml")
    assert [quotes(text, problem.render(lang)) for problem in quoted.value.problems] == [True]


@pytest.mark.parametrize(("path", "lang"), [(ENGLISH, "en"), (CHINESE, "zh")], ids=["en", "zh"])
def test_the_faq_quotes_the_real_warnings(path: Path, lang: str) -> None:
    from batch_infer.protocol.text import Text

    reason = Text("the name cannot be resolved")
    detail = Text(
        "cannot connect to {address} ({reason})", {"address": "api.openai.com:443", "reason": reason}
    )
    warnings = (
        Text(
            "test_lines is {n}: only the first {n} records are processed, {left} more are left out; "
            "set test_lines: 0 for the whole input",
            {"n": 300, "left": 9700},
        ),
        Text(
            "the network is down: {detail}; waiting, and going on by itself when it returns",
            {"detail": detail},
        ),
    )
    text = path.read_text("utf-8")
    for warning in warnings:
        # Only templates that the program has are in the catalogue.
        assert warning.render("zh") != warning.render("en")
        assert f"`{warning.render(lang)}`" in text


def quotes(text: str, message: str) -> bool:
    """Whether the README has the message in a code span, be it without the place in the config."""
    return f"`{message}`" in text or f"`{re.sub(r'^[^ ]+:[0-9]+:[0-9]+: ', '', message)}`" in text


def test_the_english_faq_has_the_chinese_messages_too() -> None:
    text = ENGLISH.read_text("utf-8")
    for message in ("task-id 参数不能为空", "配置文件中 domain 不能为空", "文件 [my_task] 已存在"):
        assert f"`{message}`" in text


def test_the_changelog_has_an_unreleased_section() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## \[Unreleased\]\n\n### Added\n\n- ", text, re.MULTILINE)
