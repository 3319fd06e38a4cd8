"""Packages of the sample's own: a `package.toml` and the files beside it under `own/<name>/`.

    [links]        path = target
    [copies]       path = "package:/path"        files of fetched .debs
    [modes]        path = "0640 root:shadow"     of files, generated ones included
    [directories]  path = "1777 root:root"       directories that the package owns

Files lie under `root/` as they will in the image. Whatever is not under /usr or /var is configuration,
`%config(noreplace)`. `generate` names a function of `generated.py` that makes more files from the fetched .debs.
"""

import os
import tomllib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from . import generated
from .deb import Deb
from .evr import Evr
from .spec import Entry, Package, Relations

# Files of our own have no history of times; they take the set's.
TIME = int(datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp())
_KEYS = {"summary", "description", "version", "requires", "provides", "generate", "copies", "links", "modes", "directories"}


@dataclass
class Own:
    name: str
    directory: Path
    definition: dict

    @property
    def provides(self) -> list[str]:
        return self.definition.get("provides", [])

    @property
    def requires(self) -> list[str]:
        return sorted(self.definition.get("requires", []))

    @property
    def directories(self) -> dict[str, str]:
        return self.definition.get("directories", {})

    def stage(self, root: Path, debs: dict[str, Deb]) -> Package:
        """Put everything under the new directory `root` and describe it."""
        root.mkdir()
        files = self._files(debs)
        modes = self.definition.get("modes", {})
        unknown = sorted(set(modes) - set(files))
        if unknown:
            raise ValueError(f"own/{self.name}/package.toml: [modes] names {unknown[0]}, which the package does not have")
        entries = []
        for path, (data, executable) in files.items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            entries.append(_entry(path, "file", modes.get(path, "0755" if executable else "0644")))
        for path, to in self.definition.get("links", {}).items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(to)
            entries.append(_entry(path, "link", "0777"))
        for path, mode in self.directories.items():
            (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
            entries.append(_entry(path, "dir", mode))
        for place, names, more in os.walk(root):
            for name in names + more:
                os.utime(Path(place) / name, (TIME, TIME), follow_symlinks=False)
        entries.sort(key=lambda entry: entry.path)
        return Package(
            name=self.name,
            evr=Evr("", str(self.definition["version"]), "1"),
            noarch=True,
            summary=self.definition["summary"],
            description=self.definition.get("description", self.definition["summary"]).strip(),
            licence="LicenseRef-see-source-package" if {"generate", "copies"} & set(self.definition) else "MIT OR Apache-2.0",
            url="",
            relations=Relations(requires=self.requires, provides=sorted(self.provides)),
            entries=entries,
            changelog=[],
            epoch_seconds=TIME,
        )

    def _files(self, debs: dict[str, Deb]) -> dict[str, tuple[bytes, bool]]:
        """Contents by path, and whether the file is executable."""
        top = self.directory / "root"
        files = {}
        for path in sorted(top.rglob("*")):
            if path.is_file():
                files["/" + str(path.relative_to(top))] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path, source in self.definition.get("copies", {}).items():
            package, _, inside = source.partition(":")
            files[path] = (generated.read(debs[package], lambda name, inside=inside: name == inside)[inside], False)
        name = self.definition.get("generate")
        if name:
            made = getattr(generated, name)(debs)
            files |= {path: (data, False) for path, data in made.items()}
        return files


def _entry(path: str, kind: str, text: str) -> Entry:
    mode, _, owner = text.partition(" ")
    user, _, group = (owner or "root:root").partition(":")
    config = kind == "file" and not path.startswith(("/usr/", "/var/"))
    return Entry(path=path, kind=kind, mode=int(mode, 8), user=user, group=group, config=config)


def load(directory: Path) -> list[Own]:
    found = []
    for path in sorted(directory.glob("*/package.toml")):
        definition = tomllib.loads(path.read_text())
        unknown = sorted(set(definition) - _KEYS)
        if unknown:
            raise ValueError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
        found.append(Own(path.parent.name, path.parent, definition))
    return found
