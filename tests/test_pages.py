"""The pages and problem answers: what they say, what they escape, which headers they carry. Starts no server."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from whop_middleware import errors, pages
from whop_middleware.messages import Reply
from whop_middleware.pages import Action
from whop_middleware.texts import FAULTS
from whop_middleware.user import WhopUser

AGAIN = (Action("Try again", "/login/whop?next=/a%26b", primary=True),)
PAGE_CODES = ("bad_callback", "state_missing", "issuer_mismatch", "insecure_origin", "callback_not_reached")
ERROR_CODES = tuple(
    error.code
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.SignInError)
)  # fmt: skip


class Outline(HTMLParser):
    """Collects every start tag with its attributes, and the text outside the style."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in_style = False
        self.feed(reply.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_style else data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def denied(name: str | None = "Ada", *missing: str, buy_url: str | None = "https://whop.com/shop") -> Reply:
    return pages.denied(
        user=WhopUser(id="user_1", name=name),
        missing=missing or ("prod_vip",),
        buy_url=buy_url,
        check_again="/login/whop?next=/vip",
        other_account="/logout/whop",
        reference="3fa29c01be",
    )


PAGES = {
    **{code: pages.fault(code, 400, AGAIN, reference="3fa29c01be") for code in FAULTS},
    "sign_in_needed": pages.sign_in_needed(AGAIN),
    "signed_out": pages.signed_out(AGAIN),
    "confirm_sign_out": pages.confirm_sign_out((Action("Sign out", "/logout/whop", post=True),)),
    "denied": denied(),
    "bare": pages.html(200, "Title", ("Text",)),
}
ANSWERS = {
    **PAGES,
    "problem": pages.problem(403, "purchase_required", "No purchase."),
    "redirect": pages.redirect("/"),
    "empty": pages.empty(),
    "empty_401": pages.empty(401),
    "method_not_allowed": pages.method_not_allowed("GET, HEAD"),
}


def headers(reply: Reply) -> dict[str, str]:
    assert len({name.lower() for name, _ in reply.headers}) == len(reply.headers)
    return dict(reply.headers)


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Reply:
    return PAGES[request.param]


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_may_be_stored(name: str) -> None:
    assert headers(ANSWERS[name])["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_but_204_names_its_type(name: str) -> None:
    assert ("Content-Type" in headers(ANSWERS[name])) == (ANSWERS[name].status != 204)


def test_page_carries_its_security_headers(page: Reply) -> None:
    found = headers(page)
    assert found["Content-Type"] == "text/html; charset=utf-8"
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["Referrer-Policy"] == "same-origin"


def test_policy_allows_the_style_that_is_sent_and_nothing_else(page: Reply) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page.body.decode(), re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert headers(page)["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]


def test_page_loads_and_runs_nothing(page: Reply) -> None:
    outline = Outline(page)
    assert {tag for tag, _ in outline.tags}.isdisjoint({"script", "img", "iframe", "base", "object"})
    assert outline.all("link") == [{"rel": "icon", "href": "data:,"}]  # keeps the browser from /favicon.ico
    assert not [key for _, attributes in outline.tags for key in attributes if key.startswith("on") or key == "style"]
    assert "url(" not in page.body.decode()
    assert "@import" not in page.body.decode()


def test_page_has_a_language_a_landmark_and_one_heading(page: Reply) -> None:
    outline = Outline(page)
    assert page.body.startswith(b"<!doctype html>")
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("main")) == len(outline.all("h1")) == len(outline.all("title")) == 1
    assert outline.all("nav") in ([], [{"aria-label": "Ways on"}])


@pytest.mark.parametrize("code", [*ERROR_CODES, *PAGE_CODES])
def test_every_error_code_has_words_of_its_own(code: str) -> None:
    title, paragraphs = FAULTS[code]
    reply = pages.fault(code, 418, AGAIN, reference="3fa29c01be")
    text = Outline(reply).text
    assert reply.status == 418
    assert title in text
    assert all(paragraph in text for paragraph in paragraphs)
    assert f"Reference: 3fa29c01be · {code}" in text
    assert [other for other in FAULTS if FAULTS[other][0] == title] == [code]


def test_every_text_belongs_to_an_error_code() -> None:
    assert set(FAULTS) == {*ERROR_CODES, *PAGE_CODES}


def test_unknown_error_code_gets_the_general_words() -> None:
    reply = pages.fault("brand_new", 400, (), reference="r")
    assert FAULTS["sign_in_failed"][0] in Outline(reply).text
    assert "brand_new" in Outline(reply).text


def test_fault_offers_its_ways_on() -> None:
    (link,) = Outline(pages.fault("state_invalid", 400, AGAIN, reference="r")).all("a")
    assert link == {"class": "primary", "href": "/login/whop?next=/a%26b"}


def test_explanation_replaces_the_words_but_not_the_title() -> None:
    text = Outline(pages.fault("bad_callback", 400, (), reference="r", explanation="The Host is malformed.")).text
    title, paragraphs = FAULTS["bad_callback"]
    assert title in text
    assert "The Host is malformed." in text
    assert paragraphs[0] not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "about a minute"), (60, "about a minute"), (61, "about 2 minutes"), (3600, "about 60 minutes")],
)
def test_retry_after_is_a_header_and_said_in_words(seconds: int, words: str) -> None:
    reply = pages.fault("whop_unreachable", 503, AGAIN, reference="r", retry_after=seconds)
    assert headers(reply)["Retry-After"] == str(seconds)
    assert f"Try again in {words}." in Outline(reply).text


def test_without_retry_after_there_is_no_such_header() -> None:
    assert "Retry-After" not in headers(pages.fault("bad_whop_answer", 502, AGAIN, reference="r"))


def test_every_value_is_escaped() -> None:
    nasty = "\"'><script>alert(1)</script>&amp;"
    reply = pages.html(
        400,
        nasty,
        (nasty,),
        (Action(nasty, nasty), Action(nasty, nasty, post=True, primary=True)),
        error_code=nasty,
        reference=nasty,
        details=((nasty, nasty),),
    )
    outline = Outline(reply)
    assert not outline.all("script")
    assert outline.text.count(nasty) == 9
    assert [link["href"] for link in outline.all("a")] == [nasty]
    assert [form["action"] for form in outline.all("form")] == [nasty]
    assert b"<script" not in reply.body


def test_posting_action_is_a_form_with_a_button() -> None:
    outline = Outline(pages.confirm_sign_out((Action("Sign out", "/logout/whop", post=True, primary=True),)))
    assert outline.all("form") == [{"method": "post", "action": "/logout/whop"}]
    assert outline.all("button") == [{"class": "primary"}]
    assert not outline.all("a")


def test_footer_is_left_out_when_there_is_nothing_to_refer_to() -> None:
    assert not Outline(pages.signed_out(AGAIN)).all("footer")
    assert "Reference" not in Outline(pages.html(400, "T", (), error_code="c")).text


def test_page_adds_the_headers_it_is_given() -> None:
    assert headers(pages.html(200, "T", (), headers=(("X-Extra", "1"),)))["X-Extra"] == "1"


def test_form_without_a_session_is_told_how_to_get_its_text_back() -> None:
    reply = pages.sign_in_needed(AGAIN)
    assert reply.status == 401
    assert headers(reply)["WWW-Authenticate"] == 'Cookie realm="whop"'
    assert "was not saved" in Outline(reply).text
    assert "Back button" in Outline(reply).text


def test_signing_out_and_being_asked_are_successes() -> None:
    assert PAGES["signed_out"].status == PAGES["confirm_sign_out"].status == 200


def test_denied_says_who_is_signed_in_what_is_missing_and_how_an_owner_gets_in() -> None:
    reply = denied("Ada Lovelace")
    text = Outline(reply).text
    assert reply.status == 403
    assert "Signed in as Ada Lovelace (user_1)." in text
    assert "the product prod_vip" in text
    assert "WHOP_ALLOW_USERS=user_1" in text
    assert "Reference: 3fa29c01be · purchase_required" in text


def test_denied_does_not_say_a_bare_id_twice() -> None:
    assert "Signed in as user_1." in Outline(denied(None)).text


def test_denied_sells_first_then_checks_again_or_changes_account() -> None:
    outline = Outline(denied())
    assert outline.all("a") == [
        {"class": "primary", "href": "https://whop.com/shop"},
        {"href": "/login/whop?next=/vip"},
    ]
    assert outline.all("form") == [{"method": "post", "action": "/logout/whop"}]


def test_denied_without_a_shop_names_the_owner_and_checks_again_first() -> None:
    outline = Outline(denied(buy_url=None))
    assert outline.all("a") == [{"class": "primary", "href": "/login/whop?next=/vip"}]
    assert "the owner of this site can tell you" in outline.text


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (("exp_a",), "own the experience exp_a."),
        (("biz_a",), "own something of the company biz_a."),
        (("thing",), "own thing."),
        (("prod_a", "exp_b"), "own one of these: prod_a or exp_b."),
        (("prod_a", "prod_b", "prod_c"), "own one of these: prod_a, prod_b or prod_c."),
    ],
)
def test_denied_names_what_is_missing(missing: tuple[str, ...], words: str) -> None:
    assert words in Outline(denied("Ada", *missing)).text


def test_name_of_any_script_is_shown_whole() -> None:
    name = "مريم 👩‍👩‍👧 Жанна".ljust(80, "W")
    assert f"Signed in as {name} (user_1)." in Outline(denied(name)).text


def test_name_too_long_for_a_phone_is_shortened_and_the_id_never() -> None:
    assert f"Signed in as {'W' * 79}… (user_1)." in Outline(denied("W" * 700)).text
    assert f"Signed in as {'W' * 78}… (user_1)." in Outline(denied(f"{'W' * 78} {'W' * 700}")).text
    long_id = f"user_{'1' * 250}"
    reply = pages.denied(
        user=WhopUser(id=long_id), missing=("prod_vip",), buy_url=None, check_again="/a", other_account="/b"
    )
    assert f"Signed in as {long_id}." in Outline(reply).text


def test_name_cannot_turn_the_text_around_it() -> None:
    assert "Signed in as Ada)evil (user_1)." in Outline(denied("\u202eAda\u2069)\u2066evil\u200f")).text


def test_name_with_half_a_surrogate_still_makes_a_page() -> None:
    assert "Signed in as A?a (user_1)." in Outline(denied("A\ud800a")).text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str) -> None:
    schemes = re.findall(r":root\{([^}]*)\}", PAGES["bare"].body.decode())
    colours = dict(re.findall(r"--([a-z-]+):#([0-9a-f]+)", schemes[scheme == "dark"]))
    for text, ground in (("text", "card"), ("quiet", "card"), ("quiet", "page"), ("on-key", "key")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)  # WCAG 2.2, 1.4.3
    for part, ground in (("key", "card"), ("key", "page")):
        assert contrast(colours[part], colours[ground]) >= 3, (part, ground)  # WCAG 2.2, 1.4.11


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    full = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(full[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_problem_has_the_fields_of_rfc_9457_and_ours() -> None:
    reply = pages.problem(401, "sign_in_required", "Sign in first.", login_url="/login/whop")
    assert reply.status == 401
    assert headers(reply)["Content-Type"] == "application/problem+json"
    assert headers(reply)["WWW-Authenticate"] == 'Cookie realm="whop"'
    assert json.loads(reply.body) == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Sign in first.",
        "code": "sign_in_required",
        "login_url": "/login/whop",
    }


def test_problem_without_a_login_has_no_such_field_and_no_challenge() -> None:
    reply = pages.problem(503, "whop_unreachable", "Whop is away.", retry_after=60, headers=(("X-Extra", "1"),))
    assert "login_url" not in json.loads(reply.body)
    assert "WWW-Authenticate" not in headers(reply)
    assert headers(reply)["Retry-After"] == "60"
    assert headers(reply)["X-Extra"] == "1"


def test_redirect_is_a_303_that_carries_its_headers() -> None:
    reply = pages.redirect("/vip", headers=(("Set-Cookie", "a=1"),))
    assert (reply.status, reply.body) == (303, b"")
    assert headers(reply)["Location"] == "/vip"
    assert headers(reply)["Set-Cookie"] == "a=1"


def test_empty_answer_takes_a_status_and_headers() -> None:
    reply = pages.empty(403, headers=(("X-Whop-Redirect", "/denied"),))
    assert (reply.status, reply.body) == (403, b"")
    assert headers(reply)["X-Whop-Redirect"] == "/denied"


def test_wrong_method_is_told_which_would_do() -> None:
    reply = pages.method_not_allowed("GET, HEAD")
    assert reply.status == 405
    assert headers(reply)["Allow"] == "GET, HEAD"
    assert b"GET, HEAD" in reply.body
