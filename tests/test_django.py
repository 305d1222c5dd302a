"""A fresh `django-admin startproject`, wrapped as docs/django.md says, under both protocols: Django stays intact."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .served import localhost, member, serve
from .snippets import snippet

ADMIN = {"username": "boss", "password": "a password for tests"}
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
TARGETS = {"uvicorn": "mysite.asgi:application", "gunicorn": "mysite.wsgi:application", "runserver": ""}

URLS = """
from django.contrib import admin
from django.http import HttpResponse
from django.urls import path

from .views import hello


def account(request):
    return HttpResponse(request.user.get_username(), content_type="text/plain")


urlpatterns = [path("admin/", admin.site.urls), path("hello", hello), path("account", account)]
"""


def manage(folder: Path, *arguments: str, **settings: str) -> None:
    command = [sys.executable, "-m", "django", *arguments]
    done = subprocess.run(command, cwd=folder, env=localhost(**settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def django_settings(folder: Path) -> dict[str, str]:
    return {"DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": f"{folder}:{localhost()['PYTHONPATH']}"}


def start_project(folder: Path) -> None:
    """Make a project and wrap it; nothing else of what `startproject` writes is changed."""
    manage(folder, "startproject", "mysite", ".")
    (folder / "mysite" / "wsgi.py").write_text(snippet("docs/django.md", "get_wsgi_application"))
    (folder / "mysite" / "asgi.py").write_text(snippet("docs/django.md", "get_asgi_application"))
    django = django_settings(folder)
    manage(folder, "migrate", **django)
    secret = {"DJANGO_SUPERUSER_PASSWORD": ADMIN["password"]}
    manage(folder, "createsuperuser", "--noinput", "--username=boss", "--email=boss@example.com", **django, **secret)


def add_whop_users(folder: Path) -> None:
    """Let Whop's user be Django's, and add two views that say who it is."""
    site = folder / "mysite"
    (site / "views.py").write_text(snippet("docs/django.md", "def hello"))
    (site / "whop.py").write_text(snippet("docs/django.md", "class WhopUserMiddleware"))
    (site / "urls.py").write_text(URLS)
    with (site / "settings.py").open("a") as settings:
        settings.write(snippet("docs/django.md", "MIDDLEWARE +="))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    start_project(folder)
    return folder


@pytest.fixture(scope="module", params=["uvicorn", "gunicorn", "runserver"])
def fresh(request: pytest.FixtureRequest, project: Path) -> Iterator[httpx.Client]:
    """Serve the project as it came: under ASGI, under WSGI, and by `runserver`."""
    with serve(request.param, TARGETS[request.param], project, **django_settings(project)) as client:
        yield client


@pytest.fixture
def visitor(fresh: httpx.Client) -> httpx.Client:
    fresh.cookies.clear()
    return fresh


@pytest.fixture
def buyer(visitor: httpx.Client) -> httpx.Client:
    visitor.cookies.update(member())
    return visitor


def test_stranger_is_sent_to_sign_in(visitor: httpx.Client) -> None:
    answer = visitor.get("/admin/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login/whop?next=/admin/")


def test_member_sees_the_page_of_a_fresh_project(buyer: httpx.Client) -> None:
    answer = buyer.get("/")
    assert answer.status_code == 200
    assert "The install worked successfully" in answer.text


def test_member_meets_djangos_own_404(buyer: httpx.Client) -> None:
    assert buyer.get("/no-such-page").status_code == 404


def test_admin_shows_its_login_page_and_takes_a_password(buyer: httpx.Client) -> None:
    page = buyer.get("/admin/login/")
    assert "Django administration" in page.text
    token = TOKEN.findall(page.text)[0]
    answer = buyer.post("/admin/login/?next=/admin/", data={"csrfmiddlewaretoken": token, **ADMIN})
    assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")
    assert "Site administration" in buyer.get("/admin/").text


def test_django_still_refuses_a_post_without_its_csrf_token(buyer: httpx.Client) -> None:
    buyer.get("/admin/login/")
    answer = buyer.post("/admin/login/", data=ADMIN)
    assert answer.status_code == 403
    assert "CSRF" in answer.text


def test_vary_keeps_djangos_own_and_stays_single(buyer: httpx.Client) -> None:
    vary = [part.strip().lower() for part in buyer.get("/admin/login/").headers["vary"].split(",")]
    assert vary.count("cookie") == 1


def test_runserver_serves_static_files_outside_the_gate(project: Path) -> None:
    with serve("runserver", "", project, **django_settings(project)) as client:
        assert client.get("/static/admin/css/base.css").status_code == 200


@pytest.fixture(scope="module", params=["uvicorn", "gunicorn"])
def with_users(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("users")
    start_project(folder)
    add_whop_users(folder)
    with serve(request.param, TARGETS[request.param], folder, WHOP_PUBLIC="/account") as client:
        yield client


def test_a_view_finds_the_user_under_both_protocols(with_users: httpx.Client) -> None:
    with_users.cookies = httpx.Cookies(member())
    assert with_users.get("/hello").text == "Hello, Ada!"


def test_whops_user_becomes_djangos_and_leaves_with_the_session(with_users: httpx.Client) -> None:
    with_users.cookies = httpx.Cookies(member())
    assert with_users.get("/account").text == "user_ada"
    for name in member():
        with_users.cookies.delete(name)
    assert with_users.get("/account").text == ""


def test_no_header_of_a_client_makes_a_django_user(with_users: httpx.Client) -> None:
    with_users.cookies.clear()
    forged = {"remote-user": "boss", "http-remote-user": "boss", "x-remote-user": "boss"}
    assert with_users.get("/account", headers=forged).text == ""
