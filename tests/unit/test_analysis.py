"""The look at the input: counts of a whole file, estimates of a long one, no exception whatever it is."""

from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.intake.analysis import SAMPLE, about, analyse


def test_a_whole_file(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"messages":[],"custom_id":"a"}\r\n\r\n{"messages":[]}\r\nnot json\r\n')
    found = analyse(str(path), path.stat().st_size)
    assert (found.records, found.blank, found.invalid, found.with_id) == (3, 1, 1, 1)
    assert found.whole
    assert found.crlf
    assert found.bom
    assert "3 records" in str(found)


def test_a_long_file_is_estimated(tmp_path):
    path = tmp_path / "in.jsonl"
    line = b'{"messages":["' + b"x" * 985 + b'"]}\n'
    path.write_bytes(line * 5000)
    found = analyse(str(path), path.stat().st_size)
    assert not found.whole
    assert abs(found.records - 5000) <= 5
    assert "about" in str(found)
    assert path.stat().st_size > SAMPLE


@given(st.binary(max_size=300))
def test_any_bytes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("a") / "in"
    path.write_bytes(data)
    found = analyse(str(path), len(data))
    assert found.records + max(0, found.blank) <= data.count(b"\n") + 1


def test_a_source_is_described_by_what_it_shows():
    assert about("folder", 3, []) == "folder, 3 records"
    assert about("csv", None, ["a", "b"]) == "csv, records not counted, 2 columns: a, b"
    many = about("parquet", 9, [f"c{n}" for n in range(60)])
    assert many.startswith("parquet, 9 records, 60 columns: c0, c1, ")
    assert many.endswith("c49 … 10 more")
