"""Records whose images lie in moto's S3: from the config's keys to what the service receives."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from servers import running

from batch_inferd.testing.calls import content_digest
from harness import Outputs, service_config
from image_kit import picture, shows

KEYS = ("a b+c.png", "50%/你好.png", "q?x=1#z.png")


@pytest.fixture
def moto(tmp_path):
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        pytest.fail("moto is not installed: pip install -e '.[interop]'")
    with running([str(program), "-H", "127.0.0.1"], tmp_path, "/moto-api/data.json") as server:
        yield server.url


def test_images_are_read_from_s3(shell, service, moto):
    data = {key: picture(kind="png", seed=n) for n, key in enumerate(KEYS)} | {"text.png": b"hunter2"}
    with httpx.Client(base_url=moto, trust_env=False) as client:
        client.put("/bucket").raise_for_status()
        for key, content in data.items():
            client.put(f"/bucket/{quote(key)}", content=content).raise_for_status()
    refs = [f"s3://bucket/{quote(key)}" for key in (*KEYS, "gone.png", "text.png")]
    records = [shows(ref, custom_id=ref) for ref in refs]
    (shell.workspace / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    s3 = {"endpoint": moto, "access_key_id": "AKIAKEY", "secret_access_key": "${S3_SECRET}"}
    shell.environ["S3_SECRET"] = "a-very-secret-key"
    shell.config(model=service_config(service), images={}, input={"s3": s3})
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A")
    out.check_identity(5)
    assert out.ids == refs[:3]
    sent = [
        content_digest(shows(f"data:image/png;base64,{base64.b64encode(data[key]).decode()}")["messages"])
        for key in KEYS
    ]
    assert sorted(row.content_digest or "" for row in service.ledger()) == sorted(sent)
    codes = {line["custom_id"]: line["error"]["code"] for line in out.errors}
    assert codes == {refs[3]: "image_missing", refs[4]: "image_invalid"}
    for path in (shell.workspace / "logs").glob("*.log"):
        assert "a-very-secret-key" not in path.read_text()
