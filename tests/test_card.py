"""The data card: measured facts under the seven headings, prose that stays, no row of the data."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cards import WORDS, card_of, small_dataset, without_measured_floats

from fedprep.build import Hands, build_dataset
from fedprep.card import write_card
from fedprep.card.facts import percent
from fedprep.card.licence import catalogue_licence, croissant_licence
from fedprep.card.prose import HEADINGS
from fedprep.card.rebuild import rebuild_command
from fedprep.dataset import Dataset
from fedprep.errors import DatasetError, OutputError, RecipeError
from fedprep.manifest import write_manifest
from fedprep.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from fedprep.sources import SOURCES

CARDS = Path(__file__).parent.parent / "data_cards"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def card(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    return card_of(dataset, tmp_path_factory.mktemp("card") / "out")[0]


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def front_matter(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="comes with the extra text")
    loaded: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return loaded


# --- what it says ------------------------------------------------------------------------------------


def test_it_has_the_seven_headings_of_a_datasheet_in_order(card: str) -> None:
    assert tuple(re.findall(r"^## (.+)$", card, flags=re.MULTILINE)) == HEADINGS


def test_the_front_matter_is_what_the_hub_reads(card: str, dataset: Dataset) -> None:
    matter = front_matter(card)
    assert matter["license"] == "cc0-1.0"
    assert matter["pretty_name"] == "small"
    assert matter["size_categories"] == ["n<1K"]
    assert {"recommendation", "federated-learning", "synthetic", "text"} <= set(matter["tags"])
    configs = {config["config_name"]: config["data_files"] for config in matter["configs"]}
    assert {"interactions", "items", "users", "clients", "embeddings_text"} == set(configs)
    named = {
        path for files in configs.values() for f in files for path in dataset.path.glob(f["path"])
    }
    assert named == set(dataset.path.rglob("*.parquet"))


def test_measured_facts_stand_under_their_headings(card: str, dataset: Dataset) -> None:
    facts, rows = dataset.manifest["facts"], dataset.interactions().collect()
    composition = section(card, "Composition")
    assert f"| {(rows['split'] == 'train').sum()} | 30 |" in composition
    for _, count in facts["ratings"]:
        assert f" {count} |" in composition
    assert percent(rows["label"].mean()) in composition  # type: ignore[arg-type]
    assert "4 clients by `dirichlet` (alpha 0.5, on category), seed 0" in composition
    labels = "`label` is 1 where the rating is 4 or more, else 0."
    assert labels in section(card, "Preprocessing/cleaning/labeling")
    assert "| text | hashing | 8 | l2 | 20 | 0 |" in card
    leak = dataset.manifest["split"]["leak"]["train_rows_after_first_test_row"]
    assert percent(leak) in section(card, "Uses")
    (reviews, *_) = dataset.manifest["source"]["files"]
    assert reviews["sha256"] in section(card, "Collection process")
    assert WORDS.replace("|", "\\|") in section(card, "Distribution")
    assert f"polars {pl.__version__}" in section(card, "Maintenance")
    assert dataset.id in card


def test_every_step_is_listed_with_what_it_dropped(tmp_path: Path) -> None:
    dirty = {"n_users": 30, "n_items": 20, "n_interactions": 300, "images": 0.0,
             "faults": ["repeated_pairs"]}  # fmt: skip
    source = {"name": "synthetic", "edition": "2018", "category": "Gift_Cards", "synthetic": dirty}
    dataset = small_dataset(tmp_path, source=source)
    text = section(card_of(dataset, tmp_path / "out")[0], "Preprocessing/cleaning/labeling")
    dropped = [step for step in dataset.manifest["steps"] if step["dropped"]]
    assert dropped
    for step in dataset.manifest["steps"]:
        shown = f"{step['dropped']:,}" if step["dropped"] else "–"
        assert f"| {step['name']} | {step['rows_in']:,} | {shown} | {step['rows_out']:,} |" in text


def test_it_holds_no_row_of_the_data(dataset: Dataset, tmp_path: Path) -> None:
    readme, croissant = card_of(dataset, tmp_path)
    assert_no_row(readme + json.dumps(croissant, ensure_ascii=False), dataset)


def assert_no_row(text: str, dataset: Dataset) -> None:
    items, users = dataset.items().collect(), dataset.users().collect()
    for column in (items["source_id"], users["source_id"], items["title"], items["text"]):
        telling = column.drop_nulls().filter(column.drop_nulls().str.len_chars() >= 10)
        found = [value for value in telling.to_list() if value in text]
        assert not found, f"{column.name}: {found[:3]}"


def test_equal_datasets_have_equal_cards(dataset: Dataset, tmp_path: Path) -> None:
    assert card_of(dataset, tmp_path / "a") == card_of(dataset, tmp_path / "b")
    again = build_dataset(parse_recipe(dataset.manifest["recipe"]), tmp_path / "again")
    assert without_measured_floats(*card_of(again, tmp_path / "c")) == without_measured_floats(
        *card_of(dataset, tmp_path / "d")
    )


def test_it_links_the_page_of_pictures_that_lies_beside_it(
    dataset: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(dataset.path, tmp_path / "copy")
    copy = Dataset.open(tmp_path / "copy")
    (copy.path / "report.html").unlink(missing_ok=True)
    assert "(report.html)" not in card_of(copy, copy.path)[0]
    (copy.path / "report.html").write_text("<html>")
    text, _ = card_of(copy, copy.path)
    assert "[report.html](report.html)" in text and "lies apart" not in text
    text, _ = card_of(copy, tmp_path / "out")
    assert "(report.html)" not in text and "lies apart" in text
    assert Dataset.open(copy.path).id == dataset.id


def test_implicit_rows_without_times_have_a_card_as_well(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("u,i\n" + "".join(f"u{n % 7},i{n % 5}\n" for n in range(35)))
    tree = {
        "name": "own",
        "source": {"name": "table", "file": str(tmp_path / "own.csv"), "columns": {"user": "u", "item": "i"}},
        "clean": {"label": "implicit"},
        "split": {"method": "ratio"},
        "embed": {"text": {"encoder": "none"}, "behavior": {"dim": 2}},
    }  # fmt: skip
    dataset = build_dataset(parse_recipe(tree), tmp_path / "own")
    text, croissant = card_of(dataset, tmp_path / "card")
    assert "no row has a timestamp; no row has a rating" in text
    assert "`label` is 1 for every row" in text
    assert "rai:dataCollectionTimeframe" not in croissant
    assert front_matter(text)["license"] == "unknown"


def test_a_manifest_that_lacks_an_entry_is_named(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / "poor")
    kept = {k: v for k, v in dataset.manifest.items() if k not in ("id", "steps")}
    write_manifest(tmp_path / "poor", kept)
    with pytest.raises(DatasetError, match="lacks steps"):
        write_card(Dataset.open(tmp_path / "poor"), tmp_path / "out")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0.0%"), (1.0, "100.0%"), (0.57528, "57.5%"), (0.9999, "99.990%"), (0.0001, "0.010%")],
)
def test_a_share_that_is_nearly_all_or_nothing_does_not_read_so(share: float, shown: str) -> None:
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("licence", "entries"),
    [
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ("none stated", {"license": "unknown"}),
        ("", {"license": "unknown"}),
        (
            "Yelp Dataset User Agreement",
            {"license": "other", "license_name": "yelp-dataset-user-agreement", "license_link": "https://x"},
        ),
    ],
)  # fmt: skip
def test_a_licence_has_the_hub_s_name(licence: str, entries: dict[str, str]) -> None:
    assert catalogue_licence({"licence": licence, "homepage": "https://x"}) == entries


def test_a_known_licence_is_an_address_and_another_a_work_with_its_words() -> None:
    known = croissant_licence({"licence": "CC0-1.0", "homepage": ""}, "")
    assert known == "https://spdx.org/licenses/CC0-1.0.html"
    other = croissant_licence({"licence": "terms", "homepage": "https://x"}, "words")
    assert isinstance(other, dict) and other["description"] == "words"


# --- prose -------------------------------------------------------------------------------------------


def test_prose_is_merged_under_its_heading_and_kept_on_regeneration(
    dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "prose.md").write_text(
        "# Words on this Dataset\n\n## Motivation\nTo learn.\n\n### Why\n```sh\n## not a heading\n```\n\n"
        "## preprocessing/cleaning/labelling\nBy hand.\n"
    )
    readme, _ = write_card(dataset, tmp_path / "out", prose=tmp_path / "prose.md")
    text = readme.read_text()
    written = "To learn.\n\n### Why\n```sh\n## not a heading\n```\n"
    assert f"<!-- prose: Motivation -->\n{written}<!-- end of prose -->" in text
    assert "By hand." in section(text, "Preprocessing/cleaning/labeling")
    write_card(dataset, tmp_path / "out")
    assert readme.read_text() == text


def test_prose_written_into_the_card_is_kept_and_a_file_wins(
    dataset: Dataset, tmp_path: Path
) -> None:
    readme, _ = write_card(dataset, tmp_path)
    empty = readme.read_text()
    mark = "<!-- prose: Uses -->\n"
    readme.write_text(empty.replace(mark, f"{mark}Written here.\n"))
    write_card(dataset, tmp_path)
    assert "Written here." in section(readme.read_text(), "Uses")
    (tmp_path / "prose.md").write_text("## Uses\nFrom the file.\n")
    write_card(dataset, tmp_path, prose=tmp_path / "prose.md")
    assert "From the file." in readme.read_text() and "Written here." not in readme.read_text()


def test_the_prose_of_another_card_can_be_taken_over(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "prose.md").write_text("## Maintenance\nAsk nobody.\n")
    first, _ = write_card(dataset, tmp_path / "a", prose=tmp_path / "prose.md")
    second, _ = write_card(dataset, tmp_path / "b", prose=first)
    assert second.read_text() == first.read_text()


@pytest.mark.parametrize(
    ("prose", "said"),
    [
        ("## Motivations\nx\n", "did you mean 'Motivation'"),
        ("Loose words\n## Uses\nx\n", "line 1"),
        ("<!-- prose: Uses -->\nx\n<!-- end of prose -->\n<!-- prose: Uses -->\n", "not closed"),
    ],
)
def test_prose_that_fits_nowhere_is_refused(
    dataset: Dataset, tmp_path: Path, prose: str, said: str
) -> None:
    (tmp_path / "prose.md").write_text(prose)
    with pytest.raises(RecipeError) as error:
        write_card(dataset, tmp_path / "out", prose=tmp_path / "prose.md")
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_prose_file_that_is_not_there_is_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        write_card(dataset, tmp_path / "out", prose=tmp_path / "none.md")


def test_somebody_s_own_readme_is_not_replaced(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(OutputError, match="is not replaced"):
        write_card(dataset, tmp_path)
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


# --- how to rebuild ----------------------------------------------------------------------------------


def of_command(command: str) -> tuple[Recipe, str]:
    """Returns the recipe that a card's command builds, and what it says after `--from`."""
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:2] == ["fedprep", "build"]
    settings = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    given = [value for flag, value in itertools.pairwise(words) if flag == "--from"]
    return load_recipe(words[2], settings), "".join(given)


def source_of(recipe: Recipe, **entries: Any) -> dict[str, Any]:
    name = recipe.source.name
    return {"name": name, "synthetic": name == "synthetic", "files": [], **entries}


SETTINGS: tuple[list[str], ...] = (
    [],
    ["seed=3", "partition.method=iid", "partition.n_clients=7"],
    ["description=it's mine", "clean.from_date='2003-01-01'", "embed.text.template={title}"],
    ["embed.image.images=my pictures.zip", "partition.alpha=0.001", "validate.limits.min_rows=3"],
)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", recipe_names())
def test_the_command_leads_to_the_same_recipe(name: str, settings: list[str]) -> None:
    recipe = load_recipe(name, settings)
    command, file = rebuild_command({"recipe": recipe.to_dict(), "source": source_of(recipe)})
    assert file == ""
    found, given = of_command(command)
    for table in ("name", "seed", "description", "source", "clean", "split", "embed", "partition"):
        assert getattr(found, table) == getattr(recipe, table)
    assert given == ""


def test_a_recipe_of_one_s_own_is_printed_whole(tmp_path: Path) -> None:
    items = {"file": "x.csv", "columns": {"item": 0, "my plot": 'the "plot"'}, "missing": ["N/A"]}
    tree = {
        "name": "my-data",
        "source": {
            "name": "table", "file": 'a "b" ü.csv', "columns": {"user": "u", "item": 0}, "items": items,
        },
        "clean": {"min_rating": 1e-05, "label": "classes"},
        "train": {"rounds": 3},
    }  # fmt: skip
    recipe = parse_recipe(tree)
    command, text = rebuild_command({"recipe": recipe.to_dict(), "source": source_of(recipe)})
    assert command == "fedprep build my-data.toml"
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    found = load_recipe(str(tmp_path / "own.toml"))
    assert (found.source, found.clean, found.name) == (recipe.source, recipe.clean, recipe.name)


def test_the_command_says_where_raw_files_came_from() -> None:
    recipe = load_recipe("amazon")
    by_hand = {"role": "reviews", "how": "by hand"}
    named = {"role": "pictures", "how": "by hand"}
    for entries, given in (
        ({"synthetic": True}, "synthetic"),
        ({"files": [by_hand]}, "PATH"),
        ({"files": [named]}, ""),
    ):
        source = source_of(recipe, **entries)
        command, _ = rebuild_command({"recipe": recipe.to_dict(), "source": source})
        assert of_command(command)[1] == given


# --- the committed cards -----------------------------------------------------------------------------

COMMITTED = ("amazon-2018", "demo", "movielens-1m", "yelp")


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_card_is_small_and_says_how_to_rebuild(name: str) -> None:
    files = {path.name: path for path in (CARDS / name).iterdir()}
    assert set(files) == {"README.md", "croissant.json"}
    assert all(path.stat().st_size < 100_000 for path in files.values())
    recipe, _ = of_command(rebuild_block(name))
    croissant = json.loads(files["croissant.json"].read_text(encoding="utf-8"))
    assert croissant["name"] == recipe.name
    assert croissant["identifier"].removeprefix("sha256:") in files["README.md"].read_text(
        encoding="utf-8"
    )


def test_every_committed_card_is_tested() -> None:
    assert sorted(path.name for path in CARDS.iterdir() if path.is_dir()) == sorted(COMMITTED)


def rebuild_block(name: str) -> str:
    text = (CARDS / name / "README.md").read_text(encoding="utf-8")
    return text.partition("```sh\n")[2].partition("\n```")[0]


@pytest.mark.slow
def test_the_demo_s_committed_card_is_what_its_command_gives(tmp_path: Path) -> None:
    assert_regenerated("demo", tmp_path, None)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", [name for name in COMMITTED if name != "demo"])
def test_a_committed_card_is_what_its_command_gives(
    name: str, tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPREP_MIRROR", str(mirror))
    assert_regenerated(name, tmp_path, mirror)


def assert_regenerated(name: str, folder: Path, mirror: Path | None) -> None:
    recipe, given = of_command(rebuild_block(name))
    hands = Hands(given=mirror if given else None)
    dataset = build_dataset(recipe, folder / "data", hands=hands)
    shutil.copytree(CARDS / name, folder / "card")
    files = [folder / "card" / file for file in ("README.md", "croissant.json")]
    committed = [path.read_text(encoding="utf-8") for path in files]
    terms = SOURCES[recipe.source.name].terms(recipe.source)
    write_card(dataset, folder / "card", licence_text=terms.licence_text)
    readme, croissant = (path.read_text(encoding="utf-8") for path in files)
    assert without_measured_floats(readme, json.loads(croissant)) == without_measured_floats(
        committed[0], json.loads(committed[1])
    )
    assert_no_row(readme + croissant, dataset)
