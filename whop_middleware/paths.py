"""Which paths are public or need a purchase, and where a sign-in may return to. Trusts no header, rebuilds no URL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from .bounded import trim

# U+FFFD and surrogates stand for bytes that are not UTF-8: nobody knows what the app makes of them.
_ODD = re.compile("[\\\\;\x00-\x1f\x7f-\x9f\ufffd\ud800-\udfff]|//|/\\.\\.?(?:/|$)")
_OFF_SITE = re.compile(r"\\|//|/;|/\.\.?(?:/|$)|[\x00-\x1f\x7f-\x9f]")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_DECODINGS = 4
_SHORT, _DECISIONS_KEPT = 128, 1024
RETURN_PATH_LIMIT = 1024


def _spellings(path: str) -> Iterable[str]:
    """Yield the path and what it becomes when somebody behind us decodes it once more, and once more again."""
    for _ in range(_DECODINGS):
        yield path
        decoded = unquote(path) if "%" in path else path
        if decoded == path:
            return
        path = decoded
    yield "//"


def is_odd(path: str) -> bool:
    """Return whether two programs may read this path differently: dot segments, `\\`, `;`, control characters, `//`.

    So may they one without a leading slash: some routers put it there.
    """
    if not path.startswith("/"):
        return True
    if "%" in path:
        return any(_ODD.search(spelling) for spelling in _spellings(path))
    return _ODD.search(path) is not None


class PublicPaths:
    """Match paths strictly against `"/exact"` and `"/prefix/*"` patterns."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self.exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
        self.prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
        self.decided: dict[str, bool] = {}
        """What was decided about the last short paths: every request asks."""

    def __contains__(self, path: str) -> bool:
        public = (path in self.exact or path.startswith(self.prefixes)) and not is_odd(path)
        if len(path) <= _SHORT:
            self.decided[path] = public
            trim(self.decided, _DECISIONS_KEPT)
        return public


class Rules:
    """Say which resources a path needs; match generously where `PublicPaths` matches strictly."""

    def __init__(self, require: Mapping[str, tuple[str, ...]]) -> None:
        self.require = require
        self.everything = tuple(dict.fromkeys(ids for ids in require.values() if ids))
        exact = [pattern for pattern in require if not pattern.endswith("*")]
        self._exact = {_bare(pattern): pattern for pattern in exact}
        self._prefixes = sorted((p for p in require if p.endswith("*")), key=lambda p: -len(p))
        self._same_everywhere = list(require) == ["/*"]

    def needs(self, path: str) -> tuple[tuple[str, ...], ...]:
        """Return what must be owned to see the path: of each inner tuple, any one id."""
        if self._same_everywhere or not self.require:
            return self.everything
        if is_odd(path):
            return self.everything
        if "%" not in path:
            pattern = self.rule(path)
            return (self.require[pattern],) if pattern and self.require[pattern] else ()
        patterns = [self.rule(spelling) for spelling in _spellings(path)]
        return tuple(dict.fromkeys(self.require[rule] for rule in patterns if rule and self.require[rule]))

    def rule(self, path: str) -> str | None:
        """Return the pattern that decides for a path, if any. Exact wins over `*`, longer over shorter."""
        pattern = self._exact.get(_bare(path))
        if pattern is not None and (self.require[pattern] or pattern == path):
            return pattern
        return next((pattern for pattern in self._prefixes if self._covers(pattern, path)), None)

    def _covers(self, pattern: str, path: str) -> bool:
        if not self.require[pattern]:
            return path.startswith(pattern[:-1])
        # Apps on some file systems do not tell "/VIP" from "/vip", and what must be paid for is closed in any case.
        return f"{path}/".casefold().startswith(pattern[:-1].casefold())


def _bare(path: str) -> str:
    return path.casefold().rstrip("/") or "/"


def safe_return_path(value: str | None, *, own: Iterable[str], home: str) -> str:
    """Return `value` when it is a path of this site to come back to, byte for byte, else `home`.

    At most 1,024 characters: a longer one loses its query. Never one of the middleware's `own` paths, in any spelling.
    See RFC 9700 section 4.11 (open redirectors).
    """
    if not value:
        return home
    path = re.split(r"[?#]", value, maxsplit=1)[0]
    if len(value) > RETURN_PATH_LIMIT:
        value = path
    if len(path) > RETURN_PATH_LIMIT or not path.startswith("/") or not _VISIBLE.fullmatch(value) or "\\" in value:
        return home
    spellings = tuple(_spellings(path))
    if any(_OFF_SITE.search(spelling) for spelling in spellings):
        return home
    mine = {name.casefold() for name in own}
    if any(_plain(spelling) in mine for spelling in spellings):
        return home
    return value


def _plain(path: str) -> str:
    return path.partition(";")[0].casefold().rstrip("/ .") or "/"
