"""What is damaged, by which command it is then read, and what came of it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

import fedeval.cli
import fedprep.cli
import fedtrain.cli
from fedprep.dataset import Dataset
from fedprep.errors import DatasetError
from tests.hostile import damage

__all__ = ["Outcome", "World", "attack"]

MAINS: dict[str, Callable[[Sequence[str]], None]] = {
    "fedprep": fedprep.cli.main,
    "fedtrain": fedtrain.cli.main,
    "fedeval": fedeval.cli.main,
}
WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "islet",
    "jetty",
    "knoll",
    "larch",
    "maple",
    "north",
    "otter",
    "pearl",
]
RECIPE = """name = "mine"
[source]
name = "table"
file = "rows.csv"
[source.columns]
user = "user"
item = "item"
rating = "rating"
timestamp = "timestamp"
[source.items]
file = "things.csv"
[source.items.columns]
item = "item"
title = "title"
categories = "categories"
[embed.text]
encoder = "hashing"
dim = 16
[embed.behavior]
dim = 4
[partition]
method = "iid"
n_clients = 6
"""
PLAN = (
    "--rounds",
    "2",
    "--model",
    "mf",
    "--task",
    "implicit",
    "--algorithm",
    "fedavg",
    "--set",
    "threads=1",
)


OTHER_PLAN = ("--rounds", "1", "--model", "two_tower", "--set", "threads=1")
EXPORTS = ("csv", "recbole", "hf", "client-files")


@dataclass(frozen=True)
class World:
    """A folder with everything that is whole: raw files, a Dataset, a Run on it, tables."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> World:
        """Returns the world, written into an empty folder."""
        rng = random.Random(7)
        raw = folder / "raw"
        raw.mkdir(parents=True)
        rows = ["user,item,rating,timestamp"]
        for user in range(40):
            for turn, item in enumerate(rng.sample(range(60), 12)):
                rows.append(
                    f"u{user},i{item},{rng.randint(1, 5)},{1_500_000_000 + 86_400 * (turn * 7 + user)}"
                )
        (raw / "rows.csv").write_text("\n".join(rows) + "\n")
        things = ["item,title,categories"]
        things += [
            f"i{k},{rng.choice(WORDS)} {rng.choice(WORDS)} {k},{WORDS[k % 5]}|{WORDS[5 + k % 3]}"
            for k in range(60)
        ]
        (raw / "things.csv").write_text("\n".join(things) + "\n")
        (raw / "mine.toml").write_text(RECIPE)
        good, run = folder / "good", folder / "run"
        for line in (
            ("fedprep", "build", str(raw / "mine.toml"), "--from", str(raw), "--out", str(good)),
            ("fedtrain", "run", str(good), "--out", str(run), *PLAN),
        ):
            outcome = called(line)
            assert outcome.code == 0, outcome
        recs = pl.read_parquet(run / "recommendations.parquet", glob=False)
        tables = folder / "tables"
        tables.mkdir()
        recs.write_csv(tables / "recs.csv")
        recs.write_parquet(tables / "recs.parquet")
        interactions = pl.scan_parquet(
            sorted((good / "clients").glob("part-*.parquet")), glob=False
        )
        test = (
            interactions.filter(pl.col("split") == "test")
            .select("user_id", "item_id", "rating")
            .collect()
        )
        test.write_csv(tables / "truth.csv")
        test.write_parquet(tables / "truth.parquet")
        lines = [f"{u} 0 {i} 1" for u, i, _ in test.iter_rows()]
        (tables / "truth.qrels").write_text("\n".join(lines) + "\n")
        lines = [f"{u} Q0 {i} {r} {s} me" for u, i, r, s in recs.iter_rows()]
        (tables / "recs.trec").write_text("\n".join(lines) + "\n")
        negative = [
            f"({u},{i})\t" + "\t".join(str(k) for k in range(60) if k % 7 == u % 7 and k != i)
            for u, i, _ in test.iter_rows()
        ]
        (tables / "test.negative").write_text("\n".join(negative) + "\n")
        drawn = test.select("user_id", "item_id", relevant=pl.lit(True))
        others = test.select(
            "user_id", item_id=(pl.col("item_id") + 1) % 60, relevant=pl.lit(False)
        ).cast(drawn.schema)
        pl.concat([drawn, others]).write_parquet(tables / "candidates.parquet")
        return cls(folder)


@dataclass(frozen=True)
class Outcome:
    """A command line, its exit code (-1: something escaped), what it said, and what is wrong with that."""

    line: tuple[str, ...]
    code: int
    said: str
    wrong: str = ""


def called(line: Sequence[str]) -> Outcome:
    """Returns what a command does in this process."""
    out, err = io.StringIO(), io.StringIO()
    code, escaped = -1, ""
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            MAINS[line[0]](list(line[1:]))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            escaped = traceback.format_exc()
    said = out.getvalue() + err.getvalue() + escaped
    for place in re.findall(r"the details are in (.+)", said):  # of a fault of the program
        said += Path(place).read_text("utf-8")
        Path(place).unlink()
    wrong = ""
    if "Traceback (most recent" in said or code not in (0, 1, 2):
        wrong = f"exit {code}: {said.strip().splitlines()[-1][:200] if said.strip() else ''}"
    elif code == 2 and "error" not in said.lower():
        wrong = "exit 2 without an error's message"
    return Outcome(tuple(line), code, said, wrong)


# --- what is damaged, and who reads it -------------------------------------------------------------------


def _of_dataset(bad: str, good: str, run: str) -> list[list[str]]:
    plan = list(PLAN)
    return [
        ["fedprep", "inspect", bad],
        ["fedprep", "inspect", bad, "--client", "1", "--verify"],
        ["fedprep", "validate", bad],
        ["fedprep", "validate", bad, "--html", "page.html", "--junit", "j.xml"],
        *(["fedprep", "export", bad, "--to", form, "--out", "ex"] for form in EXPORTS),
        ["fedprep", "export", bad, "--to", "csv", "--out", "ex", "--no-verify"],
        ["fedprep", "partition", bad, "--out", "rp", "--set", "partition.method=dirichlet", "--clients", "4"],
        ["fedprep", "card", bad, "--out", "cd"],
        ["fedprep", "card", bad, "--out", "cd", "--no-verify"],
        ["fedprep", "diff", bad, good],
        ["fedprep", "diff", good, bad],
        ["fedprep", "sql", bad, "select count(*), sum(rating) from interactions"],
        ["fedprep", "sql", bad, "select * from items join users on item_id = user_id", "--csv"],
        ["fedprep", "demo-faults", bad, "--fault", "nan_ratings"],
        ["fedtrain", "run", bad, "--out", "rr", *plan],
        ["fedtrain", "run", bad, "--out", "rr", "--allow-invalid", *plan],
        ["fedtrain", "run", bad, "--out", "rr", "--allow-invalid", *OTHER_PLAN],
        ["fedtrain", "sweep", bad, "--out", "sw", "--set", "lr=0.1,0.2", *plan[2:2], "--set", "rounds=1"],
        ["fedtrain", "predict", run, "--client", "3", "--data", bad],
        ["fedtrain", "rank", run, "--data", bad, "--out", "ranked.parquet"],
        ["fedeval", "report", run, "--data", bad, "--out", "rep", "--baselines", "popularity"],
        ["fedeval", "score", run, "--data", bad],
        ["fedeval", "baselines", bad, "--only", "popularity", "--out", "rep"],
        ["fedeval", "compare", run, run, "--data", bad],
    ]  # fmt: skip


def _of_run(bad: str, good: str, run: str) -> list[list[str]]:
    plan = list(PLAN[2:])
    return [
        ["fedtrain", "run", good, "--out", bad, "--resume", "--rounds", "2", *plan],
        ["fedtrain", "run", good, "--out", bad, "--resume", "--rounds", "3", *plan],
        ["fedtrain", "run", good, "--out", bad, "--rounds", "2", *plan],
        ["fedtrain", "predict", bad, "--client", "3"],
        ["fedtrain", "rank", bad, "--out", "ranked.parquet"],
        ["fedtrain", "compare", bad, run],
        ["fedtrain", "compare", bad, run, "--target", "ndcg@10=0.1", "--out", "curves.png"],
        ["fedeval", "report", bad, "--data", good, "--out", "rep", "--baselines", "none"],
        ["fedeval", "score", bad, "--data", good],
        ["fedeval", "compare", bad, run, "--data", good],
    ]


def _of_recommendations(bad: str, good: str, run: str) -> list[list[str]]:
    return [
        ["fedeval", "report", bad, "--data", good, "--out", "rep", "--baselines", "none"],
        ["fedeval", "score", bad, "--data", good],
        ["fedeval", "compare", bad, run, "--data", good],
        ["fedeval", "compare", run, bad, "--data", good],
        ["fedprep", "validate", good, "--recs", bad],
    ]


def _of_truth(bad: str, good: str, run: str) -> list[list[str]]:
    recs = str(Path(good).parent / "tables" / "recs.csv")
    return [
        ["fedeval", "score", recs, "--truth", bad],
        ["fedeval", "report", recs, "--truth", bad, "--out", "rep"],
        ["fedeval", "score", recs, "--truth", bad, "--data", good],
        ["fedprep", "validate", bad],
    ]


def _of_candidates(bad: str, good: str, run: str) -> list[list[str]]:
    data = ["--data", good, "--candidates", bad]
    return [
        ["fedeval", "score", run, *data],
        ["fedeval", "report", run, *data, "--out", "rep", "--baselines", "none"],
        ["fedeval", "baselines", good, "--only", "popularity", "--candidates", bad],
        ["fedtrain", "rank", run, "--candidates", bad, "--out", "ranked.parquet"],
    ]  # fmt: skip


def _of_raw(bad: str, good: str, run: str) -> list[list[str]]:
    return [["fedprep", "build", f"{bad}/mine.toml", "--from", bad, "--out", "made"]]


@dataclass(frozen=True)
class Target:
    """What is copied, how the copy is damaged, and the commands that read it."""

    source: str
    damaged: Callable[[Path, random.Random], str]
    commands: Callable[[str, str, str], list[list[str]]]


def _dataset(bad: Path, rng: random.Random) -> str:
    files = sorted(
        path for path in bad.rglob("*") if path.is_file() and path.suffix in (".json", ".parquet")
    )
    tables = [path for path in files if path.suffix == ".parquet"]
    # A random shard is one of many: the others are drawn as often as all shards together.
    tables = [
        path
        for path in tables
        if path.parent.name != "clients" or "index" in path.name or rng.random() < 0.3
    ] or tables
    what = rng.randrange(10)
    if what < 2:
        return damage.damage_bytes(
            rng.choice([*tables, bad / "manifest.json", bad / "report.json"]), rng
        )
    if what < 5:
        return damage.damage_json(bad / "manifest.json", rng, with_id=rng.random() < 0.6)
    if what == 5:
        return damage.damage_json(bad / "report.json", rng)
    return damage.damage_table(
        rng.choice(tables), rng, consistent=bad if rng.random() < 0.7 else None
    )


def _run(bad: Path, rng: random.Random) -> str:
    what = rng.randrange(8)
    if what == 0:
        files = [
            path for path in sorted(bad.rglob("*")) if path.is_file() and path.suffix != ".png"
        ]
        return damage.damage_bytes(rng.choice(files), rng)
    if what < 4:
        return damage.damage_json(bad / "manifest.json", rng)
    if what == 4:
        return damage.damage_lines(bad / rng.choice(("rounds.jsonl", "timings.jsonl")), rng)
    if what == 5:
        return damage.damage_table(bad / "recommendations.parquet", rng)
    return _checkpoint(bad, rng)


def _checkpoint(bad: Path, rng: random.Random) -> str:
    """Writes a checkpoint whose digest is right, and whose tensors or header are not."""
    import torch

    from fedtrain.run import read_tensors, write_tensors

    path = bad / "checkpoint" / "last.safetensors"
    tensors, header = read_tensors(path)
    name = rng.choice(sorted(tensors))
    what = rng.choice(
        ("gone", "shape", "dtype", "more", "not finite", "header", "no header", "flat")
    )
    if what == "gone":
        del tensors[name]
    elif what == "shape":
        tensors[name] = tensors[name][: len(tensors[name]) // 2].clone()
    elif what == "flat":
        tensors[name] = tensors[name].reshape(-1)
    elif what == "dtype":
        tensors[name] = tensors[name].to(rng.choice((torch.float64, torch.int8, torch.float16)))
    elif what == "more":
        tensors[rng.choice(("value/x", "extra/first/item", "client/rows/a:client", "x"))] = (
            torch.ones(3)
        )
    elif what == "not finite":
        tensors[name] = torch.full_like(tensors[name], float("nan"))
    elif what == "header":
        key = rng.choice(sorted(header))
        header[key] = rng.choice(damage.VALUES[:-3])
        name = f"{key} = {header[key]!r:.30}"
    write_tensors(path, tensors, None if what == "no header" else header)
    return f"checkpoint: {name} {what}"


def _table(bad: Path, rng: random.Random) -> str:
    if bad.suffix == ".parquet" and rng.random() < 0.7:
        return damage.damage_table(bad, rng)
    if bad.suffix == ".csv" and rng.random() < 0.7:
        frame, what = damage.changed(pl.read_csv(bad, glob=False), rng)
        frame.select(pl.exclude(pl.Binary, pl.Null)).write_csv(bad)
        return f"{bad.name}: {what}"
    return damage.damage_bytes(bad, rng)


def _recipe(bad: Path, rng: random.Random) -> str:
    return damage.damage_bytes(bad / "mine.toml", rng) if rng.random() < 0.2 else ""


def _raw(bad: Path, rng: random.Random) -> str:
    what = rng.randrange(6)
    name = rng.choice(("rows.csv", "things.csv"))
    path = bad / name
    if what < 3:
        return damage.damage_bytes(path, rng)
    text = path.read_text()
    if what == 3:  # fields that are quoted, huge, or hold what a field should not
        lines = text.splitlines()
        field = rng.choice(
            (
                '"',
                '"a',
                'a"b',
                "x" * 300_000,
                "\x00",
                "\u202e",
                "=cmd()",
                "1e400",
                "nan",
                " ",
                "-0",
                "9" * 40,
            )
        )
        for _ in range(rng.choice((1, 30))):
            at = rng.randrange(1, len(lines))
            fields = lines[at].split(",")
            fields[rng.randrange(len(fields))] = field
            lines[at] = ",".join(fields)
        path.write_text("\n".join(lines) + "\n")
        return f"{name}: fields {field[:20]!r}"
    if what == 4:
        content = {other: (bad / other).read_bytes() for other in ("rows.csv", "things.csv")}
        said = damage.hostile_zip(bad / "raw.zip", rng, content)
        recipe = (bad / "mine.toml").read_text().replace('file = "rows.csv"', 'file = "raw.zip"')
        (bad / "mine.toml").write_text(recipe)
        return said
    replacement = rng.choice(
        ("\n", "user,item\n", "{}\n[]\n", "null", '{"user": "a", "item": NaN}\n', "<html>")
    )
    path.write_text(replacement)
    return f"{name}: {replacement!r}"


TABLES = ("recs.csv", "recs.parquet", "recs.trec")
TARGETS: tuple[Target, ...] = (
    Target("good", _dataset, _of_dataset),
    Target("good", _dataset, _of_dataset),
    Target("good", _dataset, _of_dataset),
    Target("run", _run, _of_run),
    Target("run", _run, _of_run),
    *(Target(f"tables/{name}", _table, _of_recommendations) for name in TABLES),
    *(Target(f"tables/truth.{end}", _table, _of_truth) for end in ("csv", "parquet", "qrels")),
    *(
        Target(f"tables/{name}", _table, _of_candidates)
        for name in ("candidates.parquet", "test.negative")
    ),
    Target("raw", _recipe, _of_raw),
    Target("raw", _raw, _of_raw),
    Target("raw", _raw, _of_raw),
)


def attack(world: World, place: Path, seed: int) -> tuple[Outcome, str]:
    """Returns what a command did with something damaged, and how it was damaged.

    `place` is an empty folder; the damaged copy is in `place/in`, and the command works in `place/work`.
    """
    rng = random.Random(seed)
    target = rng.choice(TARGETS)
    source, bad = world.folder / target.source, place / "in" / Path(target.source).name
    bad.parent.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, bad)
    else:
        shutil.copy(source, bad)
    how = target.damaged(bad, rng)
    line = rng.choice(
        target.commands(str(bad), str(world.folder / "good"), str(world.folder / "run"))
    )
    if target.damaged is _recipe and not how:
        settings = damage.hostile_toml(bad, rng)
        how = settings
        line += [
            word
            for setting in settings.split("; ")
            for word in ("--set", setting.replace(" = ", "=", 1))
        ]
    work = place / "work"
    work.mkdir()
    before, outside = contents(bad.parent), contents(world.folder)
    here = Path.cwd()
    os.chdir(work)
    try:
        outcome = called(line)
    finally:
        os.chdir(here)
    wrong = outcome.wrong or left_behind(place)
    if not wrong and contents(world.folder) != outside:
        wrong = "it changed what it was only to read"
    if not wrong and target.damaged is _dataset and outcome.code == 0 and believed(bad, line):
        wrong = "exit 0 on files that are not those of the manifest"
    if not wrong and outcome.code == 2 and contents(bad.parent) != before:
        wrong = "it refused, and changed the damaged input"
    return Outcome(outcome.line, outcome.code, outcome.said, wrong), how


def believed(bad: Path, line: Sequence[str]) -> bool:
    """Says whether a command that ended well has read a Dataset that it should have refused."""
    if "--allow-invalid" in line or "--no-verify" in line:
        return False
    if line[1] in ("inspect", "sql") and "--verify" not in line:
        return False
    try:
        Dataset.open(bad, verify=True)
    except DatasetError:
        return True
    return False


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file in a folder by its path; locks are no content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not path.name.endswith(".lock")
    }


def left_behind(place: Path) -> str:
    """Returns what a command should have cleared away, or wrote where it had no business."""
    strange = [path.name for path in place.iterdir() if path.name not in ("in", "work")]
    ends = (".tmp", ".building", ".old")
    left = [path.name for path in place.rglob("*") if path.name.endswith(ends)]
    return f"left behind: {', '.join([*strange, *left])}" if strange or left else ""


if __name__ == "__main__":  # python -m tests.hostile.world FROM TO: many, outside of pytest
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        os.environ["FEDPREP_CACHE"] = f"{temporary}/cache"
        made = World.made(Path(temporary) / "world")
        first, last = int(sys.argv[1]), int(sys.argv[2])
        codes: dict[int, int] = {}
        for number in range(first, last):
            folder = Path(temporary) / f"case-{number}"
            found, told = attack(made, folder, number)
            codes[found.code] = codes.get(found.code, 0) + 1
            if found.wrong:
                short = " ".join(found.line).replace(temporary, "")
                sys.stdout.write(f"{number}: {found.wrong}\n   {told}\n   {short}\n")
                if "-v" in sys.argv:
                    sys.stdout.write(found.said + "\n")
            shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.write(f"{last - first} inputs; exit codes {codes}\n")
