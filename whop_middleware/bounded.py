"""Keep a dict that many threads share from growing without end. Takes no lock."""

from __future__ import annotations

from typing import Any


def trim(kept: dict[Any, Any], limit: int) -> None:
    """Drop the oldest entries until at most `limit` are left."""
    while len(kept) > limit:
        try:
            kept.pop(next(iter(kept)), None)
        except (RuntimeError, StopIteration):  # another thread is changing it: that one trims, too
            return
