"""docs/configuration.md names every key, and every service with its variable."""

from pathlib import Path

from batch_inferd.config.keys import CONFIG
from batch_inferd.services.builtin import PROFILES
from batch_inferd.services.catalogue import ENTRY

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def rows() -> set[str]:
    return {line.split("`")[1] for line in DOCS.splitlines() if line.startswith("| `")}


def test_every_key_has_its_row() -> None:
    sections = {"model", "execution", "execution.timeout", "limits", "batch", "batch.poll"}
    sections |= {"input", "output", "logging", "daemon", "prices", "budget", "images", "input.s3"}
    keys = {f"{home}.{name}" if home else name for name, home in CONFIG.places()}
    assert sections <= keys
    assert keys - sections <= rows()
    assert set(ENTRY.kinds) <= rows()


def test_every_service_has_its_row() -> None:
    for name, profile in PROFILES.items():
        if not profile.backends:
            assert f"`{name}`" in DOCS
            continue
        (row,) = (line for line in DOCS.splitlines() if line.startswith(f"| `{name}` |"))
        assert (profile.variable or "") in row
        assert profile.base_url in row
