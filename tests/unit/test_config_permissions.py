"""Files with secrets that others can read."""

from pathlib import Path

import pytest

from batch_inferd.config.load import parse_config
from batch_inferd.config.permissions import has_literal_secret, permission_warnings, readable_by_others
from batch_inferd.config.schema import Config


def config(model: str) -> Config:
    return parse_config(f"model: {{domain: vllm, name: m, max_tokens: 1, {model}}}".encode(), "config.yaml")


@pytest.mark.parametrize(
    ("mode", "others"),
    [(0o600, False), (0o640, True), (0o604, True), (0o644, True), (0o400, False), (0o711, False)],
)
def test_modes(tmp_path: Path, mode: int, others: bool) -> None:
    path = tmp_path / "f"
    path.write_text("x", encoding="utf-8")
    path.chmod(mode)
    assert readable_by_others(path) is others


def test_no_file(tmp_path: Path) -> None:
    assert not readable_by_others(tmp_path / "none")


@pytest.mark.parametrize(
    ("model", "secret"),
    [
        ("password: k", True),
        ("password: 'x${K}'", True),
        ("password: '${K}'", False),
        ("password: none", False),
        ("headers: {Authorization: k}", True),
        ("headers: {Authorization: '${K}', X-Team: red}", False),
    ],
)
def test_literal_secrets(model: str, secret: bool) -> None:
    assert has_literal_secret(config(model)) is secret


def test_the_warnings_name_file_and_fix(tmp_path: Path) -> None:
    config_path, env_path = tmp_path / "config.yaml", tmp_path / ".env"
    for path in (config_path, env_path):
        path.write_text("x", encoding="utf-8")
        path.chmod(0o644)
    both = permission_warnings(config("password: k"), config_path, env_path)
    assert [str(text) for text in both] == [
        f"{path} holds a secret and can be read by others; run: chmod 600 {path}"
        for path in (config_path, env_path)
    ]
    assert len(permission_warnings(config("password: '${K}'"), config_path, env_path)) == 1
    assert permission_warnings(config("password: '${K}'"), config_path, None) == ()
    env_path.chmod(0o600)
    config_path.chmod(0o600)
    assert permission_warnings(config("password: k"), config_path, env_path) == ()


def test_the_placeholder_is_no_secret() -> None:
    example = parse_config(b"model: {domain: test, password: YOUR_PASSWORD, max_tokens: 1}", "config.yaml")
    assert not has_literal_secret(example)
