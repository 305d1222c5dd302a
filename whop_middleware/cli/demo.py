"""`whop-middleware demo`: an app behind the middleware and a stand-in for Whop. Listens on loopback only."""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from whop_middleware.apps import load
from whop_middleware.config import WhopConfig
from whop_middleware.errors import ConfigError

from .apps import middleware_config, wrap
from .servers import Stop, listening, serve, stopping_on_signals

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from whop_middleware.sandbox import Sandbox

    Commands = _SubParsersAction[argparse.ArgumentParser]

RECHECK_AFTER = 5
"""Seconds a verdict is believed in the demo: long enough to click, short enough to see a cancelled purchase bite."""


@dataclass(frozen=True, slots=True)
class Example:
    """An app of the repository's `examples`, with the purchases its pages need."""

    target: str
    title: str
    products: tuple[tuple[str, str], ...]
    require: Mapping[str, str | tuple[str, ...]]


EXAMPLES = {
    "starlette": Example(
        "examples.starlette_app.app:app",
        "Tidewater",
        (("prod_member", "Tidewater membership"), ("prod_captain", "Tidewater captain")),
        {"/vip/*": "prod_captain", "/*": ("prod_member", "prod_captain")},
    ),
    "flask": Example(
        "examples.flask_app.app:app",
        "Slow Loaf",
        (("prod_course", "Slow Loaf course"), ("prod_masterclass", "Slow Loaf masterclass")),
        {"/vip/*": "prod_masterclass", "/*": ("prod_course", "prod_masterclass")},
    ),
}


def add_command(commands: Commands) -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser(
        "demo",
        help="run an app behind the middleware against a stand-in for Whop",
        description="Run an app behind the middleware, and a stand-in for Whop with a Hub page where you choose who "
        "to be, buy and cancel. Nothing leaves this machine. Ctrl-C stops both.",
    )
    parser.add_argument(
        "--app",
        default="starlette",
        metavar="APP",
        help='"starlette" (default), "flask", or your own as module:attribute, ASGI or WSGI; '
        "your own WHOP_REQUIRE, WHOP_PUBLIC and so on are kept",
    )
    parser.add_argument("--no-wrap", action="store_true", help="your own app brings the middleware: add none around it")
    parser.add_argument(
        "--dialect",
        choices=("v5", "oauth21"),
        default="v5",
        help="which of Whop's APIs to speak: v5 (default), or today's OAuth 2.1 with app_... credentials",
    )
    parser.add_argument("--port", type=_port, default=0, help="the app's port (default: a free one)")
    parser.add_argument("--hub-port", type=_port, default=0, help="the Hub's port (default: a free one)")
    parser.add_argument(
        "--recheck-after",
        type=_seconds,
        default=RECHECK_AFTER,
        metavar="SECONDS",
        help="ask again this often whether someone still has their purchase (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"whole seconds from 1 on, not {text!r}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C or SIGTERM; return 0 then. Raises `ConfigError` when it cannot start."""
    try:
        with stopping_on_signals() as stop:
            status = _run(options, _sandbox(), stop)
    except KeyboardInterrupt:
        status = 0
    if status == 0:
        print("\nStopped.", flush=True)
    return status


def _sandbox() -> Sandbox:
    try:
        from whop_middleware.sandbox import Sandbox
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demo needs {error.name}, which is not installed: pip install 'whop-middleware[sandbox]'"
        ) from error
    return Sandbox()


def _run(options: argparse.Namespace, sandbox: Sandbox, stop: Stop) -> int:
    example = EXAMPLES.get(options.app)
    with listening(options.port) as listener, _serving(sandbox, options.hub_port) as hub:
        origin = f"http://{_other_name(hub)}:{listener.getsockname()[1]}"
        settings = demo_settings(hub, origin, dialect=options.dialect, recheck_after=options.recheck_after)
        apply_settings(os.environ, settings, example)
        app, config = _app(options, example)
        ids = config.required_ids
        products = example.products if example else products_for(ids)
        sandbox.add_app(
            client_id=settings["WHOP_CLIENT_ID"],
            client_secret=settings["WHOP_CLIENT_SECRET"],
            redirect_uris=(settings["WHOP_REDIRECT_URI"],),
            name=example.title if example else options.app,
            products=products,
            company_id=next((key for key in ids if key.startswith("biz_")), "biz_demo"),
            api_key=settings["WHOP_API_KEY"],
            experiences={key: products[0][0] for key in ids if key.startswith("exp_")},
        )
        print("\n".join(_welcome(options, example, hub, origin, config)), flush=True)
        _show_log()
        return serve(app, listener, stop)


@contextmanager
def _serving(sandbox: Sandbox, port: int) -> Iterator[str]:
    serving = sandbox.serve(port=port)
    try:
        hub = serving.__enter__()
    except OSError as error:
        raise ConfigError(f"port {port} cannot be had ({error.strerror}): name another with --hub-port") from error
    try:
        yield hub.rstrip("/")
    finally:
        serving.__exit__(None, None, None)


def _other_name(hub: str) -> str:
    """Return this machine's other name: cookies know no ports, so Hub and app need names of their own."""
    return "localhost" if urlsplit(hub).hostname == "127.0.0.1" else "127.0.0.1"


def demo_settings(hub: str, origin: str, *, dialect: str, recheck_after: int) -> dict[str, str]:
    """Return the `WHOP_*` variables that point the middleware at the stand-in; the credentials are made up anew."""
    return {
        "WHOP_CLIENT_ID": "app_demo" if dialect == "oauth21" else "demo",
        "WHOP_CLIENT_SECRET": secrets.token_urlsafe(24),
        "WHOP_REDIRECT_URI": f"{origin}/callback/whop",
        "WHOP_URL": hub,
        "WHOP_API_URL": hub,
        "WHOP_API_KEY": secrets.token_urlsafe(24),
        "WHOP_RECHECK_AFTER": str(recheck_after),
    }


def products_for(ids: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return what the Hub sells for an app that asks for these ids: its products, or one that opens all else."""
    return tuple((key, key) for key in ids if key.startswith("prod_")) or (("prod_demo", "Demo product"),)


def apply_settings(environ: MutableMapping[str, str], settings: Mapping[str, str], example: Example | None) -> None:
    """Put the settings into an environment; an example starts from none, an own app keeps the rest of its own."""
    stale = ("WHOP_APP_ID", "WHOP_DIALECT") if example is None else [key for key in environ if key.startswith("WHOP_")]
    for name in stale:
        environ.pop(name, None)
    environ.update(settings)
    environ.setdefault("WHOP_BUY_URL", settings["WHOP_URL"])
    if example is not None:
        environ["WHOP_REQUIRE"] = json.dumps(example.require)


def _app(options: argparse.Namespace, example: Example | None) -> tuple[Any, WhopConfig]:
    """Return the app with the middleware in or around it, and the settings that hold."""
    app = load(options.app, "--app ") if example is None else _load_example(example)
    config = middleware_config(app)
    if config is None and not options.no_wrap:
        app = wrap(app)
        config = middleware_config(app)
    return app, config or WhopConfig.from_env()


def _load_example(example: Example) -> Any:
    root = Path(__file__).resolve().parents[2]
    if not (root / "examples").is_dir():
        raise ConfigError(
            "the examples are not part of the installed package: run `make demo` in a clone of the repository, "
            "or show an app of your own with --app module:attribute"
        )
    try:
        return load(example.target, "--app ", str(root))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the example needs {error.name}, which is not installed: pip install flask jinja2 websockets"
        ) from error


def _welcome(
    options: argparse.Namespace, example: Example | None, hub: str, origin: str, config: WhopConfig
) -> Iterator[str]:
    title = example.title if example else options.app
    yield f"{title} behind whop-middleware ({options.dialect}), and a stand-in for Whop. Nothing leaves this machine."
    yield ""
    yield f"  1. Whop Hub   {hub}/"
    yield "                choose who to be, open the app, buy, cancel"
    yield f"  2. The app    {origin}/"
    yield ""
    if config.required_ids:
        yield f"Cancel a purchase in the Hub: {options.recheck_after} s later that buyer is turned away."
    else:
        yield "Being signed in is enough: with WHOP_REQUIRE=prod_... set, visitors need a purchase."
    yield "Ctrl-C stops both."
    yield ""


def _show_log() -> None:
    """Let people see what happens: sign-ins, denials, and why."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)-8s%(message)s")
    logging.getLogger("whop_middleware").setLevel(logging.INFO)
