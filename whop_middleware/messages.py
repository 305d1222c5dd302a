"""What the core hears and says: a Request in, a Forward or a Reply out, and what it may ask for on the way.

Plain frozen values. Performs no I/O and decides nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

from .user import WhopUser

if TYPE_CHECKING:
    import httpx


# All of visible ASCII but the backslash, which browsers leave alone in a query and some take for a slash.
_QUERY = "".join(map(chr, range(0x21, 0x7F))).replace("\\", "")

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP or WebSocket request as the app would receive it.

    `path` is decoded and lies below `prefix` (`root_path`, `SCRIPT_NAME`); `query` is raw. Header names are lower-case.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    query: str = ""
    scheme: str = "http"
    websocket: bool = False

    def header(self, name: str) -> str | None:
        """Return the first value of a header, `None` when it is not there."""
        return next((value for key, value in self.headers if key == name), None)

    def all_headers(self, name: str) -> tuple[str, ...]:
        """Return every value of a header, in order."""
        return tuple(value for key, value in self.headers if key == name)

    @property
    def cookies(self) -> bytes:
        """Return the `Cookie` header as bytes; several become one (RFC 9113 section 8.2.3)."""
        return "; ".join(self.all_headers("cookie")).encode("latin-1", "replace")

    @property
    def target(self) -> str:
        """Return the path and query asked for, percent-encoded, below the prefix."""
        path = quote(self.path, safe="/:@!$&'()*+,;=~", errors="replace")
        return f"{path}?{quote(self.query.encode('latin-1', 'replace'), safe=_QUERY)}" if self.query else path


class Forward(NamedTuple):
    """Let the app answer. `user` goes to the app; the rest says what becomes of its answer.

    `set_cookies` are `Set-Cookie` values to add. `public` is true on a public path, whose caching is left to the app.
    `preflight` is true when a stranger's question about CORS is passed on: of the answer only the headers go out.
    """

    user: WhopUser | None
    set_cookies: tuple[str, ...] = ()
    public: bool = False
    preflight: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer in the app's place. `headers` are (name, value) pairs, complete but for `Content-Length`."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def with_headers(self, *headers: tuple[str, str]) -> Reply:
        """Return the reply with these headers in place of others of their names."""
        names = {name for name, _ in headers}
        kept = tuple(pair for pair in self.headers if pair[0] not in names)
        return Reply(self.status, (*kept, *headers), self.body)

    def with_cookies(self, cookies: Iterable[str]) -> Reply:
        """Return the reply with more `Set-Cookie` headers."""
        return Reply(self.status, (*self.headers, *(("Set-Cookie", value) for value in cookies)), self.body)


@dataclass(frozen=True, slots=True)
class Once:
    """Ask the driver to run `flow` once for all who ask with this `key` at the same time, and share its result."""

    key: Hashable
    flow: Flow[Any]


@dataclass(frozen=True, slots=True)
class Together:
    """Ask the driver to run `flows` (at the same time where it can) and give back their results in order."""

    flows: tuple[Flow[Any], ...]


Ask: TypeAlias = "httpx.Request | Once | Together"
"""What a flow may yield. A request is answered with a read `httpx.Response`, or by an error raised in the flow."""

Flow: TypeAlias = Generator[Any, Any, ResultT]
