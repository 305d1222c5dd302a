"""What a setting is: its names, default, help and reader. Opens nothing, and never shows a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from whop_middleware.errors import ConfigError

from .values import Parse, Wrong, strings

T = TypeVar("T")
GivenAs = TypeVar("GivenAs")
KeptAs = TypeVar("KeptAs")

_SHOWN_LIMIT = 80
# What a value in a wrong place may give away: Whop's secrets and API keys, and passwords in URLs.
_MAY_BE_SECRET = re.compile(r"apik_|:[^:@]*@")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting as people meet it: its name, its variables, what holds without it, and how a value is read.

    `default_text` and `help` are Markdown. A `str` for a `secret` is never shown. With `splits_variable` the variable
    is a list split at commas, although a `str` option is a single value.
    """

    name: str
    variable: str
    fallback: str | None
    default: object
    default_text: str
    help: str
    secret: bool
    splits_variable: bool
    parse: Parse[object]

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the variables that set it; the first that is not empty counts."""
        return (self.variable,) if self.fallback is None else (self.variable, self.fallback)

    def read(self, value: object) -> object:
        """Return the value in the form the package keeps; `None` is the default. Raises `ConfigError`."""
        given = self.default if value is None else value
        return None if given is None else self.check(self.parse, given)

    def check(self, question: Callable[..., T], *values: object, **more: object) -> T:
        """Return `question`'s answer, its `Wrong` turned into the `ConfigError` that names this setting."""
        try:
            return question(*values, **more)
        except Wrong as wrong:
            raise self.error(str(wrong), wrong.value) from None

    def read_variable(self, environ: Mapping[str, str]) -> object:
        """Return what the environment says, not yet read; `None` when it says nothing."""
        text = next((text for name in self.variables if (text := environ.get(name, "").strip())), None)
        return strings(text) if text is not None and self.splits_variable else text

    def error(self, message: str, value: object = None) -> ConfigError:
        """Return the error that names the setting and its variable; the value is shown unless it may be secret."""
        shown = "" if self.secret else _shown(value)
        return ConfigError(f"{self.name} ({', else '.join(self.variables)}) {message}{shown}")


def _shown(value: object) -> str:
    if value is None or (isinstance(value, str) and (not value or _MAY_BE_SECRET.search(value))):
        return ""
    if not isinstance(value, str | int | float):
        return f" (got a value of type {type(value).__name__})"
    if isinstance(value, int) and value.bit_length() > _SHOWN_LIMIT:
        return " (got a very large number)"
    text = ascii(value)
    return f" (got {text if len(text) <= _SHOWN_LIMIT else f'{text[:_SHOWN_LIMIT]}…'})"


def setting(
    variable: str,
    parse: Parse[object],
    help: str,
    *,
    default: object = None,
    documented: str | None = None,
    unit: str = "",
    secret: bool = False,
    fallback: str | None = None,
    splits_variable: bool = False,
    hashed: bool = True,
) -> Any:
    """Return a dataclass field that is a setting; its metadata are `Setting`'s fields."""
    shown = f'"{default}"' if isinstance(default, str) else default
    metadata = {
        "variable": variable,
        "fallback": fallback,
        "default": default,
        "default_text": documented or f"`{shown}`{unit}",
        "help": help,
        "secret": secret,
        "splits_variable": splits_variable,
        "parse": parse,
    }
    return field(default=default, repr=not secret, hash=hashed, metadata=metadata)


class Converted(Generic[GivenAs, KeptAs]):
    """Tell type checkers that a field is given as one type and kept as another (a descriptor-typed dataclass field)."""

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: object = None) -> KeptAs: ...
        def __set__(self, instance: object, value: GivenAs) -> None: ...
