"""Keep a dict that many threads share from growing without end. Takes no lock."""

from __future__ import annotations

from itertools import islice
from typing import Any


def trim(kept: dict[Any, Any], limit: int) -> None:
    """Drop the oldest eighth when there are more than `limit` entries: one by one, each would cost a scan."""
    if len(kept) > limit:
        try:
            oldest = list(islice(kept, limit // 8))
        except RuntimeError:  # another thread is changing it: that one trims, too
            return
        for key in oldest:
            kept.pop(key, None)
