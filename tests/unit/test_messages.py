"""The Chinese catalogue: complete, fresh, with the same fields, and the seeds' messages word for word."""

import gettext
import string
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import batch_infer
from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.config.load import parse_config
from batch_inferd.tasks.folder import exists_error

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = Path(batch_infer.__file__).parent / "locale" / "zh_CN" / "LC_MESSAGES"
REMEDY = "run `make messages`, and translate what is empty in batch_infer.po"


@pytest.fixture(scope="module")
def in_source():
    found = set()
    for folder in ("client", "daemon"):
        for _, _, message, _, _ in extract_from_dir(ROOT / folder, keywords={"Text": None}):
            found.add(message)
    return found


@pytest.fixture(scope="module")
def translated():
    with (CATALOGUE / "batch_infer.po").open("rb") as file:
        return {message.id: message for message in read_po(file, locale="zh_CN") if message.id}


def fields(template):
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_every_message_is_translated(in_source, translated):
    assert len(in_source) > 100
    missing = sorted(m for m in in_source if not (m in translated and translated[m].string))
    assert missing == [], REMEDY
    assert [m.id for m in translated.values() if m.fuzzy] == []


def test_no_translation_is_left_over(in_source, translated):
    assert sorted(translated.keys() - in_source) == [], REMEDY


def test_the_fields_agree(translated):
    wrong = [m.id for m in translated.values() if m.string and fields(m.id) != fields(m.string)]
    assert wrong == []


def test_the_compiled_catalogue_is_fresh(translated):
    with (CATALOGUE / "batch_infer.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    stale = [m.id for m in translated.values() if compiled.gettext(m.id) != (m.string or m.id)]
    assert stale == [], REMEDY


def test_a_message_that_nobody_translated_is_shown_in_english():
    assert Text("no such {thing} 123", {"thing": "x"}).render("zh") == "no such x 123"


TEST_LINES = Text(
    "test_lines is {n}: only the first {n} records are processed, {left} more are left out; "
    "set test_lines: 0 for the whole input",
    {"n": 300, "left": 9700},
)


@pytest.mark.parametrize(
    ("text", "english", "chinese"),
    [
        (
            TEST_LINES,
            (
                "test_lines is 300: only the first 300 records are processed, 9700 more are left out; "
                "set test_lines: 0 for the whole input"
            ),
            "test_lines 为 300：只处理前 300 条记录，其余 9700 条不处理；要处理全部数据，请设 test_lines: 0",
        ),
        (Text("task-id must not be empty"), "task-id must not be empty", "task-id 参数不能为空"),
        (
            exists_error("任务A").text,
            "the file [任务A] already exists",
            "文件 [任务A] 已存在",
        ),
        (
            exists_error("A").hints[0],
            "choose a new task-id (recommended)",
            "更换一个新的 task-id（推荐）",
        ),
        (
            exists_error("A").hints[1],
            "or remove its folders by hand: chunks/A and merged/A",
            "或手动删除旧文件夹 chunks/A 和 merged/A",
        ),
        (
            Text(
                "the network is down: {detail}; waiting, and going on by itself when it returns",
                {"detail": Text("the name cannot be resolved")},
            ),
            (
                "the network is down: the name cannot be resolved; "
                "waiting, and going on by itself when it returns"
            ),
            "网络不通：域名无法解析；正在等待，恢复后自动继续",
        ),
    ],
)
def test_the_messages_of_the_faq(text, english, chinese):
    assert (text.render("en"), text.render("zh")) == (english, chinese)


def problems(config, lang):
    with pytest.raises(ConfigError) as caught:
        parse_config(config.encode(), "/ws/config.yaml")
    return [problem.render(lang).partition(": ")[2] for problem in caught.value.problems]


@pytest.mark.parametrize("key", ["domain", "password", "max_tokens"])
def test_an_empty_key_of_the_config(key):
    lines = {"domain": "test", "password": "p", "max_tokens": "16"} | {key: '""'}
    config = "model:\n" + "".join(f"  {name}: {value}\n" for name, value in lines.items())
    assert problems(config, "en")[0].startswith(f"{key} must not be empty")
    assert f"{key} 不能为空" in problems(config, "zh")[0]


def test_a_number_in_quotes():
    config = 'model: {domain: test, password: p, max_tokens: 16, temperature: "0.6"}\n'
    assert problems(config, "en") == [
        'temperature must be a number, found the string "0.6"; remove the quotes'
    ]
    (chinese,) = problems(config, "zh")
    assert chinese == 'temperature 必须是数字，实际是字符串 "0.6"；请去掉引号'
    (english,) = problems(config, "en")
    assert english == 'temperature must be a number, found the string "0.6"; remove the quotes'
