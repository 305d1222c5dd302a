"""What importing costs (ms over the bare interpreter) and what forged cookies leave behind (bytes)."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import tracemalloc

from whop_middleware.sessions import Sessions

from .hot_path import CONFIG

# An installed package has its bytecode beside it.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
RUNS = 21
FORGED = 200_000


def import_time(statement: str) -> float:
    """Return the seconds that a fresh interpreter takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=_ENVIRONMENT)
    return time.perf_counter() - began


def forged_cookies() -> int:
    """Return the bytes that so many distinct forged cookies leave allocated."""
    sessions, at = Sessions(CONFIG), time.time()
    name = sessions.name(True)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(FORGED):
        sessions.find(f"{name}={number:0200d}.{'A' * 43}".encode(), True, at)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


def main() -> None:
    """Print the figures."""
    times = [(import_time("pass"), import_time("import whop_middleware")) for _ in range(RUNS)]
    added = statistics.median(ours for _, ours in times) - statistics.median(bare for bare, _ in times)
    print(f"import whop_middleware                        {added * 1000:10.1f} ms  (target: at most 25 ms)")
    print(f"{FORGED:,} forged cookies leave                  {forged_cookies():10,} bytes  (target: at most 2 MiB)")


if __name__ == "__main__":
    main()
