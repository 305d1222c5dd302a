"""`whop-middleware explain PATH`: which rule decides for a path, and what it asks of a visitor. Calls nobody."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from whop_middleware.config import WhopConfig
from whop_middleware.paths import PublicPaths, is_odd
from whop_middleware.site import Site

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[argparse.ArgumentParser]

_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the settings make of one path. Of each tuple in `needs`, one id must be owned."""

    path: str
    endpoint: str | None
    public: bool
    public_pattern: str | None
    odd: bool
    rule: str | None
    needs: tuple[tuple[str, ...], ...]
    mode: str
    summary: str


def add_command(commands: Commands) -> None:
    """Add `explain` to the command line."""
    parser = commands.add_parser(
        "explain",
        help="say which rule applies to a path",
        description="Say whether a path is public, which rule decides for it and what a visitor must own.",
    )
    parser.add_argument("path", type=read_path, metavar="PATH", help='as in the browser, below any mount: "/vip/video"')
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(run=run)


def read_path(text: str) -> str:
    """Return the path as the app receives it: without origin and query, decoded once, as servers do."""
    path = re.split("[?#]", _ORIGIN.sub("", text, count=1), maxsplit=1)[0] or "/"
    if not path.startswith("/"):
        raise argparse.ArgumentTypeError(f'a path starts with "/": try "/{path}"')
    return unquote(path)


def run(options: argparse.Namespace) -> int:
    """Print the explanation. Raises `ConfigError` when the settings are wrong."""
    explanation = explain(WhopConfig.from_env(), options.path)
    print(json.dumps(asdict(explanation), indent=2) if options.json else "\n".join(_lines(explanation)))
    return 0


def explain(config: WhopConfig, path: str) -> Explanation:
    """Return what the middleware makes of a path, in the order in which it decides."""
    site = Site(config)
    endpoint, odd, public = site.endpoints("").get(path), is_odd(path), path in site.public
    needs = () if endpoint or public else site.needs(path)
    rule = None if endpoint or public or odd or path == site.denied_path else site.rules.rule(path)
    return Explanation(
        path=path,
        endpoint=endpoint,
        public=endpoint is None and public,
        public_pattern=_public_pattern(site, path) if endpoint is None and public else None,
        odd=odd,
        rule=rule,
        needs=needs,
        mode=config.mode,
        summary=_summary(site, path, endpoint, public, needs),
    )


def _public_pattern(site: Site, path: str) -> str | None:
    return next((pattern for pattern in site.config.public if path in PublicPaths((pattern,))), site.sign_in_path)


def _summary(site: Site, path: str, endpoint: str | None, public: bool, needs: tuple[tuple[str, ...], ...]) -> str:
    if endpoint:
        return f"the middleware answers this path itself: it is the {endpoint} path"
    if public:
        return "open to everyone, signed in or not"
    if site.config.mode == "optional":
        return 'open to everyone: mode is "optional", so the app itself decides'
    if path == site.denied_path:
        return "open to everyone signed in: people without the purchase are sent here"
    return f"for people who signed in with Whop{' and own ' if needs else ''}{needs_in_words(needs)}"


def needs_in_words(needs: tuple[tuple[str, ...], ...]) -> str:
    """Return "prod_a or prod_b", several needs joined by "and"."""
    alternatives = [" or ".join(ids) for ids in needs]
    if len(alternatives) > 1:
        alternatives = [f"({words})" if " or " in words else words for words in alternatives]
    return " and ".join(alternatives)


def _lines(explanation: Explanation) -> list[str]:
    # A path may hold what a terminal obeys: control characters are shown, not sent.
    path = explanation.path if explanation.path.isprintable() else ascii(explanation.path)[1:-1]
    lines = [f"{path}: {explanation.summary}"]
    if explanation.public_pattern:
        lines.append(f"  public   {explanation.public_pattern}")
    if explanation.rule:
        lines.append(f"  rule     {explanation.rule}")
    if explanation.odd:
        lines.append(
            "  odd      programs may read this path differently: never public, and every rule must be satisfied"
        )
    return lines
