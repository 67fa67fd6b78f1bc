"""A path is the file that is called so, and a name never becomes a command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from fedeval.cli import main as fedeval_main
from fedprep.build import build_dataset
from fedprep.cli import main as fedprep_main
from fedprep.dataset import Dataset
from fedprep.embed.pictures import FolderStore
from fedprep.errors import DatasetError, FedprepError, RecipeError
from fedprep.manifest import read_manifest, write_manifest
from fedprep.query import query
from fedprep.recipe import load_recipe, parse_recipe
from fedtrain.cli import main as fedtrain_main
from tests.built import own_cache

ODD = (
    "a[1]",
    "b\\c[1]",
    "x*",
    "q?",
    "~",
    "k=v",
    "it's",
    'say "hi"',
    "--out",
    "{1,2}",
    "ünï",
    "a b",
    "$HOME",
)


def run(*arguments: str | Path) -> int:
    main = fedeval_main if arguments[0] == "fedeval" else fedprep_main
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments[1:]])
    return int(exit_.value.code or 0)


def made(folder: Path, seed: int, out: Path) -> Path:
    source = {
        "name": "synthetic", "edition": "2018", "category": "Gift_Cards",
        "synthetic": {"n_users": 30, "n_items": 20, "n_interactions": 300, "images": 0.0},
    }  # fmt: skip
    tree = {
        "name": "odd",
        "seed": seed,
        "source": source,
        "embed": {"text": {"encoder": "hashing", "dim": 8}},
    }
    with own_cache(folder):
        build_dataset(parse_recipe(tree), out)
    return out


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two Datasets that differ."""
    folder = tmp_path_factory.mktemp("odd")
    return made(folder, 1, folder / "one"), made(folder, 2, folder / "two")


def total(path: Path | str) -> float:
    return float(Dataset.open(path).interactions().select(pl.col("rating").sum()).collect().item())


@pytest.mark.parametrize("name", ODD)
def test_a_dataset_is_read_from_the_folder_that_is_named_and_from_no_other(
    name: str, pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside it lies what the name means as a pattern."""
    shutil.copytree(pair[0], tmp_path / name)
    for other in ("a1", "xy", "q1", "1", "2"):
        shutil.copytree(pair[1], tmp_path / other)
    expected = total(pair[0])
    assert expected != total(pair[1])
    opened = Dataset.open(name)  # relative to the working folder, which tmp_path is
    assert total(name) == total(tmp_path / name) == expected
    assert opened.items().collect().height == opened.manifest["facts"]["n_items"]
    assert opened.index.height == opened.manifest["facts"]["n_clients"]
    rows = query(opened, "select sum(rating) as total from interactions")
    assert rows["total"][0] == expected
    assert (
        query(opened, "select * from users").columns
        == query(Dataset.open("a1"), "select * from users").columns
    )
    assert run("fedprep", "validate", "--quiet", "--", name) == 0
    assert run("fedprep", "export", "--to", "csv", "--out", f"out-{name}", "--", name) == 0
    assert pl.read_csv(f"out-{name}/interactions.csv", glob=False)["rating"].sum() == expected
    arguments = ("--set", "partition.method=iid", "--set", "partition.n_clients=3")
    assert run("fedprep", "partition", "--out", f"parts-{name}", *arguments, "--", name) == 0
    assert total(f"parts-{name}") == expected
    capsys.readouterr()
    assert run("fedeval", "baselines", name if name[0] != "-" else f"./{name}", "--only", "popularity",
               "--out", f"report-{name}") == 0  # fmt: skip
    found = json.loads(Path(f"report-{name}/report.json").read_text(encoding="utf-8"))
    assert found["subject"]["id"] == opened.id


@pytest.mark.parametrize("name", ODD)
def test_a_build_and_its_own_tables_lie_where_they_are_named(name: str, tmp_path: Path) -> None:
    raw = tmp_path / name
    raw.mkdir()
    (tmp_path / "a1").mkdir()
    lines = ["user,item,rating,timestamp"]
    lines += [
        f"u{u},i{(u * 7 + k) % 40},{k % 5 + 1},{1_500_000_000 + 1000 * k + u}"
        for u in range(20)
        for k in range(9)
    ]
    (raw / "rows.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "a1" / "rows.csv").write_text("user,item,rating,timestamp\n1,1,1,1\n")
    recipe = raw / "mine.toml"
    recipe.write_text(
        'name = "mine"\n[source]\nname = "table"\nfile = "rows.csv"\n[source.columns]\nuser = "user"\n'
        'item = "item"\nrating = "rating"\ntimestamp = "timestamp"\n[embed.text]\nencoder = "none"\n'
    )
    assert (
        run(
            "fedprep",
            "build",
            f"./{name}/mine.toml",
            "--from",
            f"./{name}",
            "--out",
            f"./new {name}",
        )
        == 0
    )
    assert Dataset.open(f"new {name}").manifest["facts"]["n_interactions"] == 180
    lists = Dataset.open(f"new {name}").interactions("test").select("user_id", "item_id").collect()
    lists = lists.with_columns(rank=1)
    table = tmp_path / name / f"{name}.parquet"
    lists.write_parquet(table)
    (tmp_path / "a1" / "a1.parquet").write_bytes(b"no table")
    assert (
        run("fedeval", "score", f"./{name}/{name}.parquet", "--data", f"./new {name}", "-k", "1")
        == 0
    )
    lists.write_csv(tmp_path / name / f"{name}.csv")
    assert (
        run("fedeval", "score", f"./{name}/{name}.csv", "--data", f"./new {name}", "-k", "1") == 0
    )


def test_a_file_that_is_called_like_a_pattern_goes_before_the_pattern(tmp_path: Path) -> None:
    head = "user,item,timestamp\n"
    for name, user in (("day-[1].csv", "x"), ("day-1.csv", "y"), ("day-2.csv", "z")):
        rows = [f"{user}{u},i{i},{1_500_000_000 + i}" for u in range(5) for i in range(6)]
        (tmp_path / name).write_text(head + "\n".join(rows) + "\n")
    for pattern, n_users in (("day-[1].csv", 5), ("day-?.csv", 10), ("day-*.csv", 15)):
        tree = {
            "name": "p", "source": {
                "name": "table", "file": pattern,
                "columns": {"user": "user", "item": "item", "timestamp": "timestamp"},
            },
            "clean": {"label": "implicit"}, "embed": {"text": {"encoder": "none"}},
        }  # fmt: skip
        dataset = build_dataset(parse_recipe(tree), tmp_path / f"out{n_users}")
        users = dataset.users().collect()["source_id"].to_list()
        assert len(users) == n_users
        assert any(user.startswith("x") for user in users) == (n_users != 10)


# --- SQL -----------------------------------------------------------------------------------------------


def test_a_file_of_a_hostile_name_is_no_view_and_runs_nothing(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    shutil.copytree(pair[0], folder)
    name = "a as select 1; copy (select 42 as a) to 'pwned.csv'; create view b.parquet"
    shutil.copy(folder / "embeddings" / "text.parquet", folder / "embeddings" / name)
    assert query(Dataset.open(folder), "select count(*) as n from interactions")["n"][0] == 300
    assert not (tmp_path / "pwned.csv").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to 'out.csv'", "copy items to 'items.parquet'", "select 1; select 2",
        "drop view items", "create table t as select 1", "attach 'x.db'", "install httpfs", "load httpfs",
        "set threads = 1", "pragma database_list", "export database 'there'", "insert into items values (1)",
        "call pragma_version()", "select * from read_csv('secret.csv')", "from 'secret.csv'",
        "select * from read_text('secret.csv')", "select * from glob('*')", "select * from frame",
        "select * from 'https://example.org/x.parquet'", "select * from sniff_csv('secret.csv')",
        "select * from read_blob('/etc/passwd')", "", "selec 1",
    ],
)  # fmt: skip
def test_sql_reads_the_tables_of_its_dataset_and_does_nothing_else(
    sql: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    frame = pl.DataFrame({"secret": [1]})
    frame.write_csv(tmp_path / "secret.csv")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    digests = {p: p.read_bytes() for p in pair[0].rglob("*") if p.is_file()}
    with pytest.raises(DatasetError):
        query(Dataset.open(pair[0]), sql)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert {p: p.read_bytes() for p in pair[0].rglob("*") if p.is_file()} == digests


def test_other_files_are_read_where_that_is_allowed(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"secret": [7]}).write_csv(tmp_path / "secret.csv")
    sql = "select secret from read_csv('secret.csv')"
    assert query(Dataset.open(pair[0]), sql, allow_files=True)["secret"].to_list() == [7]
    assert run("fedprep", "sql", pair[0], sql) == 2
    assert run("fedprep", "sql", pair[0], sql, "--allow-files") == 0
    with pytest.raises(FedprepError):
        query(Dataset.open(pair[0]), "copy (select 1) to 'out.csv'", allow_files=True)


# --- names ---------------------------------------------------------------------------------------------

NO_NAMES = (
    "", ".", "..", "../evil", "../../evil", "/etc/evil", "a/b", "a\\b", "C:evil", ".hidden", "-rf", "con",
    "NUL.txt", "com1", "a" * 256, "é" * 128, "tab\tname", "new\nline", "nul\0", "trailing.", "a b",
    "\u202eevil", "~", "*",
)  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused_at_the_door_of_the_recipe(name: str, tmp_path: Path) -> None:
    tree = {
        "name": name,
        "source": {"name": "synthetic", "edition": "2018", "category": "Gift_Cards"},
    }
    with pytest.raises(RecipeError, match="is no name"):
        parse_recipe(tree)
    (tmp_path / "inner").mkdir()
    recipe = tmp_path / "inner" / "mine.toml"
    recipe.write_text(
        f"name = {json.dumps(name)}\n[source]\nname = 'synthetic'\nedition = '2018'\n"
    )
    before = sorted(tmp_path.rglob("*"))
    assert run("fedprep", "build", recipe) == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("key", ["category", "edition"])
@pytest.mark.parametrize("name", [name for name in NO_NAMES if name])
def test_a_category_or_edition_that_is_no_name_is_refused(key: str, name: str) -> None:
    """They are parts of files' names, made up or fetched."""
    for source in ("synthetic", "amazon", "movielens"):
        with pytest.raises(FedprepError):
            parse_recipe({"name": "x", "source": {"name": source, key: name}})


@pytest.mark.parametrize(
    "name", ["movielens-1m", "a.b_c-1", "Ünïcode", "电影", "_x", "1", "x" * 255]
)
def test_names_of_every_script_are_names(name: str) -> None:
    assert parse_recipe({"name": name, "source": {"name": "synthetic"}}).name == name


def test_a_recipe_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "my data (1).toml"
    path.write_text("[source]\nname = 'synthetic'\n")
    assert load_recipe(path).name == "my-data-1-"


def test_a_dataset_that_calls_itself_a_path_writes_nothing_outside(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in" / "d"
    shutil.copytree(pair[0], folder)
    manifest = read_manifest(folder)
    manifest["name"] = manifest["recipe"]["name"] = "../../evil"
    write_manifest(folder, {k: v for k, v in manifest.items() if k not in ("format", "id")})
    assert (
        run("fedprep", "export", folder, "--to", "recbole", "--out", tmp_path / "in" / "out") == 2
    )
    assert not (tmp_path / "in" / "out").exists()
    pytest.importorskip("torch")
    with pytest.raises(SystemExit) as exit_:
        fedtrain_main(
            ["run", str(folder), "--rounds", "1", "--model", "mf", "--algorithm", "fedavg"]
        )
    assert exit_.value.code == 2
    assert not list(tmp_path.rglob("*evil*"))


def test_a_picture_that_is_a_link_to_another_place_is_none_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "pictures" / "own.png").write_bytes(b"own")
    (tmp_path / "pictures" / "i1.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "pictures" / "i2.png").symlink_to("own.png")
    assert FolderStore(tmp_path / "pictures", max_bytes=100).names() == ["i2.png", "own.png"]
