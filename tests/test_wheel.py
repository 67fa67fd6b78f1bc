"""A wheel installed elsewhere has all that the checkout has: recipes, facts, commands."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds, and no path to the checkout."""
    pytest.importorskip("hatchling", reason="needs the extra `dev`")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, tmp_path: Path, *arguments: str) -> str:
    script = "import sys, fedprep.cli; print(fedprep.__file__, file=sys.stderr); fedprep.cli.main()"
    env = {**os.environ, "PYTHONPATH": str(site), "FEDPREP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stderr
    return done.stdout


def test_recipes_and_facts_are_found_from_the_package(site: Path, tmp_path: Path) -> None:
    assert "movielens-1m" in run(site, tmp_path, "list", "recipes")
    assert not list(site.glob("recipes")), "recipes belong to the package, not beside it"


def test_a_demo_is_built(site: Path, tmp_path: Path) -> None:
    settings = [
        "embed.text.encoder=hashing",
        "embed.image.encoder=none",
        "source.synthetic.n_interactions=2000",
    ]
    run(
        site,
        tmp_path,
        "build",
        "demo",
        *(part for setting in settings for part in ("--set", setting)),
    )
    assert (tmp_path / "datasets" / "demo" / "manifest.json").is_file()


def test_all_three_commands_are_there(site: Path) -> None:
    (entries,) = site.glob("*.dist-info/entry_points.txt")
    text = entries.read_text()
    for name in ("fedprep", "fedtrain", "fedeval"):
        assert f"{name} = {name}.cli:main" in text
