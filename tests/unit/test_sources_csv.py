"""CSV and TSV as spreadsheets write them: encodings, delimiters, quotes, ragged rows."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_infer.protocol.errors import InputError
from batch_inferd.sources.csvhead import columns_of, look
from batch_inferd.sources.csvrows import read_records
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec
from batch_inferd.sources.text import read_lines, text_blocks


def records(path, last=None, start=0, **wanted):
    spec = detect(str(path), SourceSpec(kind=wanted.pop("kind", ""), **wanted))
    return [json.loads(line) for line in open_source(spec).records(start, last)]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def prompts(found):
    return [record["messages"][-1]["content"] for record in found]


def problem(record):
    assert record["$error"]["class"] == "invalid_input"
    assert "messages" not in record
    return record["$error"]["message"]


# Cells with everything that hurts; a row of nothing but white space is tested apart.
_CELL = st.text(
    st.one_of(
        st.sampled_from(list(',;"\'\t\n\r 一图é"')), st.characters(codec="gb18030", exclude_characters="\0")
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    table=st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(_CELL, min_size=n, max_size=n), max_size=6)),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
    # With "\n" alone, older Pythons write a lone CR without quotes.
    style=st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
)
def test_what_csv_writes_is_read_back(tmp_path_factory, table, delimiter, encoding, style):
    table = [["x" + row[0], *row[1:]] for row in table]  # no row is blank
    columns = [f"列{at}" for at in range(len(table[0]))] if table else ["列0", "列1"]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=style[0], quoting=style[1])
    writer.writerows([columns, *table])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(out.getvalue().encode(encoding))

    wanted = {"encoding": encoding, "delimiter": delimiter, "prompt": "{列0}|{列1}"}
    found = records(path, **wanted)

    assert [list(record["$source"]["columns"].values()) for record in found] == table
    assert [record["custom_id"] for record in found] == [str(n) for n in range(len(table))]
    assert prompts(found) == [f"{row[0]}|{row[1]}" for row in table]


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_give_records_or_a_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        found = records(path)
        assert [record["$source"]["row"] for record in found] == list(range(len(found)))


@settings(max_examples=100, deadline=None)
@given(text=st.text("a\r\n", max_size=30), cuts=st.lists(st.integers(0, 30)))
def test_lines_do_not_depend_on_blocks(text, cuts):
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert list(read_lines(iter(pieces), 99)) == list(io.StringIO(text, newline=""))


def test_a_gb18030_file_is_known_by_its_first_chinese_character(tmp_path):
    rows = "".join(f"{n},plain\n" for n in range(50_000))  # ASCII beyond the first blocks
    path = write(tmp_path / "t.csv", "id,text\n" + rows + "x,中文的一行\ny,又一行\n", "gb18030")
    found = records(path, prompt="{text}", start_row=50_000)
    assert prompts(found) == ["中文的一行", "又一行"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "utf-8"])
def test_encodings_are_found(tmp_path, encoding):
    path = write(tmp_path / "t.csv", "id,问题\r\n1,今天天气怎么样\r\n2,再见了朋友\r\n", encoding)
    assert prompts(records(path, prompt="{问题}")) == ["今天天气怎么样", "再见了朋友"]


def test_an_encoding_that_nobody_looks_for_is_asked_for(tmp_path):
    path = write(tmp_path / "t.csv", "a,b\n" + "Ä,ö\nüß,é\n" * 20, "cp1252")
    with pytest.raises(InputError, match=r"t\.csv is neither in UTF-8 nor in GB18030") as caught:
        records(path, prompt="{b}")
    assert "input.encoding" in str(caught.value.hints[0])
    assert prompts(records(path, prompt="{b}", encoding="cp1252", end_row=2)) == ["ö", "é"]
    with pytest.raises(InputError, match="unknown"):
        records(path, prompt="{b}", encoding="klingon")


def test_one_broken_character_costs_one_row(tmp_path):
    data = "a,b\n1,中文中文\n2,坏\n3,好的好的\n".encode()
    path = tmp_path / "t.csv"
    path.write_bytes(data.replace("坏".encode(), "坏".encode()[:2]))
    found = records(path, prompt="{b}")
    assert "t.csv, line 3 (row 1)" in problem(found[1])
    assert "encoding" in problem(found[1])
    assert prompts([found[0], found[2]]) == ["中文中文", "好的好的"]


def test_what_excel_writes(tmp_path):
    text = 'sep=;\r\nname;price;note;;\r\n"a ""b""";1,5;"two\r\nlines";;\r\n\r\nc;2;;;\r\n;;;;\r\n'
    path = write(tmp_path / "t.csv", text, "utf-8-sig")
    found = records(path, prompt="{name} {price} {note}")
    assert found[0]["$source"]["columns"] == {"name": 'a "b"', "price": "1,5", "note": "two\r\nlines"}
    assert prompts(found[:2]) == ['a "b" 1,5 two\r\nlines', "c 2 "]
    assert "all its cells are empty" in problem(found[2])
    assert "line 7 (row 2)" in problem(found[2])  # blank lines and lines in cells count as lines
    assert len(found) == 3


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_makes_rows_alike(tmp_path, mark):
    other = ";" if mark == "," else ","
    rows = [["a", "b", "c"], ["1", f"x{other}y{other}z", "3"], ["4", "5", f"{other}6"]]
    path = write(tmp_path / "t.csv", "".join(mark.join(row) + "\n" for row in rows))
    found = records(path, prompt="{b}")
    assert prompts(found) == [f"x{other}y{other}z", "5"]


def test_old_macs_and_one_column(tmp_path):
    path = write(tmp_path / "t.csv", "text\rone, two\rthree\r")
    assert len(records(path)) == 2
    path = write(tmp_path / "u.csv", "text\none\nthree\n")
    assert prompts(records(path)) == ["one", "three"]


def test_ragged_rows_are_errors_that_say_where_and_how(tmp_path):
    path = write(tmp_path / "t.csv", 'id,text,note\n1,"a\nb",x\n2,c,d,e\n3\n4,f\n5,g,h\n')
    found = records(path, prompt="{text}", id_column="id")
    assert [record["custom_id"] for record in found] == ["1", "2", "3", "4", "5"]
    assert problem(found[1]) == (
        't.csv, line 4 (row 1): it has 4 cells, and the header has 3; the first too many is "e": '
        "put cells with a delimiter in them in quotes"
    )
    assert '"text" is missing' in problem(found[2])
    assert found[3]["$source"]["columns"] == {"id": "4", "text": "f", "note": ""}  # nobody asked for the note
    assert prompts([found[0], found[3], found[4]]) == ["a\nb", "f", "g"]


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path):
    rows = "".join(f'{n},"text {n}"\n' for n in range(1000))
    path = write(tmp_path / "t.csv", f'id,text\na,"lost\nb,"mended"\n{rows}')
    found = records(path, prompt="{text}", id_column="id")
    assert len(found) == 1002
    assert "line 2 (row 0): a quote opens" in problem(found[0])
    assert found[1]["custom_id"] == "b"
    assert prompts(found[1:3]) == ["mended", "text 0"]
    path = write(tmp_path / "t.csv", 'id,text\na,"lost\nb,plain\n')
    assert ["$error" in record for record in records(path, prompt="{text}")] == [True, False]


def test_text_behind_a_closing_quote_is_kept(tmp_path):
    path = write(tmp_path / "t.csv", 'id,text\n1,"a" b\n2,5" pipe\n')
    assert prompts(records(path, prompt="{text}")) == ["a b", '5" pipe']


def test_a_record_beyond_the_limit_is_left_out():
    lines = ["a,b\n", "1," + "x" * 50 + "\n", '2,"y\n', *["z\n"] * 30, '"\n', "3,w\n"]
    found = list(read_records(iter(lines), ",", limit=40))
    assert found[0].cells == ["a", "b"]
    assert "longer than 40" in found[1].problem
    assert "never closed" in found[2].problem
    assert (found[-1].line, found[-1].cells) == (len(lines), ["3", "w"])


def test_overlong_lines_are_cut_while_they_are_read():
    texts = ["a\n" + "x" * 30, "x" * 30, "\ny\r", "\nz"]
    assert list(read_lines(iter(texts), 10)) == ["a\n", "x" * 11, "y\r\n", "z"]


def test_columns_get_names():
    assert columns_of([" a ", "", "a", "b", "", " "], "t") == ["a", "column 2", "a.1", "b"]
    with pytest.raises(InputError, match="should name the columns"):
        columns_of(["", " "], "t")
    assert look(["Sep=|,,,\r\n", "a|b\r\n"], None).delimiter == "|"


def test_errors_of_a_config_name_the_columns(tmp_path):
    path = write(tmp_path / "t.csv", "question,answer,id\n1,2,3\n")
    with pytest.raises(InputError, match='template asks for "qestion"') as caught:
        records(path, prompt="{qestion}")
    assert [str(hint) for hint in caught.value.hints] == [
        'did you mean "question"?',
        "it has: question, answer, id",
    ]
    with pytest.raises(InputError, match=r'input\.id_column asks for "no"'):
        records(path, prompt="{question}", id_column="no")
    with pytest.raises(InputError, match=r"input\.image_columns"):
        records(path, prompt="{question}", image_columns=["image"])
    with pytest.raises(InputError, match="nothing says what to ask") as caught:
        records(path)
    assert "such as {question}" in str(caught.value.hints[0])
    with pytest.raises(InputError, match=r"lone brace at character 4"):
        records(path, prompt="ab {")
    with pytest.raises(InputError, match="no delimiter"):
        records(path, prompt="a", delimiter="ab")
    assert prompts(records(path, prompt='{{"q": {question}}}', delimiter="comma")) == ['{"q": 1}']


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\n\n,,\n", "first row of t.csv is empty"),
        ("t.csv", b"a,b\0\x01\x02\n" * 9, "zero bytes"),
        ("t.csv", b"PK\x03\x04..", "Excel workbook"),
        ("t.csv", b'a,"b\n', "header cannot be read"),
    ],
)
def test_what_is_no_csv(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=words):
        records(tmp_path / name, prompt="x")


def test_conversations_in_a_column(tmp_path):
    good = '"[{""role"": ""user"", ""content"": ""hi""}]"'
    path = write(tmp_path / "t.csv", f'id,messages\n1,{good}\n2,[1]\n3,"no"\n')
    found = records(path)
    assert found[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert "not a list of messages" in problem(found[1])
    assert "not JSON" in problem(found[2])


def test_ranges_iterations_and_going_on(tmp_path):
    path = write(tmp_path / "t.tsv", "id\ttext\n" + "".join(f"i{n}\tt{n}\n" for n in range(10)))
    spec = detect(
        str(path), SourceSpec(kind="", prompt="{text}", id_column="id", start_row=2, end_row=5, iterations=3)
    )
    source = open_source(spec)
    assert spec.kind == "tsv"
    whole = list(source.records())
    assert [json.loads(line)["custom_id"] for line in whole] == [
        f"i{n}/{k}" for n in (2, 3, 4) for k in (1, 2, 3)
    ]
    assert json.loads(whole[4])["$source"] == {
        "row": 3,
        "columns": {"id": "i3", "text": "t3"},
        "iteration": 2,
    }
    for at in range(len(whole)):
        assert list(source.records(at)) == whole[at:]
        assert list(source.records(last=whole[at])) == whole[at + 1 :]
    assert source.pin()["size"] == path.stat().st_size


_MEMORY = """
import json, resource, sys
sys.path[:0] = {path!r}
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec
source = open_source(detect({file!r}, SourceSpec(kind="", prompt="{{text}}", image_columns=["image"])))
peaks = []
for count, line in enumerate(source.records(), 1):
    if count in (1000, 100_000):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps([count, *peaks]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
def test_a_hundred_thousand_rows_in_flat_memory(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "image"])
        writer.writerows([n, f'第{n}行, "引号"\n换行' + "文" * 50, f"图/{n}.png"] for n in range(100_000))
    code = _MEMORY.format(path=sys.path, file=str(path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    count, early, late = json.loads(done.stdout)
    assert count == 100_000
    unit = 1 if sys.platform == "darwin" else 1024
    assert (late - early) * unit < 4 * 2**20


def test_text_blocks_join_cut_characters():
    data = "日本語の text".encode("gb18030")
    pieces = (data[at : at + 1] for at in range(len(data)))
    assert "".join(text_blocks(pieces, "gb18030", "t")) == "日本語の text"
    assert "".join(text_blocks(iter([data]), None, "t")) == "日本語の text"


@pytest.mark.parametrize("row", [0, 500])
def test_a_zero_byte_is_its_rows_business_wherever_it_stands(tmp_path, row):
    path = tmp_path / "t.csv"
    rows = [f"{n},text {n}" for n in range(1000)]
    rows[row] = f"{row},te\0xt"
    path.write_text("id,q\n" + "\n".join(rows) + "\n")
    spec = detect(str(path), SourceSpec(kind="", prompt="{q}", id_column="id"))
    found = [json.loads(line) for line in open_source(spec).records()]
    assert len(found) == 1000
    assert found[row]["messages"][0]["content"] == "te\0xt"
    path.write_bytes(b"id,q\n" + b"\x00\x01\x07\x00" * 40)
    with pytest.raises(InputError, match="zero bytes"):
        open_source(detect(str(path), SourceSpec(kind="", prompt="{q}")))


def test_utf_16_without_a_mark_is_not_taken_for_gb18030(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(("问题\n" + "你好世界吗怎么样呢朋友们" * 8 + "\n").encode("utf-16-le"))
    with pytest.raises(InputError, match="zero bytes"):
        open_source(detect(str(path), SourceSpec(kind="")))
