"""Your own tables of interactions."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import logging
import re
from pathlib import Path

import polars as pl
import pytest

from fedprep import recipe
from fedprep.errors import RecipeError, SourceError
from fedprep.schema import Lines
from fedprep.sources import join_items, table
from fedprep.sources.table import TABLE, read_table

NAMES = {"user": "u", "item": "i", "rating": "r", "timestamp": "t"}
CSV = "t,u,i,r\n1700000000,7,20,4.5\n1700000060,8,3,1\n"
ROWS = [(7, 20, 4.5, 1700000000, 2), (8, 3, 1.0, 1700000060, 3)]


def read(tmp_path, files, columns=None, *, file="a.csv", at=None, **options):
    """Reads files given as name → content (str, bytes or a polars frame, written as Parquet)."""
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pl.DataFrame):
            content.write_parquet(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {"max_bad_share": 1.0, **options}
    source = recipe.Source(name="table", file=file, columns=columns or NAMES, **options)
    at = at or ("." if "*" in file else file)
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    raw = read_table({"interactions": tmp_path / at}, source, work)
    return raw, raw.interactions.collect()


def test_a_csv_file_is_read_by_its_column_map(tmp_path):
    raw, rows = read(tmp_path, {"a.csv": CSV})
    assert rows.rows() == ROWS
    assert dict(rows.schema) == {
        "user": pl.Int64,
        "item": pl.Int64,
        "rating": pl.Float32,
        "timestamp": pl.Int64,
        "line": pl.UInt32,
    }
    assert [(step.rows_in, step.rows_out) for step in raw.steps] == [(2, 2)]
    assert raw.facts["files"] == ["a.csv"]


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(CSV.encode()),
        '{"t":1700000000,"u":7,"i":20,"r":4.5}\n{"t":"1700000060","u":"8","i":3,"r":1}\n',
        pl.DataFrame({"t": [1700000000, 1700000060], "u": [7, 8], "i": ["20", "3"], "r": [4.5, 1]}),
        pl.DataFrame(
            {"t": [1.7e9, 1700000060.4], "u": [7, 8], "i": [20.0, 3.0], "r": [4.5, 1]},
            schema_overrides={"u": pl.UInt16, "r": pl.Float32},
        ),
        pl.DataFrame(
            {
                "t": [dt.datetime(2023, 11, 14, 22, 13, 20), dt.datetime(2023, 11, 14, 22, 14, 20)],
                "u": [7, 8],
                "i": ["20", "3"],
                "r": [4.5, 1],
            },
            schema_overrides={"i": pl.Categorical},
        ),
    ],
)
def test_the_format_is_told_by_content_and_all_give_the_same_rows(tmp_path, content):
    _, rows = read(tmp_path, {"a.csv": content})
    assert rows.drop("line").rows() == [row[:4] for row in ROWS]


def test_a_file_like_book_crossing_is_read(tmp_path):
    text = (
        '"User-ID";"ISBN";"Book-Rating"\r\n'
        '"17";"0034545104";"0"\r\n'
        '"18";"080652121X";"8"\r\n'
        '"19";"9 \\"x\\" é";"10"\r\n'
        '"20";"short"\r\n'
    )
    raw, rows = read(
        tmp_path,
        {"a.csv": text.encode("latin-1")},
        {"user": "User-ID", "item": "ISBN", "rating": "Book-Rating"},
        separator=";",
        encoding="latin-1",
    )
    assert rows["user"].to_list() == ["17", "18", "19"]
    assert rows["item"].to_list() == ["0034545104", "080652121X", '9 "x" é']
    assert rows["rating"].to_list() == [0.0, 8.0, 10.0]
    assert rows["timestamp"].null_count() == 3
    assert raw.steps[0].examples == ("line 5",)
    assert raw.facts["ids"] == "text"


def test_without_a_rating_and_a_time_they_are_null(tmp_path):
    _, rows = read(tmp_path, {"a.csv": "x,y\n1,2\n"}, {"user": "x", "item": 1})
    assert rows.rows() == [(1, 2, None, None, 2)]


def test_ids_with_leading_zeros_stay_text(tmp_path):
    _, rows = read(
        tmp_path, {"a.csv": "1::007\n2::8\n"}, {"user": 0, "item": 1}, separator="::", header=False
    )
    assert rows["user"].to_list() == ["1", "2"]
    assert rows["item"].to_list() == ["007", "8"]


def test_ids_are_integers_only_if_they_are_in_every_file(tmp_path):
    files = {"p/1.csv": "u,i\n1,2\n", "p/2.csv": "u,i\nb,2\n"}
    _, rows = read(tmp_path, files, {"user": "u", "item": "i"}, file="p/*.csv")
    assert rows.select("user", "item").rows() == [("1", "2"), ("b", "2")]


def test_rows_that_cannot_be_used_are_counted_by_fault_and_named(tmp_path):
    good = "5,1,1,3\n"
    no_id = "5,,1,3\n5,1,,3\n5,,,x\n"
    no_rating = "5,1,1,NULL\n5,1,1,nan\n5,1,1,inf\n5,1,1,good\n"
    no_time = "1e400,1,1,3\nx,1,1,3\n"
    text = "t,u,i,r\n" + good + no_id + no_rating + no_time + good
    raw, rows = read(tmp_path, {"a.csv": text})
    assert rows["line"].to_list() == [2, 12]
    found = [(s.name, s.rows_in, s.rows_out, s.examples) for s in raw.steps]
    assert found == [
        ("bad lines in a.csv", 11, 11, ()),
        ("rows without a user", 11, 9, ("line 3", "line 5")),
        ("rows without an item", 9, 8, ("line 4",)),
        ("rows whose rating is no finite number", 8, 4, ("line 6", "line 7", "line 8")),
        ("rows whose time cannot be read", 4, 2, ("line 10", "line 11")),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "t,u,i,r\n5,1,1,\n,1,2,3\n",
        pl.DataFrame({"t": [5, None], "u": [1, 1], "i": [1, 2], "r": [None, 3.0]}),
    ],
)
def test_a_rating_or_time_that_is_not_given_is_left_to_the_cleaning(tmp_path, content):
    raw, rows = read(tmp_path, {"a.csv": content})
    assert rows.select("rating", "timestamp").rows() == [(None, 5), (3.0, None)]
    assert all(step.dropped == 0 for step in raw.steps)


def test_null_ids_of_parquet_are_counted_too(tmp_path):
    content = pl.DataFrame({"u": [1.0, None, float("nan"), 2.5], "i": ["a", "b", "c", ""]})
    raw, rows = read(tmp_path, {"a.parquet": content}, {"user": "u", "item": "i"}, file="a.parquet")
    assert rows.select("user", "item").rows() == [("1", "a")]
    assert [step.dropped for step in raw.steps] == [0, 2, 1]


def test_unsigned_ids_too_large_for_int64_stay_whole(tmp_path):
    content = pl.DataFrame(
        {"u": [2**64 - 1, 5], "i": [1, 2]}, schema={"u": pl.UInt64, "i": pl.Int32}
    )
    _, rows = read(tmp_path, {"a.parquet": content}, {"user": "u", "item": "i"}, file="a.parquet")
    assert rows["user"].to_list() == ["18446744073709551615", "5"]


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("s", 1_400_000_000),
        ("ms", 1_400_000_000_123),
        ("us", 1_400_000_000_123_456),
        ("ns", 1_400_000_000_123_456_789),
        ("text", "2014-05-13T16:53:20Z"),
        ("text", "2014-05-13 16:53:20"),
    ],
)
def test_the_time_unit_is_decided_by_most_values_and_told(tmp_path, unit, value):
    text = f"u,i,t\n1,1,{value}\n1,2,{value}\n1,3,{value}\n1,4,12\n"
    raw, rows = read(tmp_path, {"a.csv": text}, {"user": "u", "item": "i", "timestamp": "t"})
    assert rows["timestamp"].to_list()[:3] == [1_400_000_000] * 3
    assert (raw.facts["time_unit"], raw.facts["time_unit_from"]) == (unit, "most of the values")


def test_a_time_unit_of_the_recipe_is_taken_as_it_is(tmp_path):
    columns = {"user": "u", "item": "i", "timestamp": "t"}
    raw, rows = read(tmp_path, {"a.csv": "u,i,t\n1,1,1400000000000\n"}, columns, time_unit="us")
    assert rows["timestamp"].to_list() == [1_400_000]
    assert raw.facts["time_unit_from"] == "the recipe"


def test_times_before_the_web_make_a_warning(tmp_path, caplog):
    columns = {"user": "u", "item": "i", "timestamp": "t"}
    with caplog.at_level(logging.WARNING):
        read(tmp_path, {"a.csv": "u,i,t\n1,1,20140512\n"}, columns)
    assert "1970-08-22" in caplog.text and "time_unit" in caplog.text


def test_dates_of_parquet_need_no_unit(tmp_path):
    content = pl.DataFrame({"u": [1], "i": [1], "t": [dt.date(2014, 5, 13)]})
    raw, rows = read(
        tmp_path,
        {"a.parquet": content},
        {"user": "u", "item": "i", "timestamp": "t"},
        file="a.parquet",
    )
    assert rows["timestamp"].to_list() == [1_399_939_200]
    assert raw.facts["time_unit"] == "typed"


def test_several_files_are_read_in_order_and_their_lines_numbered_on(tmp_path):
    files = {
        "p/b.csv": "u,i\n5,6\n7\n,1\n",
        "p/a.csv": "u,i\n1,2\n3,4\n",
        "p/.hidden.csv": "rubbish",
        "p/c.csv": pl.DataFrame({"u": [9], "i": [9]}),
    }
    raw, rows = read(tmp_path, files, {"user": "u", "item": "i"}, file="p/*.csv")
    assert rows["user"].to_list() == [1, 3, 5, 9]
    assert rows["line"].to_list() == [2, 3, 5, 8]
    assert raw.facts["files"] == ["a.csv", "b.csv", "c.csv"]
    assert raw.steps[0].examples == ("b.csv line 3",)
    assert raw.steps[0].why == "b.csv: 1 with other than 2 fields"
    assert raw.steps[1].examples == ("b.csv line 4",)


@pytest.mark.parametrize(
    ("file", "at"),
    [("a.csv", "."), ("x/a.csv", "."), ("x/a*.csv", "."), ("a.csv", "x"), ("y/a.csv.gz", "x")],
)
def test_a_file_is_found_in_a_folder(tmp_path, file, at):
    _, rows = read(tmp_path, {"x/a.csv": CSV, "x/other.csv": "rubbish"}, file=file, at=at)
    assert rows.height == 2


def test_gzip_files_of_a_pattern_are_taken_unless_they_lie_there_plain_too(tmp_path):
    files = {
        "1.csv": "u,i\n1,1\n",
        "1.csv.gz": b"rubbish",
        "2.csv.gz": gzip.compress(b"u,i\n2,2\n"),
    }
    _, rows = read(tmp_path, files, {"user": "u", "item": "i"}, file="*.csv")
    assert rows["user"].to_list() == [1, 2]


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"no file is called 'a-\*.csv'"):
        read(tmp_path, {}, file="a-*.csv")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"user": "u"}, "which column is the item"),
        ({"user": "u", "item": "i", "raiting": "r"}, "no column 'raiting'"),
        ({"user": "u", "item": "u"}, "`user` and `item` are both"),
    ],
)
def test_a_wrong_column_map_is_refused(tmp_path, columns, words):
    with pytest.raises(RecipeError, match=words):
        read(tmp_path, {"a.csv": CSV}, columns)


@pytest.mark.parametrize(
    "content",
    ["u,item\n1,2\n", json.dumps({"u": 1, "item": 2}), pl.DataFrame({"u": [1], "item": [1]})],
)
def test_a_missing_column_is_named_with_the_nearest(tmp_path, content):
    with pytest.raises(SourceError, match="Item") as caught:
        read(tmp_path, {"a.csv": content}, {"user": "u", "item": "Item"})
    assert "did you mean 'item'" in caught.value.hint


def test_columns_of_json_lines_have_names(tmp_path):
    with pytest.raises(RecipeError, match="no column 1"):
        read(tmp_path, {"a.csv": '{"u":1}'}, {"user": "u", "item": 1})


@pytest.mark.parametrize(
    ("values", "words"),
    [([[1]], "type List"), ([dt.date(2014, 1, 1)], "type Date"), ([b"x"], "type Binary")],
)
def test_values_that_are_no_ids_are_refused(tmp_path, values, words):
    with pytest.raises(SourceError, match=words):
        read(tmp_path, {"a.csv": pl.DataFrame({"u": values, "i": [1]})}, {"user": "u", "item": "i"})


def test_no_usable_row_is_an_error_that_says_why(tmp_path):
    with pytest.raises(
        SourceError, match=r"none of the 2 rows .* 2 rows whose time cannot be read"
    ):
        read(tmp_path, {"a.csv": CSV}, time_unit="text")


@pytest.mark.parametrize("content", [b"PAR1 is not enough", pl.DataFrame({"u": [], "i": []})])
def test_a_parquet_file_that_cannot_be_used_is_refused(tmp_path, content):
    with pytest.raises(SourceError, match=r"cannot be read|no row"):
        read(tmp_path, {"a.csv": content}, {"user": "u", "item": "i"})


def test_the_source_names_the_file_that_the_recipe_names():
    options = recipe.Source(name="table", file="raw/ratings.csv", columns={"user": 0, "item": 1})
    (raw_file,) = TABLE.files(options)
    assert raw_file.role == "interactions"
    assert (raw_file.candidates[0].name, raw_file.members) == ("raw/ratings.csv", ("ratings.csv",))
    with pytest.raises(RecipeError, match="which table"):
        TABLE.files(recipe.Source(name="table", columns={"user": 0, "item": 1}))
    assert TABLE.expected(options) == {}
    assert TABLE.terms(options).licence == ""


def test_such_a_source_knows_no_items_and_no_users(tmp_path):
    raw, _ = read(tmp_path, {"a.csv": CSV})
    assert raw.items.collect().height == raw.users.collect().height == 0
    assert raw.items.collect_schema()["item"] == pl.Int64
    assert list(table.ABOUT_ITEMS) == raw.items.collect_schema().names()[1:]


def test_the_recipe_in_the_documentation_is_one(tmp_path):
    docs = Path(__file__).parent.parent / "docs" / "tables.md"
    blocks = re.findall(r"```toml\n(.*?)```", docs.read_text(encoding="utf-8"), flags=re.DOTALL)
    toml = next(block for block in blocks if "books.toml" in block)
    (tmp_path / "books.toml").write_text(toml, encoding="utf-8")
    books = recipe.load_recipe(tmp_path / "books.toml")
    header = '"User-ID";"ISBN";"Book-Rating"\r\n'
    (tmp_path / books.source.file).write_text(header + '"1";"000X";"7"\r\n', encoding="latin-1")
    raw = read_table({"interactions": tmp_path / books.source.file}, books.source, tmp_path)
    assert raw.interactions.collect()["item"].to_list() == ["000X"]
    header = '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Image-URL-L"\r\n'
    (tmp_path / "items.csv").write_text(header + '"000X";"É";"NULL";"";"u"\r\n', encoding="latin-1")
    items = join_items(raw, tmp_path / "items.csv", books.source.items).items.collect()
    assert items.select("title", "author", "image").rows() == [("É", None, "u")]


TWO = {"user": "u", "item": "i"}
IMPLICIT = "".join(f"u{n % 7},i{n % 5}\n" for n in range(200))


def ids(rows):
    return sorted(set(rows["user"].to_list())), sorted(set(rows["item"].to_list()))


@pytest.mark.parametrize("blank", [" ", "\xa0", "\u200b", "\ufeff", "\u3000"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_blanks_at_the_ends_of_ids_are_cut_and_counted(tmp_path, blank, form):
    table = pl.DataFrame({"u": ["a", f"a{blank}", "b"], "i": ["x", "x", f"{blank}x"]})
    content = {
        "csv": table.write_csv(),
        "jsonl": "".join(json.dumps(row) + "\n" for row in table.iter_rows(named=True)),
        "parquet": table,
    }[form]
    raw, rows = read(tmp_path, {"a.csv": content}, TWO)
    assert ids(rows) == (["a", "b"], ["x"])
    assert [(s.dropped, s.why[0]) for s in raw.steps if s.name == "ids tidied"] == [(0, "2")]


def test_a_letter_is_one_whether_composed_or_not(tmp_path):
    raw, rows = read(tmp_path, {"a.csv": "u,i\n\xe9,x\ne\u0301,x\n"}, TWO)
    assert ids(rows) == (["\xe9"], ["x"])
    assert "ids tidied" in [step.name for step in raw.steps]


@pytest.mark.parametrize(
    "second",
    [
        "u,i\n7.0,3.00\n8,3\n",
        '{"u": 7.0, "i": "3.0"}\n{"u": "8", "i": 3}\n',
        pl.DataFrame({"u": [7.0, 8.0], "i": ["3.0", "3"]}),
    ],
)
def test_a_whole_number_is_one_id_in_any_spelling(tmp_path, second):
    raw, rows = read(tmp_path, {"a.csv": "u,i\n7,3\n9,3\n", "b.csv": second}, TWO, file="*.csv")
    assert ids(rows) == ([7, 8, 9], [3])
    assert "ids in one spelling" in [step.name for step in raw.steps]


def test_leading_zeros_and_other_text_make_another_id(tmp_path, caplog):
    _, rows = read(tmp_path, {"a.csv": "u,i\n7,007\n7,7\n7,7.0\n7,a\n"}, TWO)
    assert ids(rows) == (["7"], ["007", "7", "7.0", "a"])
    assert any("7.0" in record.message for record in caplog.records)


def test_a_list_or_an_object_is_no_id(tmp_path):
    lines = ['{"u": "a", "i": "x"}', '{"u": ["a"], "i": "x"}', '{"u": "a", "i": {"id": 1}}']
    raw, rows = read(tmp_path, {"a.csv": "\n".join(lines)}, TWO)
    assert rows.height == 1
    assert raw.steps[0].dropped == 2


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas_are_read_with_the_key_and_never_dropped(tmp_path, separator):
    content = "u,i,r\n".replace(",", separator)
    content += "".join(f"{n}{separator}1{separator}3{',5' * (n % 9 == 0)}\n" for n in range(60))
    columns = {"user": "u", "item": "i", "rating": "r"}
    with pytest.raises(SourceError, match="decimal comma") as caught:
        read(tmp_path, {"a.csv": content}, columns, separator=separator)
    assert 'decimal = ","' in caught.value.hint
    _, rows = read(tmp_path, {"a.csv": content}, columns, separator=separator, decimal=",")
    assert (rows.height, rows["rating"].sum()) == (60, 60 * 3 + 7 * 0.5)


@pytest.mark.parametrize(
    ("content", "options", "key"),
    [
        (IMPLICIT, {}, "header = false"),
        ("u,i\n" + IMPLICIT, {"header": False}, "header = true"),
    ],
)
def test_a_first_line_of_the_other_kind_stops_the_build(tmp_path, content, options, key):
    with pytest.raises(SourceError, match="first line") as caught:
        read(tmp_path, {"a.csv": content}, {"user": 0, "item": 1}, **options)
    assert key in caught.value.hint


@pytest.mark.parametrize("columns", [TWO, {"user": 0, "item": 1}])
def test_files_cut_from_one_are_read_though_only_the_first_has_a_header(tmp_path, columns, caplog):
    files = {"day-1.csv": "u,i\n" + IMPLICIT, "day-2.csv": IMPLICIT}
    raw, rows = read(tmp_path, files, columns, file="day-*.csv")
    assert rows.height == 400
    assert raw.steps[0].lines == Lines(rows=400, header=1)
    assert any("day-2.csv" in record.message for record in caplog.records)


FEW_BAD = {
    "fields": ("a,b,c", "a,b,c,d"),
    "rating": ("a,b,4", "a,b,good"),
    "user": ("a,b,4", ",b,4"),
    "quote": ("a,b,4", 'a,"b,4'),
}


@pytest.mark.parametrize("kind", FEW_BAD)
def test_more_bad_lines_than_the_share_stop_the_build(tmp_path, kind):
    good, bad = FEW_BAD[kind]
    good = good.replace("c", "4")

    def content(n_bad):
        return "u,i,r\n" + f"{good}\n" * (200 - n_bad) + f"{bad}\n" * n_bad

    columns = {"user": "u", "item": "i", "rating": "r"}
    options = {"quote": "double"} if kind == "quote" else {}
    for n_bad in (1, 2):
        _, rows = read(tmp_path, {"a.csv": content(n_bad)}, columns, max_bad_share=0.01, **options)
        assert rows.height == 200 - n_bad
    with pytest.raises(SourceError, match="3 of 200 lines") as caught:
        read(tmp_path, {"a.csv": content(3)}, columns, max_bad_share=0.01, **options)
    assert "max_bad_share = 0.02" in caught.value.hint
    assert "line" in caught.value.where
    _, rows = read(tmp_path, {"a.csv": content(3)}, columns, max_bad_share=0.02, **options)
    assert rows.height == 197


def test_a_few_lines_may_be_bad_and_one_always_may(tmp_path):
    raw, rows = read(tmp_path, {"a.csv": "u,i\na,b\nc\n"}, TWO, max_bad_share=0.0)
    assert (rows.height, raw.steps[0].dropped) == (1, 1)


def test_lists_of_items_are_refused_with_the_format_that_reads_them(tmp_path):
    lists = "".join(f"{n} " + " ".join("5" * (2 + n % 9)) + "\n" for n in range(40))
    columns = {"user": 0, "item": 1}
    with pytest.raises(SourceError) as caught:
        read(
            tmp_path,
            {"a.csv": lists},
            columns,
            separator=" ",
            header=False,
            max_bad_share=0.01,
        )
    assert 'format = "sequences"' in caught.value.hint
    _, rows = read(tmp_path, {"a.csv": lists}, columns, separator=" ", format="sequences")
    assert rows.height == sum(2 + n % 9 for n in range(40))


def test_a_json_array_is_read(tmp_path):
    rows = [{"u": f"u{n}", "i": "x\ny"} for n in range(3)]
    for text in (json.dumps(rows), json.dumps(rows, indent=2)):
        for content in (text, gzip.compress(text.encode())):
            _, found = read(tmp_path, {"a.csv": content}, TWO)
            assert ids(found) == (["u0", "u1", "u2"], ["x\ny"])
    for broken in (json.dumps(rows)[:-5], "[]", "[{}"):
        with pytest.raises(SourceError, match="JSON array"):
            read(tmp_path, {"a.csv": broken}, TWO)


def test_python_dicts_are_read_and_nothing_is_evaluated(tmp_path):
    lines = [repr({"u": f"u{n}", "i": "it's", "early": False, "x": None}) for n in range(90)]
    old = [line.replace("'u'", "u'u'") for line in lines]
    bad = "{'u': __import__('os').getcwd(), 'i': 'x'}"
    for n, content in enumerate((lines, old, [*old, bad])):
        raw, rows = read(tmp_path, {"a.csv": "\n".join(content)}, TWO)
        assert rows.height == 90
        assert raw.steps[0].dropped == (n == 2)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_texts_that_begin_with_a_byte_order_mark_are_read(tmp_path, encoding):
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    _, rows = read(tmp_path, {"a.csv": mark + CSV.encode(encoding)})
    assert rows.rows() == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_is_one(tmp_path, end):
    _, rows = read(tmp_path, {"a.csv": CSV.replace("\n", end)})
    assert rows.rows() == ROWS
