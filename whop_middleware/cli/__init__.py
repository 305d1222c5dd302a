"""The `whop-middleware` command: demo, check, explain. Prints no secret, changes no file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from whop_middleware.errors import ConfigError

from . import check, demo, explain

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 all is well, 1 something is wrong, 2 the command line is."""
    parser = _parser()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] | None = getattr(options, "run", None)
    if run is None:
        parser.print_help()
        return 2
    try:
        return run(options)
    except ConfigError as error:
        print(f"whop-middleware: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whop-middleware",
        description="Sign in with Whop around any Python web app: see it run, check your settings, explain a path.",
        epilog="Settings come from WHOP_* environment variables. `whop-middleware COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo.add_command(commands)
    check.add_command(commands)
    explain.add_command(commands)
    return parser


def _version() -> str:
    from whop_middleware import __version__

    return __version__
