"""How plain values and lists are read. Knows no setting by name, and puts no value into a message."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Parse = Callable[[object], T]

_TEXT_LIMIT = 2048
_KEY_LENGTH = 16
KEY_MEND = 'make one with python -c "import secrets; print(secrets.token_urlsafe(32))"'

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 section 3.3
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 section 5.6.2
_INTEGER = re.compile(r"[0-9]{1,12}")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")


class Wrong(Exception):
    """A value is wrong. The message goes on after the setting's name; `value` is the evidence."""

    def __init__(self, message: str, value: object) -> None:
        super().__init__(message)
        self.value = value


def text(value: object) -> str:
    """Read a piece of text that is safe in a header: no control characters, nothing to strip."""
    if not isinstance(value, str):
        raise Wrong("must be text", value)
    if not value.strip():
        raise Wrong("is empty: give it a value or leave it out", None)
    if value != value.strip():
        raise Wrong("has white space around it: remove that", value)
    if not value.isprintable():
        raise Wrong("has control characters or unreadable characters in it: remove them", value)
    if len(value) > _TEXT_LIMIT:
        raise Wrong(f"is too long: at most {_TEXT_LIMIT:,} characters", None)
    return value


def matching(expression: re.Pattern[str], message: str, limit: int = _TEXT_LIMIT) -> Parse[str]:
    """Return a reader of text that matches as a whole."""

    def parse(value: object) -> str:
        if not expression.fullmatch(text(value)) or len(text(value)) > limit:
            raise Wrong(message, value)
        return text(value)

    return parse


visible = matching(_VISIBLE, "must be visible ASCII characters without spaces: copy it once more")
printable = matching(_PRINTABLE, "must be printable ASCII characters: copy it once more")
scope = matching(_SCOPE, 'must be names with one space between them, such as "openid profile email"')
user_id = matching(_PRINTABLE, 'must be user ids such as "user_…": 1 to 255 printable ASCII characters each', 255)


def client_id(value: object) -> str:
    """Read a client id, and tell when it is a secret."""
    if isinstance(value, str) and value.startswith("apik_"):
        raise Wrong("is a secret or an API key: set it to the client id", None)
    return visible(value)


def cookie_name(value: object) -> str:
    """Read a cookie's name (RFC 6265 section 4.1.1)."""
    name = matching(_TOKEN, "must be a cookie name: 1 to 64 letters, digits, - or _")(value)
    if name.lower().startswith(("__host-", "__secure-")):
        raise Wrong("must not bring a prefix: __Host- is put before it over https", value)
    return name


def one_of(*choices: str) -> Parse[str]:
    """Return a reader of one word out of a few, in any case."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value.lower() in choices:
            return value.lower()
        raise Wrong("must be " + " or ".join(f'"{choice}"' for choice in choices), value)

    return parse


def boolean(value: object) -> bool:
    """Read a switch: a `bool`, or the words for it in any case."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.lower() in {"1", "true", "yes", "on"}:
            return True
        if value.lower() in {"0", "false", "no", "off"}:
            return False
    raise Wrong("must be True or False (as a variable: 1, true, yes, on, or 0, false, no, off)", value)


def whole_seconds(least: int, most: int) -> Parse[int]:
    """Return a reader of a whole number of seconds."""

    def parse(value: object) -> int:
        number = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
        if isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most:
            seconds = int(number)
            if seconds == number:
                return seconds
        raise Wrong(f"must be a whole number of seconds, {least:,} to {most:,}", value)

    return parse


def seconds(most: int) -> Parse[float]:
    """Return a reader of a number of seconds above 0."""

    def parse(value: object) -> float:
        number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number <= most:
            return float(number)
        raise Wrong(f"must be a number of seconds above 0, at most {most}", value)

    return parse


def strings(value: object) -> tuple[object, ...]:
    """Return the items of a tuple or list, or of text split at commas."""
    if isinstance(value, str):
        return tuple(item for part in value.split(",") if (item := part.strip()))
    if isinstance(value, tuple | list):
        return tuple(value)
    raise Wrong("must be a tuple or a list, or text with commas", value)


def list_of(parse_item: Parse[str]) -> Parse[tuple[str, ...]]:
    """Return a reader of a list without repetitions."""
    return lambda value: tuple(dict.fromkeys(parse_item(item) for item in strings(value)))


def keys(value: object) -> tuple[str, ...]:
    """Read signing keys; a `str` is a single one."""
    found = tuple(text(key) for key in ((value,) if isinstance(value, str) else strings(value)))
    if not found or min(map(len, found)) < _KEY_LENGTH:
        raise Wrong(f"needs at least {_KEY_LENGTH} characters in each key: {KEY_MEND}", None)
    return found
