"""The rules of the layout, checked on the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "edgeai"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports only modules of earlier layers: read from top to bottom, nothing is used before it is explained.
LAYERS = [
    ["errors", "records", "specs"],
    ["background", "budget", "changes", "config", "cores", "engines", "filters", "power", "reply", "scores", "text"],
    [
        "bootstrap",
        "chunks",
        "decompose",
        "followup",
        "markup",
        "pace",
        "prompt",
        "questionlog",
        "registry",
        "sessions",
        "store",
    ],
    ["documents", "expand", "grounding", "llm", "onnx", "retrieve", "tune"],
    ["bench", "indexing", "models", "shorten", "steps", "structured"],
    ["evaluation", "pipeline", "transfer"],
    ["advise", "ahead"],
    ["assistant"],
    ["kept"],
    ["doctor"],
    ["cli", "__init__"],
    ["__main__"],
]
HEAVY = [
    "numpy",
    "onnxruntime",
    "llama_cpp",
    "sqlite_vec",
    "apsw",
    "tokenizers",
    "rich",
    "bs4",
    "prompt_toolkit",
    "gguf",
]
DISTRIBUTIONS = {
    "bs4": "beautifulsoup4",
    "charset_normalizer": "charset-normalizer",
    "huggingface_hub": "huggingface-hub",
    "llama_cpp": "llama-cpp-python",
    "markdown_it": "markdown-it-py",
    "prompt_toolkit": "prompt-toolkit",
    "sqlite_vec": "sqlite-vec",
}


def module_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Absolute names of everything a file imports, at any depth, type-checking blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "edgeai":
                names.update(f"edgeai.{alias.name}" for alias in node.names)
            elif node.module:
                names.add(node.module)
    return names


def layer_of(module: str) -> int:
    return next(layer for layer, modules in enumerate(LAYERS) if module in modules)


def test_every_module_has_its_layer() -> None:
    assert {module_name(path) for path in FILES} == {module for layer in LAYERS for module in layer}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_imports_only_earlier_layers(path: Path) -> None:
    own = module_name(path)
    others = {name.split(".")[1] for name in imported(path) if name.startswith("edgeai.")} - {own, "__version__"}
    for other in others:
        assert layer_of(other) < layer_of(own), f"{own} imports {other}, which comes after it"


def test_every_third_party_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=!~ ]", item)[0].lower() for item in project["dependencies"]}
    for path in FILES:
        for name in imported(path):
            top = name.split(".")[0]
            if top != "edgeai" and top not in sys.stdlib_module_names:
                assert DISTRIBUTIONS.get(top, top) in declared, f"{path.name} imports {top}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            body = node.body[1].lineno if documented and len(node.body) > 1 else first.lineno
            assert (node.end_lineno or 0) - body < 50, f"{path.name}:{node.name}"


LIGHT = [
    "import edgeai",
    "import edgeai.cli",
    "import edgeai.registry",
    "from edgeai.cli import main; main(['--help'], standalone_mode=False)",
]


@pytest.mark.parametrize("statement", LIGHT)
def test_importing_and_help_load_nothing_heavy(statement: str) -> None:
    script = f"import sys\n{statement}\nprint([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


ONLY_USERS = {
    "llama_cpp": {"llm/llama.py"},
    "apsw": {"store", "doctor.py", "evaluation"},
    "onnxruntime": {"onnx/onnxfile.py", "doctor.py"},
    "gguf": {"registry/merge.py"},
    "huggingface_hub": {"registry"},
    "rich": {"cli"},
}


@pytest.mark.parametrize("library", ONLY_USERS)
def test_each_engine_is_known_to_few_modules(library: str) -> None:
    users = {path.relative_to(PACKAGE) for path in FILES if library in {n.split(".")[0] for n in imported(path)}}
    strangers = {user for user in users if not {user.as_posix(), user.parts[0]} & ONLY_USERS[library]}
    assert not strangers


PACKAGES = sorted({path.parent for path in FILES} - {PACKAGE})


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_modules_of_a_package_do_not_import_in_circles(package: Path) -> None:
    prefix = f"edgeai.{package.name}."
    waiting = {
        path.stem: {name.removeprefix(prefix).split(".")[0] for name in imported(path) if name.startswith(prefix)}
        for path in package.glob("*.py")
        if path.stem != "__init__"
    }
    waiting = {module: {name for name in names if name in waiting} - {module} for module, names in waiting.items()}
    while free := {module for module, names in waiting.items() if not names & waiting.keys()}:
        waiting = {module: names for module, names in waiting.items() if module not in free}
    assert not waiting


def test_nothing_in_the_library_prints() -> None:
    for path in FILES:
        if path.parent.name != "cli":
            calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
            assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path.name
