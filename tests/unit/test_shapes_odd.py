"""Records that only Python's json takes, in each shape of a prepared file: none of them ends the file."""

import json

import pytest

from batch_inferd.backends.body import BodyBuilder
from batch_inferd.images.plan import ImagePlan
from batch_inferd.intake.prepare import prepare
from batch_inferd.intake.shapes import Bedrock, OpenAI, RecordError, plain
from batch_inferd.requests.prepare import _plan
from batch_inferd.services.profiles import find_profile
from batch_inferd.sources.open import open_source
from batch_inferd.sources.spec import SourceSpec

HALF = "\\ud83d"  # half an emoji, as an escape
FAILED = ',"$error":{"class":"image_missing","message":"\\ud83d"}'
DEEP = "[" * 5000 + "]" * 5000


def line(content, custom_id="1", more=""):
    return f'{{"custom_id":"{custom_id}","messages":[{{"role":"user","content":{content}}}]{more}}}'.encode()


def openai():
    plan = _plan("messages", find_profile("http://127.0.0.1:1/v1"), {"chat": {"model": "m"}}, 2**26)
    return OpenAI(BodyBuilder(plan), ImagePlan())


SHAPERS = {"openai": openai, "bedrock": lambda: Bedrock("messages", {}, ImagePlan()), "plain": lambda: plain}


@pytest.fixture(params=SHAPERS)
def shaper(request):
    return SHAPERS[request.param]()


def test_half_an_emoji_goes_through_as_it_is(shaper):
    shaped = shaper(line(f'"{HALF} hi"', custom_id=HALF), 1)
    assert b"\\ud83d hi" in shaped
    assert "\ud83d" in json.loads(shaped).values()


def test_a_text_that_speaks_of_errors_is_no_error(shaper):
    shaped = shaper(line(f'"{HALF}"', more=',"about":"$error"'), 1)
    assert b"\\ud83d" in shaped


@pytest.mark.parametrize("name", ["openai", "bedrock"])
@pytest.mark.parametrize(
    "data",
    [
        b'{"$error" oh',
        line(DEEP),
        line(DEEP, more=',"about":"$error"'),
        line("NaN", more=',"about":"$error"'),
        b'["$error"]',
        line('"x"', more=FAILED),
    ],
)
def test_what_cannot_be_made_is_an_error_of_the_record(name, data):
    with pytest.raises(RecordError):
        SHAPERS[name]()(data, 1)


def test_the_file_goes_on_behind_such_a_record(tmp_path):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    image = json.dumps([{"type": "image_url", "image_url": {"url": (tmp_path / "no.png").as_uri()}}])
    source.write_bytes(b"\n".join([line('"a"'), line(image, HALF), line(f'"{HALF}"', "3"), b""]))
    spec = SourceSpec(kind="jsonl", path=str(source))
    made = prepare(open_source(spec), out, SHAPERS["bedrock"](), made_of={})
    assert (made.lines, made.failed) == (2, 1)
    (failed,) = map(json.loads, (tmp_path / "out.errors.jsonl").read_bytes().splitlines())
    assert failed["custom_id"] == "\ud83d"
    assert failed["error"]["code"] == "image_missing"
