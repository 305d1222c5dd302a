"""Requests made of hostile pieces at random: no exception, no session, and both adapters decide alike."""

from __future__ import annotations

import random
from typing import Any

import pytest

from whop_middleware.testing import session_cookie

from .corpus import assert_alike, both
from .support import FakeWhop

SEEDS = 21
REQUESTS = 60
PIECES = (
    "/", "//", "a", "login", "callback", "logout", "whop", "static", "health", "..", ".", "%2e", "%2f", "%252f", "%",
    "%zz", "%00", "%0a", "%ff", "%c3%a9", "%ed%a0%80", ";", "\\", "@", ":", "#", "&", "=", "+", "*", "~", "\xff",
    "\xc3\xa9",
)  # fmt: skip
TARGETS = ("/login/whop", "/callback/whop", "/logout/whop", "/health", "/static/", "/vip/", "/", "")
QUERIES = (
    "code=",
    "state=",
    "error=",
    "iss=",
    "next=",
    "code=CODE",
    "state=x.y",
    "error=access_denied",
    "&",
    "%",
    "code",
)
URLS = (
    "https://app.example/", "https://app.example", "https://whop.com/", "https://[", "//", "null", "", "https://a b/",
    "https://app.example:99999/", "http://app.example/", "\xff", "https://app.example/shop/x?y#z",
    "javascript:alert(1)",
)  # fmt: skip
VALUES = {
    "Sec-Fetch-Mode": ("navigate", "cors", "no-cors", "websocket", ""),
    "Sec-Fetch-Dest": ("document", "empty", "iframe", ""),
    "Sec-Fetch-Site": ("same-origin", "cross-site", "none", "\xff"),
    "Accept": ("text/html", "*/*", "application/json", ";;q=,", "text/html;q=0", ",", "\xff;q=\xff"),
    "HX-Request": ("true", "TRUE", "1"),
    "HX-Current-URL": URLS,
    "Referer": URLS,
    "Origin": URLS,
    "Access-Control-Request-Method": ("PUT",),
    "Host": ("app.example", "", "a b", "[::1]", "[", "localhost", "shop.example.com", "x" * 300, "\xff", "a:b:c"),
    "X-Forwarded-Proto": ("https", "\xff"),
    "Sec-Purpose": ("prefetch", "prerender"),
    "X-Requested-With": ("XMLHttpRequest",),
    "X-Whop-User-Id": ("user_admin",),
}
METHODS = ("GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW")
OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"redirect_uri": "/callback/whop"}, {"mode": "optional", "require": "prod_a"}, {"client_id": "app_1"},
    {"require": {"/vip/*": "prod_a", "/*": ()}, "denied_page": "/no"},
    {"hub_login": "accept", "identity_headers": True},
    {"hub_login": "reject", "sign_in_page": "/welcome", "redirect_uri": "/callback/whop"},
)  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_request_breaks_the_gate_or_divides_the_adapters(seed: int, whop: FakeWhop) -> None:
    rng = random.Random(seed)
    prefix = rng.choice(("", "/shop", "/caf\xe9", "//odd", "/shop/.."))
    sites = both(prefix=prefix, **OPTIONS[seed % len(OPTIONS)])
    good = session_cookie(sites[0].middleware.config, id="ALICE")
    for site in sites:
        site.__dict__["_validated"] = site.middleware  # it looks at the environ, and this one is hostile
        if site.interface == "wsgi":
            site.prefix = prefix.encode().decode("latin-1")
    for _ in range(REQUESTS):
        path = rng.choice(TARGETS) + "".join(rng.choices(PIECES, k=rng.choice((0, 0, 1, 2, 6))))
        path = f"/{path}" if prefix and not path.startswith("/") else path  # below a prefix, or not below it at all
        query = "&".join(rng.choices(QUERIES, k=rng.randrange(4)))
        names = rng.sample(sorted(VALUES), k=rng.randrange(6))
        headers = [(name, rng.choice(VALUES[name])) for name in names]
        cookies = rng.choices(("a=1", *(f"{k}={v}" for k, v in good.items()), "__Host-whop_session=x", "=;,"), k=2)
        headers += [("Cookie", "; ".join(cookies))] if rng.random() < 0.5 else []
        method, target = rng.choice(METHODS), f"{path}?{query}" if query else path
        calls = []
        for site in sites:
            whop.codes = {"CODE": "user_1"}
            calls.append(site.request(method, target, headers))
        answer = assert_alike(calls)
        assert answer.status in (200, 204, 303, 400, 401, 403, 405, 500), (method, target, headers)
        assert answer.status != 500 or b"insecure_origin" in answer.body, (method, target, headers)
        assert not answer.location.startswith("//"), (method, target, headers)
        assert answer.user is None or (answer.user.id == "ALICE" and any(pair.startswith("__Host") for pair in cookies))
