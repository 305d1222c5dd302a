"""The package as a thing to install: what is in it, what importing it costs, and which module may know which."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import whop_middleware
from whop_middleware import errors

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "whop_middleware"

PUBLIC_NAMES = {"WhopConfig", "WhopMiddleware", "WhopUser", "WhopWSGIMiddleware", "current_user", *errors.__all__}

# From the ground up: a module may import from the rows above its own, and from its own subpackage.
LAYERS = (
    ("errors", "user", "bounded", "deadline", "texts", "reports"),
    ("paths",),
    ("messages", "settings", "lazy"),
    ("config",),
    ("signing", "apps"),
    ("whop", "sessions", "states", "pages", "fetch_metadata", "identity", "responses", "query"),
    ("site", "upstream"),
    ("startup", "purchase"),
    ("authorize", "sign_out"),
    ("sign_in",),
    ("gate",),
    ("drive",),
    ("asgi", "wsgi"),
    ("__init__",),
    ("serve", "forward_auth", "testing", "sandbox"),
    ("cli",),
    ("__main__",),
)

# One edge module per dependency.
ONLY_IMPORTED_BY = {
    "itsdangerous": {"signing"},
    "starlette": {"sandbox"},
    "uvicorn": {"sandbox", "cli"},
    "waitress": {"sandbox", "cli"},
}

# What importing the package must not pull in: it would cost every start of every worker.
HEAVY = {"asyncio", "django", "flask", "httpx", "ssl", "starlette", "trio", "uvicorn"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- What is imported ---


def test_all_is_complete_and_sorted() -> None:
    assert whop_middleware.__all__ == sorted(PUBLIC_NAMES)


def test_every_public_name_is_there() -> None:
    for name in whop_middleware.__all__:
        assert getattr(whop_middleware, name).__doc__


def test_importing_the_package_imports_no_framework_and_no_client(tmp_path: Path) -> None:
    program = "import sys; before = set(sys.modules); from whop_middleware import *; print(*set(sys.modules) - before)"
    loaded = {name.partition(".")[0] for name in run(sys.executable, "-c", program, cwd=tmp_path).split()}
    assert not loaded & HEAVY


# --- Which module may know which ---


def module_of(path: Path) -> str:
    """Return the row's name for a file: its module or subpackage directly below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full name of everything a file imports, at its top or inside a function."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def modules_imported_by(path: Path) -> Iterator[str]:
    """Yield the rows' names of what a file imports from this package; a name of the package itself is `__init__`."""
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == PACKAGE.name:
            module = rest.partition(".")[0]
            yield module if module in RANK else "__init__"


RANK = {module: rank for rank, row in enumerate(LAYERS) for module in row}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_every_module_has_its_place_in_the_layers() -> None:
    assert {module_of(path) for path in SOURCES} <= set(RANK)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward_only(path: Path) -> None:
    own = module_of(path)
    upward = {name for name in modules_imported_by(path) if name != own and RANK[name] >= RANK[own]}
    assert not upward


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_dependency_is_imported_by_its_edge_module_only(path: Path) -> None:
    known = {name.partition(".")[0] for name in imports_of(path)}
    stray = {name for name in known & set(ONLY_IMPORTED_BY) if module_of(path) not in ONLY_IMPORTED_BY[name]}
    assert not stray


# --- What is built ---


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel out of it, with the hatchling at hand: nothing is fetched."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment with the wheel in it; dependencies are borrowed, not downloaded."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, *install, cwd=folder)
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    borrowed = sorted({str(Path(str(importlib.metadata.distribution("httpx").locate_file(""))).resolve())})
    (Path(where) / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    return python


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "whop_middleware/py.typed" in names


def test_wheel_asks_for_three_dependencies(wheel: Path) -> None:
    needed = [str(name) for name in metadata_of(wheel).get_all("Requires-Dist", []) if "extra ==" not in name]
    assert {re.split(r"[^\w-]", name)[0] for name in needed} == {"asgiref", "httpx", "itsdangerous"}


def test_sdist_holds_what_it_takes_to_run_the_tests(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "tests/test_package.py"} <= names
    assert "examples/starlette_app/templates/base.html" in names
    assert not [name for name in names if "node_modules" in name or name.startswith(".venv")]


def test_installed_wheel_gives_every_public_name(installed: Path, tmp_path: Path) -> None:
    program = "import whop_middleware as w; print(w.__file__, *(getattr(w, name).__name__ for name in w.__all__))"
    where, *names = run(installed, "-I", "-c", program, cwd=tmp_path).split()
    assert Path(where).is_relative_to(installed.parent.parent)
    assert names == whop_middleware.__all__


@pytest.mark.parametrize("module", ["serve", "forward_auth", "testing", "sandbox"])
def test_installed_wheel_gives_every_documented_submodule(installed: Path, tmp_path: Path, module: str) -> None:
    run(installed, "-I", "-c", f"import whop_middleware.{module}", cwd=tmp_path)


def test_installed_wheel_brings_its_command(installed: Path, tmp_path: Path) -> None:
    assert "demo" in run(installed.parent / "whop-middleware", "--help", cwd=tmp_path)
    assert "demo" in run(installed, "-I", "-m", "whop_middleware", "--help", cwd=tmp_path)


def test_version_is_the_one_the_changelog_opens_with(wheel: Path) -> None:
    newest = re.search(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == metadata_of(wheel)["Version"] == whop_middleware.__version__
