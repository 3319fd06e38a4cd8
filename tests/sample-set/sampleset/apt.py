"""A private apt root for Debian trixie: resolves and fetches without touching the host's apt configuration."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = f"""\
deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie main
deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie-updates main
deb [signed-by={KEYRING}] http://deb.debian.org/debian-security trixie-security main
"""
_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


class Archive(NamedTuple):
    """A .deb that the resolver chose, as the signed index describes it."""

    file: str
    size: int
    sha256: str


class AptRoot:
    def __init__(self, root: Path, status: str = ""):
        """`status`: paragraphs of packages that count as installed already."""
        self.root = root
        for directory in ("etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "lists/partial", "archives/partial", "none/partial"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        (root / "etc/sources.list").write_text(SOURCES)
        (root / "status").write_text(status)
        self.config = root / "apt.conf"
        self.config.write_text(
            f"""\
Dir "{root}/";
Dir::Etc "{root}/etc";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "{root}/etc/apt.conf.d";
Dir::State "{root}";
Dir::State::status "{root}/status";
Dir::Cache "{root}";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::ForceHash "SHA256";
"""
        )

    def _apt_get(self, *arguments: str) -> str:
        command = ["apt-get", "-q", "-y", *arguments]
        environment = {"APT_CONFIG": str(self.config), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"apt-get {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def update(self):
        self._apt_get("update", "--error-on=any")

    def has_lists(self) -> bool:
        return any(self.root.glob("lists/*_Packages*"))

    def resolve(self, names: list[str]) -> list[Archive]:
        """What `names` and their dependencies are; nothing is fetched."""
        # apt lists only what it would have to fetch, so it looks at an archive directory that is always empty.
        out = self._apt_get("-o", f"Dir::Cache::archives={self.root}/none", "--print-uris", "install", *names)
        archives = [
            Archive(match["file"], int(match["size"]), match["sha256"])
            for match in map(_URI.match, out.splitlines())
            if match
        ]
        if len(archives) < len(names):
            raise RuntimeError(f"apt named {len(archives)} archives with SHA-256 for {len(names)} packages:\n{out}")
        return sorted(archives)

    def fetch(self, names: list[str], archives: list[Archive]) -> dict[str, Path]:
        """Paths of the .debs by file name, fetched if need be; apt checks them against the signed index."""
        paths = {archive.file: self.root / "archives" / archive.file for archive in archives}
        sizes = {archive.file: archive.size for archive in archives}
        if any(not path.exists() or path.stat().st_size != sizes[name] for name, path in paths.items()):
            self._apt_get("--download-only", "install", *names)
        missing = [name for name, path in paths.items() if not path.exists()]
        if missing:
            raise RuntimeError(f"apt did not fetch {', '.join(missing)}")
        return paths

    def resolve_and_fetch(self, names: list[str], update: bool) -> tuple[list[Archive], dict[str, Path]]:
        """Both, with fresh lists where `update` says so or the old ones do not lead anywhere any more."""
        fresh = update or not self.has_lists()
        if fresh:
            self.update()
        try:
            archives = self.resolve(names)
            return archives, self.fetch(names, archives)
        except RuntimeError:
            if fresh:
                raise
            self.update()
            archives = self.resolve(names)
            return archives, self.fetch(names, archives)
