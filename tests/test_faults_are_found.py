"""Every planted fault is found by the check that is named, exactly as often as planted, and by no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedprep.checks import CHECKS, Tables, Validation, validate
from fedprep.dataset import Dataset
from fedprep.errors import DatasetError
from fedprep.faults import FAULTS, plant
from tests.built import write_built

CANNOT_BE_OPENED = {"corrupt_shard", "missing_file", "newer_format"}
OF_SCHEMA = {"wrong_dtype", "missing_column"}
SEED = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_built(tmp_path_factory.mktemp("faults") / "whole")


@pytest.fixture(scope="module")
def before(whole: Path) -> Validation:
    return validate(Dataset.unchecked(whole))


def test_the_dataset_without_a_fault_fails_no_check_and_each_is_asked(before: Validation) -> None:
    assert before.verdict == "pass"
    noted = {result.name for result in before.results if result.status == "note"}
    assert noted == {"train_precedes_test_globally"}, "leave_last_out leaks, and is said to"
    skipped = {result.name for result in before.results if result.status == "skipped"}
    assert skipped == {
        "standardisation_comes_from_train",
        "files_are_known",
        "clients_hold_the_classes_asked_for",
    }


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - CANNOT_BE_OPENED))
def test_a_fault_is_found_by_its_check_alone(
    whole: Path, before: Validation, tmp_path: Path, fault: str
) -> None:
    planted = plant(whole, tmp_path / "damaged", fault, seed=SEED)
    after = validate(Dataset.unchecked(tmp_path / "damaged"))
    found = after[planted["check"]]
    assert found.status in ("fail", "warn")
    assert (found.count, found.unit) == (planted["count"], planted["unit"])
    assert len(found.examples) == min(3, found.count)
    assert set(planted["also"]) <= set(CHECKS)
    changed = {r.name for r in after.results if r.status != before[r.name].status}
    if fault in OF_SCHEMA:
        others = [after[name] for name in changed - {planted["check"]}]
        assert {result.status for result in others} == {"skipped"}
        assert all("interactions" in result.reason for result in others)
    elif fault == "flipped_bit":  # where it falls is chance: whatever reads the shard may stumble
        reading = {name for name in changed if after[name].status == "error"}
        assert changed - reading == {planted["check"]}
    else:
        assert changed - {planted["check"], *planted["also"]} == set()


@pytest.mark.parametrize("fault", sorted(CANNOT_BE_OPENED))
def test_what_cannot_be_opened_is_refused_in_words(whole: Path, tmp_path: Path, fault: str) -> None:
    planted = plant(whole, tmp_path / "damaged", fault)
    assert planted["check"] not in CHECKS
    with pytest.raises(DatasetError) as refused:
        Tables.of_folder(tmp_path / "damaged")
    named = Path(planted["first"][0]).name
    assert named in str(refused.value)
