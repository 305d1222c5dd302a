"""Attacks with cookies and with identities that a client may send: every case, on both adapters, alike."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import pickle
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from itsdangerous import Signer

from whop_middleware import WhopConfig
from whop_middleware.identity import is_identity_header
from whop_middleware.sessions import Session, Sessions
from whop_middleware.testing import session_cookie
from whop_middleware.user import WhopUser

from .conftest import Clock
from .corpus import Entry, assert_alike, both, entries, expand, name_of
from .steps import Core, start
from .support import KEY, SECRET, Answer, AsgiSite, Site, make_config

NAME = "__Host-whop_session"
OLD_KEY = "a-previous-key-0123456789"
MAX_AGE = 604_800
CONFIG = make_config(secret_key=(KEY, OLD_KEY), session_max_age=MAX_AGE)

# Where the design decides otherwise than a case expects, and where it says so.
COOKIES_BY_DESIGN = {
    "ck-074": "alice",  # section 6: one absolute life, no idle one
}


def session(signed_in_at: Any, config: WhopConfig = CONFIG, id: str = "ALICE") -> str:
    return Sessions(config).seal_session(Session(WhopUser(id=id, signed_in_at=signed_in_at)))


def sign(payload: bytes, salt: str | None = None) -> str:
    """Sign a payload with our own signer, or with our key and another salt."""
    text = urlsafe_b64encode(payload).rstrip(b"=")
    return (Sessions(CONFIG)._signer if salt is None else Signer(KEY, salt=salt)).sign(text).decode()


def sign_with(key: bytes, payload: str) -> str:
    """Sign as ours does, with any key, also one that no setting would take."""
    derived = hmac.digest(key, b"whop_middleware|session|client_1", "sha256")
    return Signer(derived, salt=b"", key_derivation="none", digest_method=hashlib.sha256).sign(payload).decode()


def flip(value: str, index: int, bit: int = 0) -> str:
    return value[:index] + chr(ord(value[index]) ^ 1 << bit) + value[index + 1 :]


KEYS = {
    "previous": OLD_KEY, "another random key": "another-random-key", "the string 'secret'": "secret" * 3,
    "'changeme'": "changeme" * 2, "client_secret": SECRET, "key with a trailing newline": f"{KEY}\n",
    "a key removed from the rotation list": "a-removed-key-0123456789",
}  # fmt: skip
PAYLOADS = {
    "str": b'"ALICE"', "1MB": json.dumps(["x" * 1_000_000]).encode(), "deep": b"[" * 10_000, "notjson": b"ALICE",
    "pickle": pickle.dumps({"id": "ALICE"}),
}  # fmt: skip


def cooked(op: Entry, at: int) -> list[str]:
    """Return the cookie values that a recipe makes; the timestamp of our cookies lies inside the payload."""
    good = session(at)
    payload, _, signature = good.rpartition(".")
    kind = op["op"]
    if kind == "flip_bit":
        middle = {"payload": 0, "timestamp": len(payload) // 2, "signature": len(payload) + 1 + len(signature) // 2}
        if op["part"] == "all":
            return [flip(good, index, bit) for index in range(len(good)) for bit in range(7)]
        return [flip(good, middle[op["part"]] if op["at"] != "last" else len(payload) - 1)]
    if kind == "sign_with":
        if op["key"] == "empty key":
            return [Signer("").sign(payload).decode(), sign_with(b"", payload)]
        return [sign_with(KEYS[op["key"]].encode(), payload)]
    if kind == "truncate":
        return [good[: {"half": len(good) // 2, "len-1": len(good) - 1}.get(op["to"], op["to"])]]
    if kind == "splice":
        other = session(at - 10) if op.get("part") == "timestamp" else session(at, id="BOB")
        return [f"{payload}.{other.rpartition('.')[2]}", f"{other.rpartition('.')[0]}.{signature}"]
    if kind == "sign_payload":
        given = op["payload"]
        text = PAYLOADS[given["_"]] if "_" in given else json.dumps(given).encode()
        fields = [given.get("v", 1), given.get("id", "ALICE"), at, None, None, None, None, {}, 0]
        return [sign(text), *([] if "_" in given else [sign(json.dumps(fields).encode())])]
    if kind == "iat":
        return [session(float("nan") if op["value"] == "NaN" else op["value"])]
    if kind == "age":
        names = {"max": MAX_AGE, "max+1": MAX_AGE + 1}
        return [session(at - (names[op["seconds"]] if op["seconds"] in names else op["seconds"]))]
    simple: dict[str, Callable[[], str]] = {
        "append": lambda: good + op["text"],
        "b64_noncanonical": lambda: good[:-1] + chr(ord(good[-1]) + 1),
        "drop": lambda: payload,
        "keep": lambda: signature,
        "resign_as_payload": lambda: Sessions(CONFIG)._signer.sign(good).decode(),
        "sign_with_salt": lambda: sign(b"{}", op["salt"]),
        "valid_for": lambda: session(at, make_config(client_id=op["client_id"], secret_key=(KEY, OLD_KEY))),
        "version": lambda: sign(json.dumps([0, "ALICE", at]).encode()),
        "idle": lambda: session(at - 86_400),
        "renewed": lambda: session(at - MAX_AGE - 1),
        "truncate_mac": lambda: f"{payload}.{signature[:6]}",
        "clock": lambda: good,
    }
    return [simple[kind]()]


def cookie_headers(entry: Entry, at: int) -> list[tuple[tuple[str, str], ...]]:
    """Return the requests' `Cookie` headers, several requests for one case where it says "each"."""
    (op,) = entry.get("ops") or [None]
    if op is not None and op["op"] == "two_headers":
        return [(("Cookie", op["first"]), ("Cookie", op["second"].replace("$VALID", session(at))))]
    if op is not None:
        return [(("Cookie", f"{NAME}={value}"),) for value in cooked(op, at)]
    core = Core(secret_key=(KEY, OLD_KEY))
    replacements = {"$VALID": session(at), "$SIGNED_NEXT": start(core), "$JWT_KID": "eyJraWQiOiIuLi8ifQ.e30.AA"}
    text = expand(entry["cookie_header"])
    for name, value in replacements.items():
        text = text.replace(name, value)
    return [(("Cookie", text),)]


@pytest.mark.parametrize("entry", entries("cookies"), ids=name_of)
def test_cookies(entry: Entry, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    if (entry.get("ops") or [{}])[0].get("op") == "clock":
        clock.at = 2_177_452_800.0
    expected = str(COOKIES_BY_DESIGN.get(entry["id"], entry["expect"]))
    sites = both(secret_key=(KEY, OLD_KEY))
    for site in sites:
        site.request("GET", "/a", (("Accept", "application/json"),))
    for cookie in cookie_headers(entry, int(clock.at)):
        answers = []
        for site in sites:
            began = time.perf_counter()
            answers.append(site.request("GET", "/a", (("Accept", "application/json"), *cookie)))
            assert time.perf_counter() - began < 2
        answer = assert_alike(answers)
        found = answer.user.id if answer.user else None
        assert found in {
            "alice": ("ALICE",), "anonymous": (None,), "alice_or_anonymous": ("ALICE", None),
            "anonymous_or_same_user": (None, "ALICE"), "alice_or_431": ("ALICE",),
        }[expected]  # fmt: skip
        assert answer.status == (200 if found else 401)
        assert answer.header("cache-control") == ("private" if found else "no-store")
        assert answer.all("set-cookie") == []
        values = [pair.partition("=")[2] for pair in cookie[-1][1].split("; ")]
        assert not any(value in caplog.text for value in values if len(value) > 20)


# Identities


def on_the_wire(name: str) -> str:
    return name.encode().decode("latin-1")


def sent_headers(entry: Entry) -> list[tuple[str, str]]:
    if not entry["kind"].startswith("header"):
        return []
    value = entry["value"]
    if isinstance(value, str):
        return [(on_the_wire(entry["name"]), on_the_wire(expand(value)))]
    second = "X_Whop_User_Id" if " and " in entry["name"] else "X-Whop-User-Id"
    return [("X-Whop-User-Id", value[0]), (second, value[1])]


def plant(entry: Entry, site: Site) -> None:
    """Let an outer layer put an identity into the scope or the environ."""
    kind, name, value = entry["kind"], entry["name"], str(entry["value"])
    inside = ("whop_user", "REMOTE_USER", name) if kind == "environ" else ("whop_user",)
    if isinstance(site, AsgiSite):
        original = site.scope
        keys = name.removeprefix("scope['").removesuffix("']").split("']['") if kind == "asgi-scope" else []
        planted: dict[str, Any] = {"whop_user": value}
        if keys:
            planted[keys[0]] = {keys[1]: value} if len(keys) == 2 else value
        site.__dict__["scope"] = lambda *request: original(*request) | planted
    else:
        build = site.environ
        site.__dict__["environ"] = lambda *request: build(*request) | dict.fromkeys(inside, value)


def seen_identity(place: Any) -> set[str]:
    """Return every identity that the app could read from a key that this product sets."""
    user = place["whop_user"]
    found = {user.id} if user else set()
    if "headers" in place:
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in place["headers"]]
    else:
        pairs = [(key[5:], value) for key, value in place.items() if key.startswith("HTTP_")]
        found |= {place["REMOTE_USER"]} if "REMOTE_USER" in place else set()
    return found | {value for name, value in pairs if is_identity_header(name) and "USER" in name.upper()}


@pytest.mark.parametrize("entry", entries("spoof"), ids=name_of)
def test_spoofed_identities(entry: Entry) -> None:
    query = f"?{entry['name']}" if entry["kind"] == "query" else ""
    cookie = "; ".join(f"{name}={value}" for name, value in session_cookie(make_config(), id="ALICE").items())
    headers = [("Accept", "application/json"), *sent_headers(entry)]
    answers: list[list[Answer]] = []
    for site in both(identity_headers=True):
        plant(entry, site)
        mine: list[Answer] = []
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            mine.append(site.request(method, f"/a{query}", headers))
            assert not mine[-1].called
            mine.append(site.request(method, f"/health{query}", headers))
            assert seen_identity(site.seen.places[-1]) == set()
            mine.append(site.request(method, f"/a{query}", [*headers, ("Cookie", cookie)]))
            assert seen_identity(site.seen.places[-1]) == {"ALICE"}
        assert all(answer.status < 500 for answer in mine)
        answers.append(mine)
    for pair in zip(*answers, strict=True):
        assert_alike(list(pair))
