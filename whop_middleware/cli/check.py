"""`whop-middleware check`: are the settings good, and does Whop know this client? Prints no secret, signs nobody in."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from whop_middleware.config import WhopConfig
from whop_middleware.drive import Driver
from whop_middleware.errors import (
    BadWhopAnswer,
    CodeRefused,
    ConfigError,
    CredentialsRefused,
    SignInError,
    WhopUnreachable,
)
from whop_middleware.messages import Flow
from whop_middleware.reports import logger
from whop_middleware.sessions import Sessions
from whop_middleware.whop import Dialect, dialect
from whop_middleware.whop.access import access_request, parse_access

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    import httpx

    Commands = _SubParsersAction[argparse.ArgumentParser]

Status: TypeAlias = Literal["good", "refused", "unreachable", "unexpected"]

LOCAL_ORIGIN = "http://localhost:8000"
CLOCK_TOLERANCE = 30
"""Seconds two clocks may differ: half of what a cookie from the future is forgiven, as two of ours may differ too."""
REAL_URLS = ("https://whop.com", "https://api.whop.com")

_STATUS: Mapping[type[SignInError], Status] = {
    CodeRefused: "good",
    CredentialsRefused: "refused",
    WhopUnreachable: "unreachable",
    BadWhopAnswer: "unexpected",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of asking Whop. `clock_skew` is how many seconds this clock is ahead of Whop's."""

    status: Status
    detail: str
    clock_skew: float | None = None


@dataclass(frozen=True, slots=True)
class Cookie:
    """The session cookie as browsers get it over one scheme."""

    scheme: Literal["http", "https"]
    name: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that `check` found; `problems` empty means that people can sign in."""

    ok: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    client_id: str
    dialect: str
    callback_url: str
    callback_url_depends_on_host: bool
    cookies: tuple[Cookie, ...]
    mode: str
    public: tuple[str, ...]
    require: Mapping[str, tuple[str, ...]]
    credentials: Probe
    api_key: Probe | None


def add_command(commands: Commands) -> None:
    """Add `check` to the command line."""
    parser = commands.add_parser(
        "check",
        help="say what is wrong with the settings",
        description="Read the WHOP_* variables, say what they mean, and ask Whop whether it knows this client. "
        "Exit status: 0 when people can sign in, 1 when not.",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; return 0 when all is well, else 1."""
    with _captured_warnings() as warnings:
        try:
            config = WhopConfig.from_env()
        except ConfigError as error:
            return _print_config_error(str(error), warnings, as_json=options.json)
        report = check(config, warnings)
    print(json.dumps(asdict(report), indent=2) if options.json else "\n".join(_lines(report)))
    return 0 if report.ok else 1


def _print_config_error(problem: str, warnings: list[str], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": False, "problems": [problem], "warnings": warnings}, indent=2))
    else:
        print("\n".join(_line(label, text) for label, text in _verdicts((problem,), warnings)))
    return 1


@contextmanager
def _captured_warnings() -> Iterator[list[str]]:
    """Collect what the package would log, such as "did you mean WHOP_PUBLIC?", to print it as part of the report."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def check(config: WhopConfig, warnings: list[str]) -> Report:
    """Ask Whop, and put together what the settings mean. `warnings` are those that reading them gave."""
    driver, depends_on_host = Driver(config.timeout), config.origin is None
    callback_url = f"{LOCAL_ORIGIN}{config.redirect_path}" if depends_on_host else config.redirect_uri
    warnings = list(warnings)
    credentials = driver.run(probe_credentials(dialect(config), callback_url), config.timeout)
    api_key = driver.run(probe_api_key(config, config.api_key), config.timeout) if config.api_key else None
    probes = {"The client": credentials} | ({"WHOP_API_KEY": api_key} if api_key else {})
    problems = tuple(f"{name}: {probe.detail}" for name, probe in probes.items() if probe.status != "good")
    return Report(
        ok=not problems,
        problems=problems,
        warnings=(*warnings, *_warnings(config, credentials)),
        client_id=config.client_id,
        dialect=config.protocol,
        callback_url=callback_url,
        callback_url_depends_on_host=depends_on_host,
        cookies=_cookies(config),
        mode=config.mode,
        public=config.public,
        require=dict(config.require),
        credentials=credentials,
        api_key=api_key,
    )


def probe_credentials(spoken: Dialect, callback_url: str) -> Flow[Probe]:
    """Offer a made-up code: Whop looks at the client first, so a refused code means that it knows the client."""
    request = spoken.token_request(
        code=f"whop-middleware-check-{secrets.token_hex(8)}",
        redirect_uri=callback_url,
        code_verifier=secrets.token_urlsafe(48) if spoken.uses_pkce else None,
    )
    asked, skew = time.time(), None
    try:
        response = yield request
        skew = clock_skew(response, (asked + time.time()) / 2)
        spoken.parse_token(response)
    except CodeRefused:
        return Probe("good", "Whop knows this client (it refused only the made-up code)", skew)
    except SignInError as error:
        return Probe(_STATUS[type(error)], str(error), skew)
    return Probe("unexpected", "Whop gave a token for a made-up code: this is not Whop", skew)


def probe_api_key(config: WhopConfig, api_key: str) -> Flow[Probe]:
    """Ask about a made-up user: whatever the answer is, only 401 and 403 speak against the key."""
    if not config.required_ids:
        return Probe("good", "not used: WHOP_REQUIRE asks for nothing")
    resource_id = config.required_ids[0]
    request = access_request(config.api_url, api_key, "user_whopmiddlewarecheck", resource_id)
    try:
        response = yield request
        if response.status_code != 404:  # which says as little about the resource as about the user
            parse_access(response, resource_id, with_api_key=True)
    except SignInError as error:
        return Probe(_STATUS[type(error)], str(error))
    return Probe("good", "Whop took this key")


def clock_skew(response: httpx.Response, at: float) -> float | None:
    """Return how many seconds the clock that said `at` is ahead of the answer's `Date` (RFC 9110 section 6.6.1)."""
    try:
        # The header has whole seconds: on average, half a second has passed since.
        return round(at - parsedate_to_datetime(response.headers["date"]).timestamp() - 0.5, 1)
    except (KeyError, ValueError):
        return None


def _cookies(config: WhopConfig) -> tuple[Cookie, ...]:
    sessions = Sessions(config)
    schemes: tuple[Literal["http", "https"], ...] = ("http", "https")
    if config.origin is not None:
        schemes = ("https",) if config.origin.startswith("https:") else ("http",)
    return tuple(_cookie(sessions, scheme) for scheme in schemes)


def _cookie(sessions: Sessions, scheme: Literal["http", "https"]) -> Cookie:
    secure = scheme == "https"
    _, *attributes = sessions.clear_session(secure).split("; ")
    kept = tuple(attribute for attribute in attributes if not attribute.startswith("Max-Age"))
    return Cookie(scheme, sessions.name(secure), kept)


def _warnings(config: WhopConfig, probe: Probe) -> Iterator[str]:
    if probe.clock_skew is not None and abs(probe.clock_skew) > CLOCK_TOLERANCE:
        direction = "ahead of" if probe.clock_skew > 0 else "behind"
        yield f"this machine's clock is {abs(probe.clock_skew):.0f} s {direction} Whop's: let it keep time (NTP)"
    for variable, value in (
        ("WHOP_CLIENT_ID", config.client_id),
        ("WHOP_CLIENT_SECRET", config.client_secret),
        ("WHOP_API_KEY", config.api_key),
    ):
        if value and value[0] in "\"'":
            yield f"{variable} begins with a quotation mark, taken as part of it: Docker's --env-file keeps them, too"
    if config.origin is None:
        example = f"https://your-site.example{config.redirect_path}"
        yield f"the Callback URL depends on the address people use: anywhere but here, set WHOP_REDIRECT_URI={example}"
    elif config.origin.startswith("http:"):
        yield "the Callback URL is plain http: good for this machine, not for the web"
    strange = [url for url in (config.whop_url, config.api_url) if url not in REAL_URLS]
    if strange:
        yield f"this is not the real Whop: {', '.join(dict.fromkeys(strange))} (WHOP_URL, WHOP_API_URL)"


def _lines(report: Report) -> Iterator[str]:
    where = " (on this machine, port 8000)" if report.callback_url_depends_on_host else ""
    yield _line("Callback URL", f"{report.callback_url}{where}")
    yield _line("", "register exactly this at Whop, to the slash")
    yield _line("Client", f"{report.client_id} (dialect {report.dialect})")
    for cookie in report.cookies:
        over = f" (over {cookie.scheme})" if len(report.cookies) > 1 else ""
        yield _line("Cookie", f"{cookie.name}: {'; '.join(cookie.attributes)}{over}")
    if report.mode == "optional":
        yield _line("Mode", "optional: nobody is turned away")
    yield _line("Public", ", ".join(report.public) or "nothing")
    for pattern, ids in report.require.items():
        yield _line("Required", f"{pattern} needs {' or '.join(ids) or 'no purchase'}")
    if not report.require:
        yield _line("Required", "no purchase: signed in is enough")
    yield _line("Credentials", f"{report.credentials.status}: {report.credentials.detail}")
    if report.api_key is not None:
        yield _line("API key", f"{report.api_key.status}: {report.api_key.detail}")
    if report.credentials.clock_skew is not None:
        yield _line("Clock", f"{abs(report.credentials.clock_skew):.1f} s from Whop's")
    yield ""
    yield from (_line(label, text) for label, text in _verdicts(report.problems, report.warnings))


def _verdicts(problems: tuple[str, ...], warnings: tuple[str, ...] | list[str]) -> Iterator[tuple[str, str]]:
    yield from (("Warning", text) for text in warnings)
    yield from (("Problem", text) for text in problems)
    if not problems:
        yield "All is well", "people can sign in"


def _line(label: str, text: str) -> str:
    return f"{label:<14}{text}"
