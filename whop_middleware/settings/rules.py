"""How rules of what must be owned are read, and which of them make no sense. Matches no request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from .addresses import pattern
from .values import Wrong, list_of, text

_RESOURCE_LIMIT = 10
_RESOURCE_LENGTH = 64
_RESOURCE = re.compile(r"(?:prod|exp|biz)_[A-Za-z0-9_-]+")


class Rules(dict[str, tuple[str, ...]]):
    """A read-only dict of pattern to resource ids; copies, pickles and serialises like a dict."""

    def _read_only(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("WhopConfig.require is read-only: use dataclasses.replace")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _read_only

    def __reduce__(self) -> tuple[type[Rules], tuple[dict[str, tuple[str, ...]]]]:
        return (type(self), (dict(self),))


def resource_id(value: object) -> str:
    """Read the id of a product, an experience or a company."""
    given = text(value)
    if given.startswith("pass_"):
        raise Wrong('has a product id of the old kind: today they start with "prod_", copy it from Whop again', value)
    if len(given) > _RESOURCE_LENGTH:
        raise Wrong(f"has an id of more than {_RESOURCE_LENGTH} characters, which is none of Whop's", value)
    if not _RESOURCE.fullmatch(given):
        raise Wrong('must have ids that start with "prod_", "exp_" or "biz_", as Whop shows them', value)
    return given


_resource_ids = list_of(resource_id)


def rules(value: object) -> Rules:
    """Read what must be owned: ids for the whole site, or a mapping (in text: a JSON object) of pattern to ids."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json_object(value)
    if isinstance(value, Mapping):
        found = Rules({pattern(name): _resource_ids(ids) for name, ids in value.items()})
    else:
        found = Rules({"/*": ids} if (ids := _resource_ids(value)) else {})
    _refuse_ties(found)
    if len({key for ids in found.values() for key in ids}) > _RESOURCE_LIMIT:
        raise Wrong(f"has too many ids: at most {_RESOURCE_LIMIT} in all", None)
    return found


def _json_object(given: str) -> object:
    try:
        return json.loads(given, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        raise Wrong('must be ids with commas, or valid JSON such as {"/vip/*": "prod_…"}', given) from None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Wrong("has two rules for the same path: keep one", None)
    return found


def _refuse_ties(found: Rules) -> None:
    seen: dict[str, str] = {}
    for name in found:
        # Rules close a path in any case, so two that differ in case alone would contradict each other.
        other = seen.setdefault(bare(name).casefold(), name)
        if other != name:
            raise Wrong(f'has two rules for the same path, "{other}" and "{name}": keep one', None)


def bare(path: str) -> str:
    """Return a path without query and without a slash at the end."""
    return path.partition("?")[0].rstrip("/") or "/"


def refuse_idle(
    found: Mapping[str, tuple[str, ...]], *, own: Iterable[str], public: Iterable[str], denied: str
) -> None:
    """Refuse rules that decide nothing. `own` are bare paths, `public` patterns, `denied` is the denied page's path."""
    for rule, ids in found.items():
        if bare(rule) in own:
            raise Wrong("has a rule that never matches, since the middleware answers this path itself", rule)
        if ids and bare(rule) == denied:
            raise Wrong("has a rule for denied_page, which is open to everyone signed in: drop one of them", rule)
        for open_to_all in public:
            if _covers(open_to_all, rule):
                raise Wrong(f'has a rule that never matches, since "{open_to_all}" is public: drop one of them', rule)


def _covers(open_to_all: str, rule: str) -> bool:
    return open_to_all == rule or (open_to_all.endswith("/*") and rule.startswith(open_to_all[:-1]))
