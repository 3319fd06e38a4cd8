"""The spec file of a package whose files already lie in a staged root."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .evr import NATIVE_RELEASE, Evr

VENDOR = "Hullwright sample set"


@dataclass(frozen=True)
class Entry:
    """One path of a package."""

    path: str
    kind: str  # "file", "dir" or "link"
    mode: int
    user: str
    group: str
    config: bool = False
    licence: bool = False
    caps: str = ""


@dataclass
class Relations:
    """Ready for a spec: `name`, or `name op evr`."""

    requires: list[str] = field(default_factory=list)
    provides: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    obsoletes: list[str] = field(default_factory=list)


@dataclass
class Package:
    name: str
    evr: Evr
    noarch: bool
    summary: str
    description: str
    licence: str
    url: str
    relations: Relations
    entries: list[Entry]
    changelog: list[tuple[int, str, str, list[str]]]  # seconds, author, version, lines
    epoch_seconds: int  # newest time of any file: build time, and the limit of all times

    @property
    def arch(self) -> str:
        return "noarch" if self.noarch else "x86_64"

    @property
    def release(self) -> str:
        return self.evr.release or NATIVE_RELEASE

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.evr.version}-{self.release}.{self.arch}.rpm"


def _text(text: str) -> str:
    return text.replace("%", "%%")


def _file_name(path: str) -> str:
    """A path as a %files line wants it. Only a name that rpm would take for a glob is escaped, since rpm takes
    other names as they are, backslashes included; in a glob it halves backslashes twice."""
    if re.search(r"\{.*\}", path) or set(path) & set('"\n'):
        raise ValueError(f"a spec has no way to name {path!r}")
    if re.search(r"[*?]|\[.*\]", path):
        path = re.sub(r"[\[\]*?\\]", lambda match: "\\" * 4 if match[0] == "\\" else f"[{match[0]}]", path)
    return '"' + _text(path) + '"'


def _file_line(entry: Entry) -> str:
    mode = "-" if entry.kind == "link" else f"{entry.mode:04o}"
    words = [f"%attr({mode}, {entry.user}, {entry.group})"]
    if entry.caps:
        words.append(f"%caps({entry.caps})")
    if entry.kind == "dir":
        words.append("%dir")
    if entry.config:
        words.append("%config(noreplace)")
    if entry.licence:
        words.append("%license")
    return " ".join(words + [_file_name(entry.path)])


def _changelog(package: Package) -> list[str]:
    lines, before = [], None
    for seconds, author, version, changes in package.changelog:
        when = datetime.fromtimestamp(seconds, timezone.utc)
        # rpmbuild refuses a changelog that is not in order; a few Debian ones are not.
        if before is not None and when.date() > before:
            break
        before = when.date()
        # Written by hand: strftime would follow the locale.
        day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[when.weekday()]
        month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[when.month - 1]
        lines.append(f"* {day} {month} {when.day:02} {when.year} {_text(author)} - {version}")
        lines += [_text(change) for change in changes]
        lines.append("")
    return lines


def render(package: Package, staged: str) -> str:
    """The whole spec; %install moves the staged root into place."""
    lines = [
        f"Name: {package.name}",
        *([f"Epoch: {package.evr.epoch}"] if package.evr.epoch else []),
        f"Version: {package.evr.version}",
        f"Release: {package.release}",
        f"Summary: {_text(package.summary)}",
        f"License: {_text(package.licence)}",
        *([f"URL: {_text(package.url)}"] if package.url else []),
        f"Vendor: {VENDOR}",
        *(["BuildArch: noarch"] if package.noarch else []),
        "AutoReqProv: no",
    ]
    for tag in ("requires", "provides", "conflicts", "obsoletes"):
        lines += [f"{tag.capitalize()}: {text}" for text in getattr(package.relations, tag)]
    # At the start of a line, `%` would be a section even if doubled, and `#` a comment, whatever blanks precede.
    description = re.sub(r"^[ \t]*([%#])", r"- \1", package.description or package.summary, flags=re.M)
    lines += ["", "%description", _text(description), ""]
    lines += ["%install", "rm -rf %{buildroot}", f"mv {staged} %{{buildroot}}", ""]
    lines += ["%files", *map(_file_line, package.entries), ""]
    if package.changelog:
        lines += ["%changelog", *_changelog(package)]
    return "\n".join(lines) + "\n"
