"""An extra table of items, joined to a source."""

from __future__ import annotations

import gzip
import json

import polars as pl
import pytest

from fedprep import recipe
from fedprep.errors import RecipeError, SourceError
from fedprep.schema import RawTables, Step, silent
from fedprep.sources import SOURCES, join_items

STEP = Step(stage="read", name="of the source", rows_in=1, rows_out=1)


def source(
    items=((1, "One", ["Old"], 1990), (2, "Two", None, None), (3, "Three", ["Old"], 1995)),
    rated=(1, 4),
):
    schema = {
        "item": pl.Int64,
        "title": pl.String,
        "categories": pl.List(pl.String),
        "year": pl.Int32,
    }
    table = pl.LazyFrame(list(items), schema=schema, orient="row")
    table = table.with_columns(image=pl.lit(None, pl.String))
    rows = pl.LazyFrame({"user": [1] * len(rated), "item": list(rated)})
    return RawTables(
        interactions=rows, items=table, users=pl.LazyFrame({"user": [1]}), steps=[STEP]
    )


def text_ids(raw):
    as_text = pl.col("item").cast(pl.String)
    return RawTables(
        interactions=raw.interactions.with_columns(as_text),
        items=raw.items.with_columns(as_text),
        users=raw.users,
    )


def join(tmp_path, content, columns, raw=None, **options):
    path = tmp_path / "more"
    if isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {"max_bad_share": 1.0, **options}
    table = recipe.ItemsTable(file="more", columns=columns, **options)
    joined = join_items(raw or source(), path, table)
    return joined, joined.items.collect().sort("item")


def test_new_columns_come_to_the_items_and_others_stay(tmp_path):
    joined, items = join(tmp_path, "id,plot\n1,A plot\n3,\n", {"item": "id", "plot": "plot"})
    assert items.columns == ["item", "title", "categories", "year", "image", "plot"]
    assert items.select("item", "title", "plot").rows() == [
        (1, "One", "A plot"),
        (2, "Two", None),
        (3, "Three", None),
    ]
    assert joined.steps[0] == STEP


def test_a_column_of_both_takes_the_extra_value_where_there_is_one(tmp_path):
    text = "id,name,kinds,made,pic\n1,Uno,A|B ,,p/1.jpg\n2,,,2001,\n3,,C,?,\n"
    columns = {"item": "id", "title": "name", "categories": "kinds", "year": "made", "image": "pic"}
    _, items = join(tmp_path, text, columns, missing=["?"])
    assert items.select("title", "categories", "year", "image").rows() == [
        ("Uno", ["A", "B"], 1990, "p/1.jpg"),
        ("Two", None, 2001, None),
        ("Three", ["C"], 1995, None),
    ]
    assert items.schema["year"] == pl.Int32


def test_what_is_dropped_is_counted_and_named(tmp_path):
    text = "id,plot\n1,a\nx,b\n,c\n9,d\n1,e\n7,f,g\n4,h\n 3 ,i\n"
    joined, items = join(tmp_path, text, {"item": "id", "plot": "plot"})
    assert items.select("item", "plot").rows() == [(1, "a"), (2, None), (3, "i"), (4, "h")]
    found = [(s.name, s.rows_in, s.rows_out, s.unit, s.examples) for s in joined.steps[1:]]
    assert found == [
        ("bad lines in more", 8, 7, "rows", ("line 7",)),
        ("rows without an id in more", 7, 5, "rows", ("line 3", "line 4")),
        ("ids tidied in more", 7, 7, "rows", ()),
        ("rows on unknown items in more", 5, 4, "rows", ("line 5",)),
        ("repeated items in more", 4, 3, "rows", ("line 6",)),
        ("items without a row in more", 4, 3, "items", ("item 2",)),
    ]


def test_an_item_that_only_the_interactions_know_gets_its_row(tmp_path):
    _, items = join(tmp_path, "id,name\n4,Four\n", {"item": "id", "title": "name"})
    assert items.filter(pl.col("item") == 4).select("title", "categories").rows() == [
        ("Four", None)
    ]
    assert items["item"].is_duplicated().sum() == 0


def test_a_source_without_items_is_described_by_the_table_alone(tmp_path):
    raw = source(items=(), rated=(5, 6))
    _, items = join(
        tmp_path, "id,name\n5,Five\n6,Six\n7,Seven\n", {"item": "id", "title": "name"}, raw
    )
    assert items.select("item", "title").rows() == [(5, "Five"), (6, "Six")]


@pytest.mark.parametrize(
    "content",
    [
        pl.DataFrame({"id": [1, 2], "n": ["Uno", "Due"]}),
        pl.DataFrame({"id": [1.0, 2.0], "n": ["Uno", "Due"]}),
        pl.DataFrame(
            {"id": ["1", "2"], "n": ["Uno", "Due"]}, schema_overrides={"n": pl.Categorical}
        ),
        '{"id": 1, "n": "Uno"}\n{"id": "2", "n": "Due"}\n',
        gzip.compress(b"id,n\n1,Uno\n2,Due\n"),
    ],
)
def test_the_key_takes_the_type_of_the_source(tmp_path, content):
    columns = {"item": "id", "title": "n"}
    for raw, keys in ((source(), [1, 2]), (text_ids(source()), ["1", "2"])):
        _, items = join(tmp_path, content, columns, raw)
        assert items.filter(pl.col("item").is_in(keys))["title"].to_list() == ["Uno", "Due"]
        assert items.schema["item"] == raw.items.collect_schema()["item"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["A, B", "C"], [["A", "B"], ["C"]]),
        (["A, x|B", "C, y"], [["A, x", "B"], ["C, y"]]),
        (["A,A, ,B", " , "], [["A", "B"], None]),
        (["A; x, B", "C"], [["A; x", "B"], ["C"]]),
        (["A; B", "Q&amp;A"], [["A", "B"], ["Q&A"]]),
        (['["A, x","B"]', "C"], [["A, x", "B"], ["C"]]),
        ([["A", "B"], []], [["A", "B"], None]),
    ],
)
def test_categories_of_any_form_become_lists(tmp_path, kinds, expected):
    raw = source(items=((1, "One", None, None), (2, "Two", None, None)), rated=(1,))
    content = pl.DataFrame({"id": [1, 2], "kinds": kinds})
    _, items = join(tmp_path, content, {"item": "id", "categories": "kinds"}, raw)
    assert items["categories"].to_list() == expected


def test_new_columns_of_parquet_keep_their_types(tmp_path):
    content = pl.DataFrame({"id": [1], "score": [0.5], "tags": [["x"]]})
    _, items = join(tmp_path, content, {"item": "id", "score": "score", "tags": "tags"})
    assert items.select("score", "tags").row(0) == (0.5, ["x"])


def test_values_that_do_not_fit_the_source_are_counted(tmp_path):
    joined, items = join(tmp_path, "id,y\n1,nineteen\n2,2001\n", {"item": "id", "year": "y"})
    assert items["year"].to_list() == [1990, 2001, 1995]
    step = joined.steps[-1]
    assert (step.name, step.rows_in, step.rows_out) == (
        "extra values of `year` that are not Int32",
        2,
        1,
    )


@pytest.mark.parametrize("value", [{"a": 1}, [1990]])
def test_values_that_cannot_fit_are_refused(tmp_path, value):
    content = pl.DataFrame({"id": [1], "t": [value]})
    with pytest.raises(SourceError, match="`year` of the extra items"):
        join(tmp_path, content, {"item": "id", "year": "t"})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"plot": "plot"}, "item's id"),
        ({"item": "id", "text": "plot"}, "cannot be called 'text'"),
        ({"item": "id", "source_id": "plot"}, "cannot be called 'source_id'"),
    ],
)
def test_a_wrong_column_map_is_refused(tmp_path, columns, words):
    with pytest.raises(RecipeError, match=words):
        join(tmp_path, "id,plot\n1,a\n", columns)


def test_a_table_on_other_items_is_refused(tmp_path):
    with pytest.raises(SourceError, match="none of the source's 4"):
        join(tmp_path, "id,plot\n11,a\n12,b\n", {"item": "id", "plot": "plot"})


def test_a_table_with_colons_and_without_header_is_read(tmp_path):
    text = '1::One (1990)::N/A::"Quoted" plot, with commas\n3::Three::x::N/A\n2::a::b\n'
    joined, items = join(
        tmp_path,
        gzip.compress(text.encode()),
        {"item": 0, "plot": 3},
        separator="::",
        header=False,
        missing=["N/A"],
    )
    assert items["plot"].to_list() == ['"Quoted" plot, with commas', None, None]
    assert joined.steps[1].examples == ("line 3",)


def test_keys_of_json_objects_are_columns(tmp_path):
    lines = [{"id": 1, "kinds": ["A", "B"], "plot": None}, {"id": 2, "plot": "x"}]
    content = "\n".join(json.dumps(line) for line in lines)
    _, items = join(tmp_path, content, {"item": "id", "categories": "kinds", "plot": "plot"})
    assert items.select("categories", "plot").head(2).rows() == [(["A", "B"], None), (None, "x")]


@pytest.mark.realdata
def test_the_plots_of_melu_come_to_movielens_1m(mirror, tmp_path):
    plots = next(iter(mirror.rglob("ml-1m_movies_extrainfos.dat.gz")), None)
    archive = next(iter(mirror.rglob("ml-1m.zip")), None)
    if plots is None or archive is None:
        pytest.skip("needs ml-1m.zip and MeLU's plots in the folder that FEDPREP_MIRROR names")
    from fedprep.fetch import unpack

    unpack(
        archive,
        tmp_path / "raw",
        members=("ml-1m/movies.dat", "ml-1m/ratings.dat", "ml-1m/users.dat"),
    )
    options = recipe.Source(name="movielens", edition="1m")
    raw = SOURCES["movielens"].read({"archive": tmp_path / "raw"}, options, tmp_path, silent)
    table = recipe.ItemsTable(
        file=plots.name,
        separator="::",
        header=False,
        columns={"item": 0, "director": 6, "plot": 9},
        missing=["N/A"],
    )
    joined = join_items(raw, plots, table)
    items = joined.items.collect()
    assert (items.height, items["plot"].null_count()) == (3883, 36 + 2)
    assert joined.steps[-1].examples == ("item 860", "item 1795")
    read, *dropped = joined.steps[-5:]
    assert (read.rows_in, read.rows_out) == (3881, 3881)
    assert [step.dropped for step in dropped] == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("markup", "title", "categories"),
    [
        ("clean", ["Café & Bar", "Tom 'n' Ann", "AT&T <3 you"], [["a&b", "c"], ["<unk>"], None]),
        (
            "keep",
            ["Caf&eacute; &amp; <b>Bar</b>", "Tom &#39;n&#39; Ann", "AT&T <3 you"],
            [["a&amp;b", "c"], ["<unk>"], None],
        ),
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_tags_and_entities_are_taken_out_of_every_text(tmp_path, markup, title, categories, form):
    table = pl.DataFrame(
        {
            "item": ["1", "2", "3"],
            "title": ["Caf&eacute; &amp; <b>Bar</b>", "Tom &#39;n&#39; Ann", "AT&T <3 you"],
            "categories": ["a&amp;b|c", "<unk>", "[]"],
        }
    )
    if form == "parquet":
        lists = pl.Series("categories", [["a&amp;b", "c"], ["<unk>"], []])
        table = table.with_columns(lists)
    path = tmp_path / "more"
    if form == "csv":
        table.write_csv(path)
    elif form == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_parquet(path)
    names = {name: name for name in table.columns}
    raw = source(items=(), rated=(1, 2, 3))
    joined = join_items(raw, path, recipe.ItemsTable(file="more", columns=names), markup=markup)
    items = joined.items.collect().sort("item")
    assert items["title"].to_list() == title
    assert items["categories"].to_list() == categories
    assert any(s.name == "markup in more" for s in joined.steps) == (markup == "clean")


def test_lists_in_texts_become_categories_texts_and_pictures(tmp_path):
    rows = [
        {
            "item": n,
            "categories": categories,
            "about": ["One &amp; two.", "Three."] if n > 1 else [],
            "image": ["https://a/1.jpg", "https://a/2.jpg"],
        }
        for n, categories in enumerate(
            ["['Ale', 'Tea']", '[{"id": 18, "name": "Ale"}]', "[]", [{"id": 1, "name": "Tea"}]], 1
        )
    ]
    path = tmp_path / "more"
    path.write_text("\n".join(map(json.dumps, rows)))
    names = {name: name for name in rows[0]}
    raw = source(items=(), rated=(1, 2, 3, 4))
    items = join_items(raw, path, recipe.ItemsTable(file="more", columns=names)).items.collect()
    items = items.sort("item")
    assert items["categories"].to_list() == [["Ale", "Tea"], ["Ale"], None, ["Tea"]]
    assert items["about"].to_list() == [None, *["One & two. Three."] * 3]
    assert items["image"].unique().to_list() == ["https://a/1.jpg"]


def test_structs_and_numbers_in_lists_become_categories(tmp_path):
    for values in ([[{"id": 1, "name": "7"}]], [[7]]):
        table = pl.DataFrame({"item": [1], "kind": values})
        _, items = join(tmp_path, table, {"item": "item", "categories": "kind"})
        assert items.filter(item=1)["categories"].to_list() == [["7"]]
    with pytest.raises(SourceError, match="no name"):
        table = pl.DataFrame({"item": [1], "kind": [[{"id": 1}]]})
        join(tmp_path, table, {"item": "item", "categories": "kind"})


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("spelled", ["1.0", " 1", "\xa01\xa0", "\u200b1"])
def test_an_item_is_known_however_its_id_is_spelled(tmp_path, as_text, spelled):
    raw = text_ids(source()) if as_text else source()
    joined, items = join(
        tmp_path, f"id,name\n{spelled},Uno\n", {"item": "id", "title": "name"}, raw
    )
    assert items.filter(pl.col("item").cast(pl.String) == "1")["title"].to_list() == ["Uno"]
    assert "ids tidied in more" in [step.name for step in joined.steps]


def test_composed_and_decomposed_ids_meet(tmp_path):
    rows = pl.LazyFrame({"user": ["a"], "item": ["\xe9"]})
    raw = RawTables(
        interactions=rows,
        items=pl.LazyFrame(schema={"item": pl.String, "title": pl.String}),
        users=pl.LazyFrame(schema={"user": pl.String}),
    )
    _, items = join(tmp_path, "id,name\ne\u0301,Uno\n", {"item": "id", "title": "name"}, raw)
    assert items.rows() == [("\xe9", "Uno")]


def test_a_list_is_no_id_of_an_item(tmp_path):
    with pytest.raises(SourceError, match="List"):
        join(tmp_path, pl.DataFrame({"id": [["1"]], "n": ["a"]}), {"item": "id", "title": "n"})


def test_too_many_rows_without_an_id_stop_the_build(tmp_path):
    text = "id,name\n1,a\n,b\n,c\n" + "2,d\n" * 60
    with pytest.raises(SourceError, match="2 of 63 lines"):
        join(tmp_path, text, {"item": "id", "title": "name"}, max_bad_share=0.01)


def test_a_stray_quote_in_a_title_costs_nothing(tmp_path):
    lines = [f"{n}\t{chr(34) * (n == 5)}thing {n}{chr(34) * (n == 90)}\tx|y" for n in range(1, 101)]
    text = "id\tname\tkind\n" + "\n".join(lines)
    raw = source(items=(), rated=tuple(range(1, 101)))
    columns = {"item": "id", "title": "name", "categories": "kind"}
    for quote in ("auto", "none"):
        _, items = join(tmp_path, text, columns, raw, separator="\t", quote=quote)
        assert items["title"].n_unique() == 100
    with pytest.raises(SourceError, match="lines"):
        join(
            tmp_path,
            "id\tname\n" + '1\t"open\n' * 20,
            {"item": "id", "title": "name"},
            separator="\t",
            quote="double",
            max_bad_share=0.01,
        )
