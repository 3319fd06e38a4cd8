"""One .deb into one staged root and the package that describes it."""

import os
import shutil
import tarfile
from pathlib import Path

from . import adjust, changelog, licence, trixie
from .deb import Deb
from .evr import evr
from .spec import Entry, Package, Relations


def _parents(target: Path):
    target.parent.mkdir(parents=True, exist_ok=True)


class _Stage:
    """Unpacks a data archive as an ordinary user: owners and modes go into entries, not onto the disk."""

    def __init__(self, deb: Deb, root: Path, shared_directories: set[str]):
        self.deb, self.root, self.shared = deb, root, shared_directories
        self.entries: list[Entry] = []
        self.directory_times: list[tuple[Path, int]] = []
        self.newest = 0
        self.kernel_release: str | None = None
        self.copyright: bytes | None = None
        self.changelogs: dict[str, bytes] = {}

    def add(self, tar: tarfile.TarFile, info: tarfile.TarInfo):
        source = "/" + info.name.removeprefix("./").strip("/")
        self.newest = max(self.newest, int(info.mtime))
        path = adjust.place(self.deb.name, source)
        if source in ("/", "/.") or path is None:
            return
        self.kernel_release = self.kernel_release or adjust.kernel_release(source)
        target = self.root / path.lstrip("/")
        if info.isdir():
            target.mkdir(parents=True, exist_ok=True)
            self.directory_times.append((target, int(info.mtime)))
            if path in self.shared:
                return
            kind = "dir"
        elif info.issym():
            _parents(target)
            target.symlink_to(info.linkname)
            kind = "link"
        elif info.islnk():
            first = adjust.place(self.deb.name, "/" + info.linkname.removeprefix("./").lstrip("/"))
            _parents(target)
            os.link(self.root / first.lstrip("/"), target)
            kind = "file"
        elif info.isreg():
            _parents(target)
            with open(target, "wb") as out:
                shutil.copyfileobj(tar.extractfile(info), out, 1 << 20)
            target.chmod(0o600 | (info.mode & 0o111))
            self._remember(path, target)
            kind = "file"
        else:
            raise ValueError(f"{self.deb.name}: {path} is neither a file, a directory nor a link")
        os.utime(target, (int(info.mtime),) * 2, follow_symlinks=False)
        self.entries.append(self._entry(info, path, kind))

    def _entry(self, info: tarfile.TarInfo, path: str, kind: str) -> Entry:
        return Entry(
            path=path,
            kind=kind,
            mode=info.mode & 0o7777,
            user=info.uname or str(info.uid),
            group=info.gname or str(info.gid),
            config=path in self.deb.conffiles,
            licence=kind == "file" and path == f"/usr/share/doc/{self.deb.name}/copyright",
            caps=adjust.CAPABILITIES.get((self.deb.name, path), ""),
        )

    def _remember(self, path: str, target: Path):
        if path == f"/usr/share/doc/{self.deb.name}/copyright":
            self.copyright = target.read_bytes()
        for name in ("changelog.Debian.gz", "changelog.gz"):
            if path == f"/usr/share/doc/{self.deb.name}/{name}":
                self.changelogs[name] = target.read_bytes()

    def byte_compile(self):
        """What Debian's scripts do at installation and other distributions at the build."""
        sources = [entry.path for entry in self.entries if entry.kind == "file" and adjust.is_python_module(entry.path)]
        if not sources:
            return
        tops = sorted({self.root / "/".join(path.split("/")[1:4]) for path in sources})
        trixie.byte_compile(self.root, tops)
        known = {entry.path for entry in self.entries}
        for directory, _, names in os.walk(self.root):
            if Path(directory).name != "__pycache__":
                continue
            path = "/" + str(Path(directory).relative_to(self.root))
            if path not in known:
                self.entries.append(Entry(path, "dir", 0o755, "root", "root"))
                self.directory_times.append((Path(directory), self.newest))
            for name in names:
                os.utime(Path(directory) / name, (self.newest, self.newest))
                self.entries.append(Entry(f"{path}/{name}", "file", 0o644, "root", "root"))

    def finish(self):
        # Deepest first: writing into a directory has changed its time.
        for target, seconds in sorted(self.directory_times, reverse=True):
            os.utime(target, (seconds, seconds))
        self.entries.sort(key=lambda entry: entry.path)


def convert(deb: Deb, root: Path, relations: Relations, shared_directories: set[str]) -> Package:
    """Unpack `deb` into the new directory `root` and describe it."""
    root.mkdir()
    stage = _Stage(deb, root, shared_directories)
    with deb.data() as tar:
        for info in tar:
            stage.add(tar, info)
    stage.byte_compile()
    stage.finish()
    version = evr(deb.version)
    if stage.kernel_release:
        # As a name: a kernel release of Debian's has one dash too many for a version of RPM's.
        relations.provides += [f"kernel = {version}", f"kernel-uname-r({stage.kernel_release})"]
    summary, _, description = deb.control.get("Description", deb.name).partition("\n")
    log = stage.changelogs.get("changelog.Debian.gz") or stage.changelogs.get("changelog.gz") or b""
    copyright_file = stage.copyright.decode("utf-8", "replace") if stage.copyright else None
    return Package(
        name=deb.name,
        evr=version,
        noarch=deb.control["Architecture"] == "all",
        summary=summary,
        description="\n".join("" if line.strip() == "." else line.strip() for line in description.splitlines()),
        licence=licence.tag(copyright_file),
        url=deb.control.get("Homepage", ""),
        relations=relations,
        entries=stage.entries,
        changelog=changelog.parse(log),
        epoch_seconds=stage.newest,
    )
