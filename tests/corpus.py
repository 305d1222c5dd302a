"""The attack cases in `corpora/`, read and filled in; and both adapters to send each of them to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .support import Answer, AsgiSite, Site, WsgiSite, make_config

FOLDER = Path(__file__).parent / "corpora"
_REPEAT = re.compile(r"\{\{repeat:(.*?):(\d+)\}\}", re.DOTALL)

Entry = dict[str, Any]


def entries(name: str) -> list[Entry]:
    """Return the cases of one subject."""
    found: list[Entry] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["entries"]
    return found


def expand(text: str) -> str:
    """Return a string with `{{repeat:X:N}}` written out."""
    return _REPEAT.sub(lambda match: match[1] * int(match[2]), text)


def name_of(entry: Entry) -> str:
    return str(entry["id"])


class StrippedAsgiSite(AsgiSite):
    """Behind a server that takes the prefix off the path."""

    def scope(self, *request: Any) -> dict[str, Any]:
        scope = super().scope(*request)
        return {**scope, "path": scope["path"][len(self.prefix) :]}


def both(*, prefix: str = "", is_stripped: bool = False, **options: Any) -> tuple[Site, Site]:
    """Return the same site on ASGI and on WSGI."""
    config = make_config(**options)
    return (StrippedAsgiSite if is_stripped else AsgiSite)(config, prefix=prefix), WsgiSite(config, prefix=prefix)


def outcome(answer: Answer) -> tuple[Any, ...]:
    """Return what must be the same on both adapters: everything but random values."""
    location = re.sub(r"\b(state|nonce|code_challenge)=[^&]+", r"\1=", answer.location)
    names = sorted(cookie.partition("=")[0] for cookie in answer.all("set-cookie"))
    return answer.status, location, names, answer.called, answer.user.id if answer.user else None


def assert_alike(answers: list[Answer]) -> Answer:
    """Return the answer that both adapters gave."""
    first, second = answers
    assert outcome(first) == outcome(second), f"{outcome(first)}\n{outcome(second)}"
    return first
