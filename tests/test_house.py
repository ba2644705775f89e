"""The rules of the house, held by machine: docs/architecture.md says why."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lilliput"

# Each room imports only from floors below; on floors 0 and 10 only from what is named before it.
FLOORS: dict[int, tuple[str, ...]] = {
    0: (
        *(
            "errors",
            "described",
            "record",
            "planned",
            "edits",
            "records",
            "evidence",
            "environment",
            "progress",
            "splits",
            "scoring",
        ),
        *("usercode", "metrics", "budget", "batches", "outputs", "task"),
        *("evaluation", "validation"),
        *("bootstrap", "proportions", "power", "statistics", "ledger", "verdicts", "regressions"),
        *("rebuilding", "folders", "plans", "continuing"),
    ),
    1: ("sources",),
    2: ("tensor",),
    3: ("coding",),
    4: ("model",),
    5: ("runtime", "shapes"),
    6: ("techniques",),
    7: ("learning",),
    8: ("stages",),
    9: ("search",),
    10: (
        *(
            "loading",
            "reshaping",
            "lessons",
            "onnxtask",
            "forms",
            "runs",
            "restructuring",
            "trials",
            "planning",
            "recovered",
        ),
        *("fronts", "structures", "findings"),
        *("surveying", "verification", "pipeline", "quantizing"),
    ),
    11: ("cli",),
}
STAIRS = (0, 10)  # floors on which a later room may stand on an earlier one
PLANNED: set[str] = set()
VERBS = ("profile", "plan", "apply", "recover", "export", "measure", "judge", "report")

BROAD_EXCEPTS = {
    "cli/door.py": "the door: what nobody foresaw is named as our bug, status 70",
}
DEEP_TREES = {"errors.py": "the tree of errors is what users catch"}
# Public functions with a third positional parameter. The number may only go down.
THIRD_POSITIONAL = 54
VERB_PREFIXES = re.compile("(quantize|prune|factorize|share|narrow|shorten|replace|grow|learn)_")
BANNED = re.compile("compressor|config|handler|helper|manager|misc|recipe|utils|wrapper", re.I)


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def short(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def module(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("lilliput", *parts)).removesuffix(".__init__")


def room(name: str) -> str:
    """``lilliput.stages.plan`` -> ``stages``; the face itself is empty."""
    return name.removeprefix("lilliput").removeprefix(".").partition(".")[0]


@cache
def modules() -> dict[str, Path]:
    return {module(path): path for path in files()}


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports, wherever in the file; the face's promises left out."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("lilliput")}
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                pytest.fail(f"{short(path)}:{node.lineno} imports relatively")
            if base.partition(".")[0] == "lilliput":
                inner = {f"{base}.{alias.name}" for alias in node.names} & modules().keys()
                found |= inner or {base}
    return found - {"lilliput"}  # the face holds nothing but names that are looked up later


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))


def classes() -> dict[str, tuple[Path, list[str]]]:
    """Name of a class -> its file and the names of its bases."""
    return {
        node.name: (path, [ast.unparse(base).rpartition(".")[2] for base in node.bases])
        for path in files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }


def public(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a file, and the public methods of those classes."""
    inner = tree(path).body
    found = [n for n in inner if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    for node in (n for n in found if not n.name.startswith("_")):
        yield node
        if isinstance(node, ast.ClassDef):
            methods = (n for n in node.body if isinstance(n, ast.FunctionDef))
            yield from (n for n in methods if not n.name.startswith("_"))


def positional(node: ast.FunctionDef) -> list[str]:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    return [name for name in names if name not in ("self", "cls")]


def is_command(path: Path, node: ast.AST) -> bool:
    """A sub-command of the shell: its parameters are its flags."""
    if room(module(path)) != "cli" or not isinstance(node, ast.FunctionDef):
        return False
    return any("command" in ast.unparse(decorator) for decorator in node.decorator_list)


def signatures() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions and methods, sub-commands left out."""
    for path in files():
        for node in public(path):
            if isinstance(node, ast.FunctionDef) and not is_command(path, node):
                yield f"{short(path)}:{node.name}", node


def promised(node: ast.AST) -> bool:
    """An attribute of a protocol, documented with its class."""
    if not isinstance(node, ast.FunctionDef):
        return False
    return (
        "property" in map(ast.unparse, node.decorator_list) and ast.unparse(node.body[-1]) == "..."
    )


def test_every_room_has_a_floor():
    known = {name for names in FLOORS.values() for name in names} | {"", "__main__"}
    assert {room(name) for name in modules()} | PLANNED == known


def test_imports_point_one_way():
    place = {
        name: (floor, number if floor in STAIRS else 0)
        for floor, names in FLOORS.items()
        for number, name in enumerate(names)
    }
    wrong = [
        f"{short(path)} imports {target}"
        for name, path in modules().items()
        for target in imported(path)
        if room(name) in place and room(target) != room(name)
        if room(target) not in place or place[room(target)] >= place[room(name)]
    ]
    assert wrong == []


def test_rooms_of_learning_stand_on_its_loop_or_below_it():
    below, above = {"augmenting", "constraints"}, {"distilling", "tuning"}
    inner = {
        name: name.split(".")[2] if name.count(".") > 2 else "loop"
        for name in modules()
        if name.startswith("lilliput.learning.")
    }
    for one in below | above:  # a room's own face is no part of the loop
        inner[f"lilliput.learning.{one}"] = one
    allowed = dict.fromkeys(below, frozenset()) | {"loop": below}
    allowed |= dict.fromkeys(above, below | {"loop"})
    wrong = [
        f"{name} imports {target}"
        for name, place in inner.items()
        for target in imported(modules()[name])
        if inner.get(target, place) not in {place, *allowed[place]}
    ]
    assert wrong == []


def test_no_verb_imports_a_later_one():
    wrong = [
        f"{verb} imports {target}"
        for place, verb in enumerate(VERBS)
        for target in imported(SOURCE / "stages" / f"{verb}.py")
        if target.rpartition(".")[2] in VERBS[place + 1 :] and room(target) == "stages"
    ]
    assert wrong == []


def test_modules_import_in_no_circle():
    graph = {name: imported(path) for name, path in modules().items() if name != "lilliput"}
    while leaves := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    assert graph == {}


def test_the_document_names_the_same_floors():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    told = {
        int(floor): tuple(re.findall(r"(\w+)(?:\.py|/)", " ".join(re.findall("`([^`]+)`", names))))
        for floor, names in rows
    }
    assert told == FLOORS


def test_the_face_is_sorted_and_every_name_is_documented():
    import lilliput

    assert lilliput.__all__ == sorted(lilliput.__all__)
    assert dir(lilliput) == lilliput.__all__
    assert {*lilliput._LATER, "LilliputError"} == set(lilliput.__all__)
    for name in lilliput.__all__:
        assert (getattr(lilliput, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="has no attribute 'compres'"):
        _ = lilliput.compres


def test_the_bare_import_is_lean():
    heavy = ["torch", "onnx", "onnxruntime", "onnx_ir", "transformers", "PIL", "scipy", "pydantic"]
    code = f"import sys, lilliput; print([n for n in {heavy} if n in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_public_names_load_no_runtime():
    heavy = ["onnx", "onnxruntime", "transformers", "PIL"]
    code = (
        "import sys; from lilliput import Budget, Task, arrays, load_weights, texts, images;"
        f"print([n for n in {heavy} if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_table_is_the_folder():
    from lilliput.techniques import TABLE

    stems = [path.stem for path in sorted((SOURCE / "techniques").glob("*.py"))]
    named = [stem for stem in stems if VERB_PREFIXES.match(stem)]
    assert [kind.name for kind in TABLE] == named
    for kind, stem in zip(TABLE, named, strict=True):
        assert kind.__module__ == f"lilliput.techniques.{stem}"
        assert kind.__name__ == stem.title().replace("_", "")
        assert kind.family == stem.partition("_")[0]
        assert kind.source and kind.summary and kind.__doc__
        own = [n for n in tree(SOURCE / "techniques" / f"{stem}.py").body if _is_public_class(n)]
        assert len(own) == 1, f"{stem}.py holds one technique and nothing else"


def _is_public_class(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and not node.name.startswith("_")


def test_files_are_short():
    lengths = {short(p): len(p.read_text(encoding="utf-8").splitlines()) for p in files()}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
    assert median(lengths.values()) <= 150


def test_functions_are_short():
    lengths = {
        f"{short(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in files()
        for node in functions(path)
    }
    assert {name: n for name, n in lengths.items() if n > 60} == {}
    assert median(lengths.values()) <= 12


def test_public_functions_take_few_parameters():
    found = [
        where
        for where, node in signatures()
        if len(positional(node)) + len(node.args.kwonlyargs) > 6
    ]
    assert found == []


def test_public_parameters_after_the_second_are_named():
    third = [where for where, node in signatures() if len(positional(node)) > 2]
    # `narrow(model, inputs, 0.5)` reads better than any name would make it.
    found = [where for where in third if not where.startswith("reshaping/")]
    assert len(found) <= THIRD_POSITIONAL, "\n".join(found)


def test_no_default_can_be_changed():
    kinds = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    found = [
        f"{short(path)}:{node.name}"
        for path in files()
        for node in functions(path)
        for default in (*node.args.defaults, *node.args.kw_defaults)
        if isinstance(default, kinds)
    ]
    assert found == []


def test_nothing_catches_everything():
    broad = {"Exception", "BaseException"}
    found = {
        short(path)
        for path in files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        if node.type is None or broad & set(re.findall(r"\w+", ast.unparse(node.type)))
    }
    assert found == BROAD_EXCEPTS.keys()


def test_nothing_is_asserted():
    found = [
        f"{short(path)}:{node.lineno}"
        for path in files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_inheritance_is_shallow():
    known = classes()

    def depth(name: str) -> int:
        bases = known[name][1] if name in known else []
        return max((1 + depth(base) for base in bases if base in known), default=0)

    deep = {name for name in known if depth(name) > 1}
    assert {short(known[name][0]) for name in deep} <= DEEP_TREES.keys(), deep


def test_everything_public_is_documented():
    found = [short(path) for path in files() if not ast.get_docstring(tree(path))]
    found += [
        f"{short(path)}:{node.name}"
        for path in files()
        for node in public(path)
        if not ast.get_docstring(node) and not promised(node)
    ]
    assert found == []


def test_one_word_for_one_thing():
    names = [short(path) for path in files() if BANNED.search(path.stem) or path.stem == "common"]
    names += [f"{short(p)}:{n.name}" for p in files() for n in public(p) if BANNED.search(n.name)]
    assert names == []


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_packages_that_break_transformers_are_not_installed(package):
    assert find_spec(package) is None


def test_nothing_tracked_names_a_machine_or_a_registry():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in told.stdout.decode().split("\0") if name]
    hosts = "py" + "pi.org|python" + "hosted|npm" + "js|ana" + "conda.org"
    folders = "/wo" + "rk/|/ro" + "ot/|/ho" + "me/"
    everywhere = re.compile(f"(?<![\\w.]){folders}|{hosts}".encode())
    outside_tests = re.compile(("(?<![\\w.])/t" + "mp/").encode())
    found = []
    for path in filter(Path.is_file, paths):
        data = path.read_bytes()
        tested = path.is_relative_to(ROOT / "tests")
        if everywhere.search(data) or (not tested and outside_tests.search(data)):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_no_two_folders_of_tests_share_a_module_name():
    """pytest puts each folder on the path: of two only the first is found."""
    folders: dict[str, set[Path]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        if path.stem not in ("conftest", "__init__"):
            folders.setdefault(path.stem, set()).add(path.parent)
    assert [name for name, where in folders.items() if len(where) > 1] == []
