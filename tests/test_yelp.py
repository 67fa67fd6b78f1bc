"""The Yelp Open Dataset, as invented rows in its official format."""

from __future__ import annotations

import json

import polars as pl
import pytest

from fedprep import recipe
from fedprep.errors import SourceError
from fedprep.sources import SOURCES
from fedprep.sources.yelp import MEMBERS, YELP, read_yelp

NAMES = {role: names[0] for role, names in MEMBERS.items()}


def business(number, **changes):
    return {
        "business_id": f"b{number}",
        "name": f"Place {number}",
        "address": "",
        "city": "Lund",
        "state": "SK",
        "postal_code": "22100",
        "latitude": 55.7,
        "longitude": 13.2,
        "stars": 4.5,
        "review_count": 12,
        "is_open": 1,
        "attributes": None,
        "categories": "Tea Rooms, Caf\u00e9s",
        "hours": None,
    } | changes


def review(number, user, place, stars=4.0, date="2014-02-28 13:05:09", **changes):
    return {
        "review_id": f"r{number}",
        "user_id": user,
        "business_id": place,
        "stars": stars,
        "useful": -1,
        "funny": 0,
        "cool": 0,
        "text": 'Fine "tea"\n\nand/or cake',
        "date": date,
    } | changes


def user(number, **changes):
    return {
        "user_id": f"u{number}",
        "name": "Somebody",
        "review_count": 7,
        "yelping_since": "2010-01-01 00:00:00",
        "elite": "20,20",
        "friends": "None",
        "fans": 3,
        "average_stars": 3.9,
    } | changes


def photo(photo_id, place, label):
    return {"photo_id": photo_id, "business_id": place, "caption": "", "label": label}


def write(folder, role, rows):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row).replace("/", "\\/") for row in rows]
    path = folder / NAMES[role]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(tmp_path, **rows):
    """Reads rows by role; a role without rows given is not there."""
    rows = {"business": [business(1)], "review": [review(1, "u1", "b1")]} | rows
    paths = {role: write(tmp_path / "raw", role, lines) for role, lines in rows.items()}
    options = recipe.Source(name="yelp", max_bad_share=1.0)
    return read_yelp(paths, options, tmp_path / "work")


def steps(raw):
    return {step.name: (step.rows_in, step.rows_out, step.examples) for step in raw.steps}


def test_reviews_become_interactions(tmp_path):
    raw = read(
        tmp_path,
        review=[review(1, "u1", "b1", 5.0), review(2, "u2", "b9", 1.0, "2005-02-03")],
    )
    rows = raw.interactions.collect()
    assert rows.rows() == [("u1", "b1", 5.0, 1_393_592_709, 1), ("u2", "b9", 1.0, 1_107_388_800, 2)]
    assert dict(rows.schema) == {
        "user": pl.String,
        "item": pl.String,
        "rating": pl.Float32,
        "timestamp": pl.Int64,
        "line": pl.UInt32,
    }


def test_reviews_that_cannot_be_used_are_counted_and_named(tmp_path):
    raw = read(
        tmp_path,
        review=[
            review(1, "u1", "b1"),
            '{"review_id": "r2", "user_id": "u1", "busin',
            "",
            review(3, "", "b1"),
            review(4, "u1", None),
            review(5, "u1", "b1", None),
            review(6, "u1", "b1", 0.0),
            review(7, "u1", "b1", "many"),
            review(8, "u1", "b1", date="soon"),
            review(9, "u1", "b1", date="2014-02-30 00:00:00"),
            review(10, "u1", "b1", date=None),
            review(11, "u1", "b1", 3.0),
        ],
    )
    assert raw.interactions.collect()["line"].to_list() == [1, 12]
    found = steps(raw)
    assert found["bad lines in reviews"] == (11, 10, ("line 2",))
    assert found["unusable reviews"] == (10, 5, ("line 4", "line 5", "line 6"))
    assert found["unusable dates of reviews"] == (5, 2, ("line 9", "line 10", "line 11"))


def test_a_review_repeated_by_its_user_is_left_to_the_cleaning(tmp_path):
    raw = read(tmp_path, review=[review(1, "u1", "b1"), review(2, "u1", "b1")])
    assert raw.interactions.collect().height == 2


def test_businesses_become_items_without_what_knows_the_future(tmp_path):
    items = read(tmp_path).items.collect()
    assert items.columns == [
        "item",
        "title",
        "categories",
        "image",
        "city",
        "state",
        "postal_code",
        "latitude",
        "longitude",
        "is_open",
        "attributes",
    ]
    row = items.row(0, named=True)
    assert row["categories"] == ["Tea Rooms", "Cafés"]
    assert (row["title"], row["city"], row["state"], row["is_open"]) == (
        "Place 1",
        "Lund",
        "SK",
        True,
    )
    assert (row["image"], row["attributes"]) == (None, None)
    assert items.schema["latitude"] == pl.Float32


@pytest.mark.parametrize("categories", [None, "", " , "])
def test_a_business_without_categories_has_null(tmp_path, categories):
    assert read(tmp_path, business=[business(1, categories=categories)]).items.collect()[
        "categories"
    ].to_list() == [None]


def test_empty_texts_of_a_business_are_null(tmp_path):
    items = read(
        tmp_path, business=[business(1, name=" ", postal_code="", city=" Lund ")]
    ).items.collect()
    assert items.select("title", "postal_code", "city").row(0) == (None, None, "Lund")


def test_businesses_that_come_twice_or_have_no_id_are_counted(tmp_path):
    raw = read(
        tmp_path, business=[business(1), business(1, name="Again"), business(2, business_id="")]
    )
    assert raw.items.collect()["title"].to_list() == ["Place 1"]
    assert steps(raw)["repeated businesses"] == (3, 1, ("line 2", "line 3"))


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (None, None),
        ({}, None),
        ({"BikeParking": "False", "WiFi": "u'no'", "Alcohol": "'none'", "HasTV": "None"}, None),
        (
            {"BikeParking": "True", "RestaurantsTakeOut": "True"},
            "Bike Parking; Restaurants Take Out",
        ),
        (
            {"HasTV": "False", "WiFi": "u'free'", "Alcohol": "'full_bar'"},
            "Wi Fi: free; Alcohol: full bar",
        ),
        (
            {"BusinessParking": "{'garage': False, 'street': True, 'lot': True, 'valet': None}"},
            "Business Parking: street, lot",
        ),
        ({"Ambience": "{u'divey': False, u'classy': None}", "HasTV": "True"}, "Has TV"),
        ({"RestaurantsPriceRange2": "2"}, "Restaurants Price Range2: 2"),
    ],
)
def test_attributes_that_hold_become_one_text(tmp_path, attributes, text):
    raw = read(tmp_path, business=[business(1, attributes=attributes)])
    assert raw.items.collect()["attributes"].to_list() == [text]


def test_the_picture_of_a_business_is_its_first_by_label_and_id(tmp_path):
    photos = [
        photo("p5", "b1", "menu"),
        photo("p4", "b1", "inside"),
        photo("p3", "b1", "food"),
        photo("p2", "b1", "food"),
        photo("p1", "b9", "food"),
        photo("p0", "b2", "a new label"),
        photo(None, "b3", "food"),
    ]
    places = [business(1), business(2), business(3)]
    raw = read(tmp_path, business=places, photos=photos)
    assert raw.items.collect()["image"].to_list() == ["photos/p2.jpg", "photos/p0.jpg", None]
    assert steps(raw)["photos of unknown businesses"][:2] == (7, 6)
    backwards = read(tmp_path / "again", business=places, photos=photos[::-1])
    assert backwards.items.collect().equals(raw.items.collect())
    assert raw.facts["businesses_with_photo"] == 2


def test_users_come_without_name_and_without_what_knows_the_future(tmp_path):
    raw = read(tmp_path, user=[user(1), user(1), user(2, yelping_since="2010-01-01", fans=None)])
    users = raw.users.collect()
    assert users.rows() == [("u1", 1_262_304_000, 3), ("u2", 1_262_304_000, None)]
    assert users.columns == ["user", "yelping_since", "fans"]
    assert steps(raw)["repeated users"] == (3, 2, ("line 2",))


def test_without_their_file_there_are_no_users(tmp_path):
    users = read(tmp_path).users.collect()
    assert (users.height, users.schema) == (0, {"user": pl.String})


def test_a_role_may_be_a_folder_that_holds_its_file(tmp_path):
    folder = tmp_path / "given"
    write(folder / "Yelp JSON", "business", [business(1)])
    write(folder / "Yelp JSON", "review", [review(1, "u1", "b1")])
    raw = read_yelp(
        dict.fromkeys(("business", "review"), folder), recipe.Source(name="yelp"), tmp_path
    )
    assert raw.interactions.collect().height == 1
    with pytest.raises(SourceError, match="there is no yelp_academic_dataset_user"):
        read_yelp(
            dict.fromkeys(("business", "review", "user"), folder),
            recipe.Source(name="yelp"),
            tmp_path,
        )


def test_a_file_of_reviews_without_a_good_one_is_refused(tmp_path):
    with pytest.raises(SourceError, match="none of the 1 rows"):
        read(tmp_path, review=[review(1, "u1", "b1", 9.0)])


def test_only_businesses_and_reviews_are_required_and_a_form_has_to_be_signed():
    files = YELP.files(recipe.Source(name="yelp"))
    assert [raw.role for raw in files if not raw.optional] == ["business", "review"]
    assert all(raw.form.startswith("https://") for raw in files)
    assert not any(candidate.urls for raw in files for candidate in raw.candidates)
    names = {raw.role: [candidate.name for candidate in raw.candidates] for raw in files}
    assert names["review"][0] == "Yelp-JSON.zip"
    assert names["review"][-1] == NAMES["review"]
    assert "Yelp-Photos.zip" in names["pictures"] and "Yelp-Photos.zip" not in names["review"]


def test_yelp_does_not_allow_to_pass_its_data_on():
    terms = SOURCES["yelp"].terms(recipe.Source(name="yelp"))
    assert terms.licence and not terms.redistribution


@pytest.mark.realdata
def test_the_real_subset_has_its_known_counts(mirror, tmp_path):
    folder = next((p.parent for p in mirror.rglob(NAMES["business"])), None)
    if folder is None or (folder / NAMES["business"]).stat().st_size != 3_975_218:
        pytest.skip("needs the subset of 5,000 businesses in the folder that FEDPREP_MIRROR names")
    raw = read_yelp(
        dict.fromkeys(("business", "review"), folder), recipe.Source(name="yelp"), tmp_path
    )
    rows, items = raw.interactions.collect(), raw.items.collect()
    assert (rows.height, rows["user"].n_unique(), rows["item"].n_unique()) == (5000, 4843, 2663)
    assert rows.select("user", "item").is_duplicated().sum() == 2
    assert (items.height, items["categories"].null_count()) == (5000, 5)
    joined = rows.join(items, on="item")
    assert (joined.height, joined["item"].n_unique()) == (1724, 914)
    assert not items["attributes"].str.contains(r"""[{}'"]|\b(?:False|None)\b""").any()
    assert all(step.dropped == 0 for step in raw.steps)


def test_tags_and_entities_are_taken_out_of_names_unless_they_are_to_stay(tmp_path):
    named = business(1, name="Caf&eacute; <b>Bar</b>", categories="Food &amp; Tea, Rum")
    raw = read(tmp_path, business=[named])
    assert raw.items.collect().select("title", "categories").row(0) == (
        "Café Bar",
        ["Food & Tea", "Rum"],
    )
    paths = {role: tmp_path / "raw" / NAMES[role] for role in ("business", "review")}
    kept = read_yelp(paths, recipe.Source(name="yelp", markup="keep"), tmp_path / "again")
    assert kept.items.collect()["title"].to_list() == ["Caf&eacute; <b>Bar</b>"]
