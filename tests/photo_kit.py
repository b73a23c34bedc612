"""Real photos, and the files that are prepared of them."""

import base64
import io
import json
import random
import subprocess
import sys

import pytest

Image = pytest.importorskip("PIL.Image")

MEASURED = """
import json, resource, sys
from pathlib import Path
from batch_inferd.images.plan import ImagePlan
from batch_inferd.intake.prepare import prepare
from batch_inferd.intake.shapes import Bedrock
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.s3access import S3Access
from batch_inferd.sources.spec import SourceSpec

folder, out = sys.argv[1:3]
s3 = S3Access(endpoint=sys.argv[3], access_key_id="k", secret_access_key="s") if sys.argv[3:] else None
spec = detect(folder, SourceSpec(kind="", prompt="What is it?", system="Look well."))
source = open_source(spec, s3)
shaper = Bedrock("messages", {"max_tokens": 100}, ImagePlan(s3=s3))
made = prepare(source, Path(out), shaper, made_of={"folder": folder})
print(json.dumps([made.lines, made.failed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


def picture(seed, size):
    """A JPEG of noise, of about `size` bytes."""
    side = int((size / 0.6) ** 0.5)
    noise = random.Random(seed).randbytes(side * side * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), noise).save(file, "JPEG", quality=74)
    return file.getvalue()


def photos(folder, count, size):
    """Real images, each different: a comment in each tells them apart."""
    folder.mkdir()
    bases = [picture(seed, size) for seed in range(4)]
    for n in range(count):
        base, note = bases[n % 4], f"photo {n}".encode()
        comment = b"\xff\xfe" + (len(note) + 2).to_bytes(2) + note
        (folder / f"{n:04}.jpg").write_bytes(base[:2] + comment + base[2:])
    return folder


def embedded(line):
    """The name and the bytes of the image in a line of either shape."""
    if "recordId" in line:
        source = line["modelInput"]["messages"][0]["content"][0]["source"]
        assert (source["type"], source["media_type"]) == ("base64", "image/jpeg")
        return line["recordId"], base64.b64decode(source["data"], validate=True)
    url = line["body"]["messages"][0]["content"][1]["image_url"]["url"]
    return line["custom_id"], base64.b64decode(url.removeprefix("data:image/jpeg;base64,"), validate=True)


def check(out, folder, names=None):
    """Every image is there once, in order, byte for byte; nothing is left beside the file."""
    wanted = names or sorted(path.name for path in folder.iterdir())
    with out.open("rb") as file:
        for name, line in zip(wanted, file, strict=True):
            assert line.endswith(b"\n")
            assert embedded(json.loads(line)) == (name, (folder / name).read_bytes())
    assert not list(out.parent.glob(".*.prepare"))


def measure(folder, out, *more):
    """Lines, failed records, and the peak memory in bytes of preparing Bedrock's lines."""
    words = [sys.executable, "-c", MEASURED, str(folder), str(out), *more]
    done = subprocess.run(words, capture_output=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
