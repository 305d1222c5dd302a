"""The package's log lines: one logger, structured fields. Checks nothing: callers pass no code, token or cookie."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger("whop_middleware")


def report(level: int, message: str, *values: object, **fields: object) -> None:
    """Log a line; `fields` become attributes of the record, `user_id` as `whop_user_id`."""
    extra = {f"whop_{name}": value for name, value in fields.items()}
    logger.log(level, message, *values, extra=extra, stacklevel=2)


def new_reference() -> str:
    """Return the short id that a page shows and its log line carries."""
    return os.urandom(5).hex()
