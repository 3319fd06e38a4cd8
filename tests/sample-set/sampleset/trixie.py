"""Programs of trixie itself, for what maintainer scripts would have them make. `trixie-tools` unpacks them."""

import subprocess
from pathlib import Path

from .cache import cache_directory


def program(name: str) -> Path:
    path = cache_directory() / "trixie-tools/bin" / name
    if not path.exists():
        raise RuntimeError(f"{path} is missing; run tests/setup first")
    return path


def run(name: str, *arguments: str):
    done = subprocess.run([program(name), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed ({done.returncode}):\n{done.stdout}")


def byte_compile(root: Path, directories: list[Path]):
    """`__pycache__` beside the modules under `directories`, with their paths as they will be in the image."""
    # Files of an image are not changed, and ostree keeps no times: neither times nor sources are worth checking at import.
    mode = ["--invalidation-mode", "unchecked-hash"]
    run("python3.13", "-sB", "-m", "compileall", "-q", "-f", *mode, "-s", str(root), "-p", "/", *map(str, directories))
