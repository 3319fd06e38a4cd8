"""Sets that differ from the sample set in what a measurement is about: one package changed, or many more of them.

They are built and signed as the sample set itself is, with its key, and stay in the cache directory."""

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

SAMPLE_SET = Path(__file__).resolve().parents[2] / "tests/sample-set"
sys.path.insert(0, str(SAMPLE_SET))

from sampleset import convert, own, rpm  # noqa: E402
from sampleset.cache import cache_directory  # noqa: E402
from sampleset.deb import Deb  # noqa: E402
from sampleset.evr import Evr  # noqa: E402
from sampleset.relations import Closure, Relations  # noqa: E402
from sampleset.spec import Entry, Package, _file_name  # noqa: E402

KEY_FILE = "RPM-GPG-KEY-hullwright-sample"
SMALL = "jq"
KERNEL = "linux-image-"
# Of a file made of many.
BIG_FILE = 128 << 20


class Variants:
    def __init__(self, sample: Path):
        self.sample = sample
        mine = b"".join(path.read_bytes() for path in (Path(__file__), sample / ".made-from.json"))
        self.shelf = cache_directory() / "bench-sets" / hashlib.sha256(mine).hexdigest()[:16]
        self.shelf.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[Path]:
        return sorted(self.sample.glob("*.rpm"))

    def _complete(self, name: str, fill) -> Path:
        """The directory `name` of the shelf, filled by `fill` where it is not there yet."""
        final = self.shelf / name
        if not final.exists():
            print(f"making {name} …", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=self.shelf, prefix=".making-") as work:
                new = Path(work) / "set"
                new.mkdir()
                fill(new, Path(work))
                new.rename(final)
        return final

    def changed(self, name: str) -> Path:
        """The set with one package changed: "small" in one program, "kernel" in every module and the kernel itself."""

        def fill(new: Path, work: Path):
            cache = cache_directory()
            debs = [Deb(cache / "apt/archives" / line) for line in (self.sample / "debs.txt").read_text().split()]
            owns = own.load(SAMPLE_SET / "own")
            wanted = (lambda deb: deb.name == SMALL) if name == "small" else (
                lambda deb: deb.name.startswith(KERNEL) and not deb.name.startswith(KERNEL + "cloud")
            )  # fmt: skip
            (deb,) = filter(wanted, debs)
            relations = Closure(debs, {each.name: each.provides for each in owns}).of(deb)
            shared = {path for each in owns for path in each.directories}
            staged = work / "staged"
            package = convert.convert(deb, staged, relations, shared)
            files = sorted(path for path in staged.rglob("*") if path.is_file() and not path.is_symlink())
            if name == "small":
                files = [path for path in files if "/usr/bin/" in str(path)]
            with ProcessPoolExecutor() as pool:
                list(pool.map(_change, files, chunksize=16))
            signer = rpm.Signer(cache / "sample-key")
            try:
                built = rpm.build(package, work, staged)
                signer.sign(built)
            finally:
                signer.close()
            for path in self.names():
                if path.name != built.name:
                    os.link(path, new / path.name)
            if not (self.sample / built.name).exists():
                raise RuntimeError(f"{built.name} is no package of the sample set")
            shutil.move(built, new / built.name)
            shutil.copyfile(self.sample / KEY_FILE, new / KEY_FILE)

        return self._complete(name, fill)

    def more_packages(self, times: int) -> Path:
        """The set, and its packages `times - 1` times again: other names, other places, other contents."""
        return self._several("packages", times, self._copies)

    def bigger_files(self, times: int) -> Path:
        """The set, and its bytes `times - 1` times again in files of 128 MiB."""
        return self._several("bytes", times, self._big)

    def _several(self, name: str, times: int, make) -> Path:
        parts = [self._complete(f"{name}-copy-{copy}", lambda new, work, copy=copy: make(new, work, copy)) for copy in range(1, times)]

        def fill(new: Path, _work: Path):
            for directory in (self.sample, *parts):
                for path in directory.glob("*.rpm"):
                    os.link(path, new / path.name)
            shutil.copyfile(self.sample / KEY_FILE, new / KEY_FILE)

        return self._complete(f"{name}-{times}", fill)

    def _copies(self, new: Path, _work: Path, copy: int):
        signer = rpm.Signer(cache_directory() / "sample-key")
        try:
            with ProcessPoolExecutor() as pool:
                list(pool.map(_copy_of, ((path, copy, new, signer) for path in self.names()), chunksize=1))
        finally:
            signer.close()

    def _big(self, new: Path, work: Path, copy: int):
        staged = work / "staged"
        place = staged / f"usr/lib/bench/big-{copy}"
        place.mkdir(parents=True)
        number, out = 0, None
        for path in self.names():
            with tempfile.TemporaryDirectory(dir=work) as unpacked:
                _unpack(path, Path(unpacked))
                for file in sorted(Path(unpacked).rglob("*")):
                    if file.is_symlink() or not file.is_file():
                        continue
                    if out is None or out.tell() > BIG_FILE:
                        number += 1
                        out = open(place / f"part-{number:03}", "wb")
                        out.write(b"%8d" % copy)
                    out.write(file.read_bytes())
        out.close()
        _package(f"bench-big-{copy}", staged, work, new, None)


def _change(path: Path):
    """Other contents of the same kind and size, or nearly."""
    data = path.read_bytes()
    if path.name.endswith(".ko.xz"):
        data = lzma.compress(lzma.decompress(data) + b"changed\n", check=lzma.CHECK_CRC32)
    elif path.name == "vmlinuz":
        at = len(data) * 3 // 4
        data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    elif path.name in ("System.map", "config"):
        return
    else:
        data += b"changed\n"
    path.write_bytes(data)


def _unpack(path: Path, root: Path):
    command = 'rpm2cpio "$1" | cpio -idmu --quiet --no-absolute-filenames'
    subprocess.run(["sh", "-c", command, "sh", path], cwd=root, check=True, env=os.environ | {"LC_ALL": "C"})


def _copy_of(job):
    """A copy of one package, elsewhere."""
    path, copy, new, signer = job
    with tempfile.TemporaryDirectory(dir=new.parent, prefix="copy-") as name:
        work = Path(name)
        staged = work / "staged"
        place = staged / f"usr/lib/bench/copy-{copy}"
        place.mkdir(parents=True)
        _unpack(path, place)
        for file in place.rglob("*"):
            if file.is_file() and not file.is_symlink() and file.stat().st_nlink == 1 and file.stat().st_size:
                with open(file, "ab") as out:
                    out.write(b"%8d" % copy)
        _package(f"bench-{copy}-{path.name.split('-')[0]}-{hashlib.sha256(path.name.encode()).hexdigest()[:8]}", staged, work, new, signer)


def _package(name: str, staged: Path, work: Path, new: Path, signer):
    """Builds and signs a package of what is staged, into `new`."""
    entries = []
    for path in sorted(staged.rglob("*")):
        inside = "/" + str(path.relative_to(staged))
        if path.is_symlink():
            entries.append(Entry(inside, "link", 0o777, "root", "root"))
        elif path.is_dir():
            path.chmod(0o755)
            if inside.startswith("/usr/lib/bench"):
                entries.append(Entry(inside, "dir", 0o755, "root", "root"))
        elif path.is_file():
            try:
                _file_name(inside)
            except ValueError:
                path.unlink()
                continue
            entries.append(Entry(inside, "file", 0o755 if path.stat().st_mode & 0o100 else 0o644, "root", "root"))
    about = "A copy that makes a set larger"
    package = Package(name, Evr("", "1", "1"), True, about, about, "MIT", "", Relations(), entries, [], own.TIME)
    built = rpm.build(package, work, staged)
    own_signer = None
    if signer is None:
        signer = own_signer = rpm.Signer(cache_directory() / "sample-key")
    try:
        signer.sign(built)
    finally:
        if own_signer:
            own_signer.close()
    shutil.move(built, new / built.name)
