"""The documentation: its tables are those of the code, its snippets run, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from whop_middleware import WhopUser, errors
from whop_middleware.config import SETTINGS
from whop_middleware.texts import FAULTS

from .served import localhost, member, serve
from .snippets import ROOT, blocks, documents, snippet

PAGES = [str(path.relative_to(ROOT)) for path in documents()]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def read(page: str) -> str:
    return (ROOT / page).read_text()


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text()))
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


# --- The settings table ---


def documented_settings() -> dict[str, tuple[str, str]]:
    """Return the README's table: field to (variables, default), in Markdown."""
    table = read("README.md").partition("\n## Settings\n")[2].partition("\n## ")[0]
    return {name: (variables, default) for name, variables, default, _ in _ROW.findall(table)}


def test_settings_table_is_that_of_the_code() -> None:
    known = {
        setting.name: (", else ".join(f"`{name}`" for name in setting.variables), setting.default_text)
        for setting in SETTINGS
    }
    assert list(documented_settings().items()) == list(known.items())


# --- Troubleshooting ---


def error_codes() -> list[str]:
    """Return every code that an error, a page or a problem+json answer can carry."""
    of_errors = {getattr(errors, name).code for name in errors.__all__ if hasattr(getattr(errors, name), "code")}
    return sorted(of_errors | set(FAULTS) | {"sign_in_required"})


@pytest.mark.parametrize("code", error_codes())
def test_every_error_code_has_its_section_and_is_in_the_index(code: str) -> None:
    text = read("docs/troubleshooting.md")
    assert f"\n## `{code}`\n" in text
    assert f"[`{code}`](#{code})" in text


def test_troubleshooting_invents_no_code() -> None:
    assert sorted(re.findall(r"^## `(\w+)`$", read("docs/troubleshooting.md"), re.MULTILINE)) == error_codes()


# --- Links ---


def links(page: str) -> list[str]:
    return [link for link in _LINK.findall(_FENCED.sub("", read(page))) if "://" not in link]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_of_the_project(page: str) -> None:
    dangling = []
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dangling.append(link)
    assert not dangling


def test_every_page_of_docs_is_linked_from_somewhere() -> None:
    linked = {
        ((ROOT / page).parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in links(page)
        if link[0] != "#"
    }
    pages = [
        path for path in (ROOT / "docs").rglob("*.md") if path.resolve() not in linked and path.parent not in linked
    ]
    assert not pages


# --- Snippets ---


@pytest.mark.parametrize("page", PAGES)
def test_every_python_snippet_compiles(page: str) -> None:
    for code in blocks(ROOT / page):
        compile(code, page, "exec")


RUNNABLE = ["README.md", "docs/starlette.md", "docs/fastapi.md", "docs/flask.md", "docs/purchase.md"]


@pytest.mark.parametrize("code", [pytest.param(code, id=page) for page in RUNNABLE for code in blocks(ROOT / page)])
def test_every_snippet_runs_by_itself_with_two_variables(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WHOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WHOP_CLIENT_ID", "client_1")
    monkeypatch.setenv("WHOP_CLIENT_SECRET", "client-secret-0123456789")
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


def test_readme_names_each_field_of_a_user() -> None:
    table = read("README.md").partition("\n## Who is signed in\n")[2].partition("\n## ")[0]
    assert all(f"`{name}`" in table for name in (*WhopUser.__dataclass_fields__, "display_name"))


README_APPS = {
    "uvicorn": ("WhopMiddleware(Starlette(", "main:app"),
    "gunicorn": ("WhopWSGIMiddleware(app.wsgi_app)", "main:app"),
}


@pytest.fixture(params=README_APPS)
def readme_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    mark, target = README_APPS[request.param]
    (tmp_path / "main.py").write_text(snippet("README.md", mark))
    with serve(request.param, target, tmp_path) as client:
        yield client


def test_the_readmes_apps_greet_a_member_and_send_a_stranger_to_whop(readme_app: httpx.Client) -> None:
    assert readme_app.get("/").headers["location"] == "/login/whop?next=/"
    assert readme_app.get("/login/whop").headers["location"].startswith("https://whop.com/oauth")
    readme_app.cookies.update(member())
    assert readme_app.get("/").text == "Hello, Ada!"


# --- docs/testing.md, followed to the letter in a folder of its own ---

_TESTING = "docs/testing.md"
_ONLY_HTTPX = "ignore:Using `httpx` with `starlette.testclient`:starlette.exceptions.StarletteDeprecationWarning"

# What pytest-django does for those who have it.
_DJANGO_SETUP = """
import django
from django.conf import settings
from django.test.utils import setup_test_environment

settings.configure(ROOT_URLCONF="urls")
django.setup()
setup_test_environment()
"""
_DJANGO_URLS = "from django.urls import path\n\nfrom views import hello\n\nurlpatterns = [path('hello', hello)]\n"


def run_pytest(folder: Path, *arguments: str) -> None:
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *arguments]
    shell = localhost(WHOP_REDIRECT_URI="https://real.example/callback/whop", WHOP_CLIENT_SECRET="the real secret")
    done = subprocess.run(command, cwd=folder, env=shell, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_testing_page_holds_for_starlette(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(snippet("README.md", "WhopMiddleware(Starlette("))
    (tmp_path / "conftest.py").write_text(snippet(_TESTING, "os.environ"))
    (tmp_path / "test_client.py").write_text(snippet(_TESTING, "TestClient"))
    (tmp_path / "test_httpx.py").write_text(snippet(_TESTING, "ASGITransport"))
    run_pytest(tmp_path, "-W", _ONLY_HTTPX)


def test_testing_page_holds_for_flask(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(snippet("README.md", "WhopWSGIMiddleware(app.wsgi_app)"))
    (tmp_path / "conftest.py").write_text(snippet(_TESTING, "os.environ"))
    (tmp_path / "test_client.py").write_text(snippet(_TESTING, "FlaskClient"))
    run_pytest(tmp_path)


def test_testing_page_holds_for_django(tmp_path: Path) -> None:
    (tmp_path / "views.py").write_text(snippet("docs/django.md", "def hello"))
    (tmp_path / "urls.py").write_text(_DJANGO_URLS)
    (tmp_path / "conftest.py").write_text(snippet(_TESTING, "os.environ") + _DJANGO_SETUP)
    (tmp_path / "gated.py").write_text(snippet(_TESTING, "class GatedClient"))
    (tmp_path / "test_views.py").write_text(snippet(_TESTING, "def test_member_is_greeted", after="## Django"))
    (tmp_path / "test_gate.py").write_text(snippet(_TESTING, "def test_member_gets_through_the_gate"))
    run_pytest(tmp_path)


def test_testing_page_holds_for_purchases() -> None:
    exec(compile(snippet(_TESTING, "require="), "snippet", "exec"), {})
