"""Where everything that can be made again lies: outside the clone."""

import os
from pathlib import Path


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HULLWRIGHT_CACHE") or Path(base) / "hullwright")
