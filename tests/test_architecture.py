"""The house holds its shape: who may import whom, no cycles, no heavy start, no mess in the tree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fedprep", "fedeval", "fedtrain")
GROUND_FLOOR = (
    "errors", "network", "schema", "frames", "files", "terminal", "decoding", "manifest", "integrity",
    "dataset", "keys", "recipe", "behavior",
)  # fmt: skip
HALLS = (
    "",
    "build",
    "cli",
    "catalogue",
    "gate",
)  # bring the rooms together; "" is the package's front door
TOP_LEVEL = {
    ".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "benchmarks",
    "constraints.txt", "data_cards", "docs", "fedeval", "fedprep", "fedtrain", "pyproject.toml", "recipes",
    "tests",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path, *, at_top: bool = False) -> set[str]:
    """The project's modules that a file imports; `at_top`: those that its import loads at once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in walk(tree, at_top=at_top):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            dotted = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in dotted}
    return names


def walk(tree: ast.AST, *, at_top: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if at_top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if at_top and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from walk(node, at_top=at_top)


def own(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] in PACKAGES}


def room(module: str) -> str:
    """`fedprep.embed.text` → `embed`; the package itself → ``."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_place_allows(module: str) -> None:
    package, here = module.partition(".")[0], room(module)
    for target in own(imports(MODULES[module])):
        other, there = target.partition(".")[0], room(target)
        where = f"{module} imports {target}"
        if here in HALLS or target == package or (here == there and other == package):
            allowed = other in (package, "fedprep")
        elif package == "fedprep":
            allowed = other == "fedprep" and there in GROUND_FLOOR
        elif package == "fedeval":
            allowed = other == "fedeval" or (other == "fedprep" and there in GROUND_FLOOR)
        else:
            allowed = other in ("fedtrain", "fedeval") or there in GROUND_FLOOR
        assert allowed, where
        assert there != "cli" or here == "cli", f"{where}: nothing imports a command line"


def test_the_ground_floor_is_a_staircase() -> None:
    for step, name in enumerate(GROUND_FLOOR):
        above = set(GROUND_FLOOR[step + 1 :])
        used = {room(target) for target in own(imports(MODULES[f"fedprep.{name}"]))}
        assert not used & above, f"fedprep.{name} imports {sorted(used & above)} from above it"


def test_no_module_stands_in_an_import_cycle() -> None:
    graph = {name: own(imports(path)) & set(MODULES) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) not in ("cli", "terminal")])
def test_only_the_command_line_knows_click_prints_or_exits(module: str) -> None:
    path = MODULES[module]
    assert "click" not in {name.partition(".")[0] for name in imports(path)}
    calls = [
        node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]
    names = {ast.unparse(function) for function in calls}
    assert not names & {"print", "exit", "sys.exit", "os._exit"}


OPENERS = re.compile(
    r"\bpl\.(scan|read)_(parquet|csv|ipc)|\bpq\.(ParquetFile\(|read_)|\bread_parquet\([\[{'\"]"
)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "fedprep.frames"])
def test_files_are_opened_where_a_path_is_no_pattern(module: str) -> None:
    """`fedprep.frames` takes a path for the file that is called so; polars expands `[1]`, `*`, `~`."""
    found = OPENERS.search(MODULES[module].read_text(encoding="utf-8"))
    assert found is None or module == "fedprep.query", found


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("fedtrain")])
def test_heavy_packages_are_imported_inside_functions(module: str) -> None:
    heavy = {
        "torch",
        "torchvision",
        "timm",
        "sentence_transformers",
        "transformers",
        "matplotlib",
        "duckdb",
        "ray",
    }
    top = {name.partition(".")[0] for name in imports(MODULES[module], at_top=True)}
    assert not top & heavy


@pytest.mark.parametrize("package", PACKAGES)
def test_help_loads_no_heavy_package(package: str) -> None:
    script = (
        f"import sys; from {package}.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'polars', 'pyarrow', 'numpy', 'duckdb', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_every_module_exports_exactly_what_it_lists() -> None:
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        listed = [
            node
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if not listed:
            continue
        assigned = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
        names = ast.literal_eval(listed[0].value)
        defined = {
            *(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)),
            *(alias.asname or alias.name for node in froms for alias in node.names),
            *(name.id for node in assigned for name in ast.walk(node) if isinstance(name, ast.Name)),
            *(ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)),
        }  # fmt: skip
        assert set(names) <= defined, f"{name} lists {sorted(set(names) - defined)}"
        assert len(names) == len(set(names)), f"{name} lists a name twice"


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_the_top_level_is_fixed() -> None:
    assert {name.partition("/")[0] for name in tracked()} <= TOP_LEVEL


def test_the_tree_holds_no_data_and_no_large_file() -> None:
    binary = {
        ".zip",
        ".gz",
        ".jpg",
        ".png",
        ".parquet",
        ".dat",
        ".tar",
        ".tgz",
        ".pt",
        ".pth",
        ".safetensors",
        ".ipynb",
    }
    for name in tracked():
        path = ROOT / name
        if path.is_file():
            page = path.suffix == ".png" and path.parent == ROOT / "docs" / "pictures"
            assert page or path.suffix not in binary, name  # pages of made-up data may be shown
            assert path.stat().st_size <= 100_000, f"{name} is over 100 kB"
