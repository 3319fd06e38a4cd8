"""Reading a .deb through dpkg-deb: control fields, conffiles, and the data archive as a tar stream."""

import io
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path


def control_fields(text: str) -> dict[str, str]:
    """The first paragraph of a control file; continuation lines are kept with their newlines."""
    fields, last = {}, None
    for line in text.splitlines():
        if not line.strip():
            break
        if line[0] in " \t" and last:
            fields[last] += "\n" + line
        else:
            last, _, value = line.partition(":")
            fields[last] = value.strip()
    return fields


class Deb:
    def __init__(self, path: Path):
        self.path = path
        raw = subprocess.run(["dpkg-deb", "--ctrl-tarfile", str(path)], check=True, stdout=subprocess.PIPE).stdout
        self.members: dict[str, str] = {}
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            for info in tar:
                if info.isfile():
                    name = info.name.removeprefix("./")
                    self.members[name] = tar.extractfile(info).read().decode("utf-8", "replace")
        self.control = control_fields(self.members["control"])

    @property
    def name(self) -> str:
        return self.control["Package"]

    @property
    def version(self) -> str:
        return self.control["Version"]

    @property
    def conffiles(self) -> set[str]:
        """Absolute paths; `remove-on-upgrade` lines name files that the package no longer has."""
        lines = self.members.get("conffiles", "").splitlines()
        return {line.strip() for line in lines if line.startswith("/")}

    @contextmanager
    def data(self):
        """The data archive, to be read once from front to back."""
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(self.path)], stdout=subprocess.PIPE) as process:
            with tarfile.open(fileobj=process.stdout, mode="r|", encoding="utf-8") as tar:
                yield tar
            process.stdout.read()
        if process.returncode:
            raise RuntimeError(f"dpkg-deb could not read {self.path}")
