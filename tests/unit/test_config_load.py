"""What a good config becomes, in every encoding it may come in."""

import codecs
import re
from pathlib import Path

import msgspec
import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.keys import CONFIG
from batch_inferd.config.load import parse_config
from batch_inferd.config.schema import Config, Execution, Images, Limits, Timeout

ROOT = Path(__file__).resolve().parents[2]

SEED = """\
model:
  domain: "test"      # 模型服务标识 (必填)
  password: "YOUR_PASSWORD"  # 授权密码 (必填)
  max_tokens: 16384          # 最大输出长度 (必填)
  messages_key: "messages"   # 数据集中的对话字段名
  temperature: 0.6
  enable_thinking: false
  extra_body: {
    "stop":[],
    "continue_final_message":false
  }

# 处理策略
test_lines: 300
lines_per_chunk: 200
max_retry_count: 3
"""

MINIMAL = "model: {domain: test, password: x, max_tokens: 10}\n"


def parse(text: str) -> Config:
    return parse_config(text.encode(), "config.yaml")


def test_the_config_of_the_seed() -> None:
    config = parse(SEED)
    assert config.model.domain == "test"
    assert config.model.password == "YOUR_PASSWORD"
    assert config.model.max_tokens == 16384
    assert config.model.messages_key == "messages"
    assert config.model.temperature == 0.6
    assert config.model.enable_thinking is False
    assert config.model.extra_body == {"stop": [], "continue_final_message": False}
    assert (config.test_lines, config.lines_per_chunk, config.max_retry_count) == (300, 200, 3)


def test_the_defaults() -> None:
    config = parse(MINIMAL)
    assert config.backend == "auto"
    assert (config.test_lines, config.lines_per_chunk, config.max_retry_count) == (0, 200, 3)
    assert config.execution == Execution("asyncio", 1, 64, Timeout(10, 600, 1800))
    assert config.limits == Limits(None, None, 1024)
    assert config.input.max_line_bytes == 64 * 2**20
    assert config.output.durability == "normal"
    assert config.logging.level == "info"
    assert config.daemon.idle_exit == 1800
    assert config.model.enable_thinking is None
    assert config.model.temperature is None


@pytest.mark.parametrize(
    "data",
    [
        SEED.encode(),
        codecs.BOM_UTF8 + SEED.encode(),
        SEED.encode("utf-16"),
        codecs.BOM_UTF16_BE + SEED.encode("utf-16-be"),
        SEED.encode("gb18030"),
        SEED.replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8", "utf-8-bom", "utf-16-le", "utf-16-be", "gb18030", "crlf"],
)
def test_every_encoding_reads_the_same(data: bytes) -> None:
    assert parse_config(data, "config.yaml") == parse(SEED)


def test_chinese_in_gb18030_is_read_right() -> None:
    text = SEED.replace('messages_key: "messages"', 'messages_key: "对话"')
    assert parse_config(text.encode("gb18030"), "config.yaml").model.messages_key == "对话"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800.0),
        ("90s", 90.0),
        ("1h30m", 5400.0),
        ("45", 45.0),
        ("0.5", 0.5),
        ('"2h"', 7200.0),
        ("1.5m", 90),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse(MINIMAL + f"daemon: {{idle_exit: {text}}}").daemon.idle_exit == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("64MiB", 64 * 2**20), ("500 KB", 500_000), ('"1gib"', 2**30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse(MINIMAL + f"input: {{max_line_bytes: {text}}}").input.max_line_bytes == size


def test_bare_numbers_are_text_where_text_is_wanted() -> None:
    config = parse("model: {domain: test, password: 0123, max_tokens: 10, name: 4.10, headers: {X-N: 1}}")
    assert (config.model.password, config.model.name) == ("0123", "4.10")
    assert config.model.headers == {"X-N": "1"}


def test_extra_body_holds_what_json_can_hold() -> None:
    config = parse(
        "model:\n  domain: test\n  password: x\n  max_tokens: 1\n"
        "  extra_body: {logit_bias: {50256: -100}, day: 2026-01-01, "
        "t: 1:30, e: 1e3, h: 0x1F, n: ~, s: 'no'}\n"
    )
    assert config.model.extra_body == {
        "logit_bias": {"50256": -100},
        "day": "2026-01-01",
        "t": "1:30",
        "e": 1000.0,
        "h": 31,
        "n": None,
        "s": "no",
    }


def test_aliases_work() -> None:
    config = parse(
        "model:\n  domain: test\n  password: x\n  max_tokens: 1\n  extra_body: {a: &x [1, 2], b: *x}\n"
    )
    assert config.model.extra_body == {"a": [1, 2], "b": [1, 2]}


def test_an_empty_value_is_the_same_as_no_key() -> None:
    config = parse(
        "model:\n  domain: test\n  password: x\n  max_tokens: 1\n  temperature:\n  extra_body:\n"
        "execution:\nlimits: {rpm: null}\nlines_per_chunk: ~\n"
    )
    assert msgspec.structs.replace(config, source=parse(MINIMAL).source, model=parse(MINIMAL).model) == parse(
        MINIMAL
    )


def test_positions_are_kept_for_later_errors() -> None:
    source = parse(SEED).source
    assert source.file == "config.yaml"
    assert source.position("model") == (1, 1)
    assert source.position("model.domain") == (2, 11)
    assert source.position("model.extra_body.stop") == (9, 12)
    assert source.position("model.headers.X") == (1, 1)  # its section
    assert source.position("limits.rpm") == (1, 1)  # neither it nor its section stands there
    assert source.has("model.domain")
    assert not source.has("model.name")


def test_messages_show_the_files_own_name() -> None:
    for path in ("/home/me/jobs/pro.yaml", r"C:\jobs\pro.yaml", "pro.yaml"):
        with pytest.raises(ConfigError) as caught:
            parse_config(b"", path)
        assert str(caught.value.problems[0]).startswith("pro.yaml:1:1: ")


def test_the_example_runs_as_it_is_and_names_every_default() -> None:
    text = (ROOT / "config.yaml.example").read_text(encoding="utf-8")
    example = parse(text)
    seed = parse(SEED)
    assert msgspec.structs.replace(example, source=seed.source) == seed
    # With the optional lines uncommented, nothing changes: they are the defaults.
    head, optional = text.split("# All below is optional", 1)
    lines = [re.sub(r"^# (?=[a-z_]+:|  )", "", line) for line in optional.splitlines()[1:]]
    full = parse(head + "\n".join(lines))
    keys = {f"{home}.{name}" if home else name for name, home in CONFIG.places()}
    assert {key for key in keys if not key.startswith("model")} <= set(full.source.positions)
    assert full.images == Images()  # that this section stands there counts
    assert msgspec.structs.replace(full, source=seed.source, images=None) == seed


def test_repr_shows_no_password() -> None:
    config = parse(
        "model: {domain: test, password: hunter2hunter2, max_tokens: 1, headers: {X-Key: hunter2}}"
    )
    assert "hunter2" not in repr(config)
