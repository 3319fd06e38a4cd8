"""Files that Debian's maintainer scripts make out of what packages ship."""

import re
import tempfile
from pathlib import Path

from . import trixie
from .deb import Deb


def read(deb: Deb, wanted) -> dict[str, bytes]:
    """Contents by absolute path of the regular files that `wanted` accepts."""
    found = {}
    with deb.data() as tar:
        for info in tar:
            path = "/" + info.name.removeprefix("./")
            if info.isreg() and wanted(path):
                found[path] = tar.extractfile(info).read()
    return found


def accounts(debs: dict[str, Deb]) -> dict[str, bytes]:
    """passwd, group and their shadows from base-passwd's masters; every account is locked."""
    masters = read(debs["base-passwd"], lambda path: path.endswith(".master"))
    users = [line.split(":") for line in masters["/usr/share/base-passwd/passwd.master"].decode().splitlines()]
    groups = [line.split(":") for line in masters["/usr/share/base-passwd/group.master"].decode().splitlines()]
    for user in users:
        user[1] = "x"
    for group in groups:
        group[1] = "x"

    def table(rows):
        return "".join(":".join(row) + "\n" for row in rows).encode()

    return {
        "/etc/passwd": table(users),
        "/etc/group": table(groups),
        # Without the day of the last change, which Debian takes from the clock: an empty field disables ageing.
        "/etc/shadow": table([user[0], "!*", "", "", "", "", "", "", ""] for user in users),
        "/etc/gshadow": table([group[0], "*", "", ""] for group in groups),
    }


def ca_bundle(debs: dict[str, Deb]) -> dict[str, bytes]:
    """What update-ca-certificates makes: all of Mozilla's roots, in the order of their names."""
    roots = read(debs["ca-certificates"], lambda path: path.startswith("/usr/share/ca-certificates/") and path.endswith(".crt"))
    if not roots:
        raise ValueError("ca-certificates ships no certificate where it used to")
    ends_in_newline = [roots[path].rstrip(b"\n") + b"\n" for path in sorted(roots)]
    return {"/etc/ssl/certs/ca-certificates.crt": b"".join(ends_in_newline)}


def hardware_database(debs: dict[str, Deb]) -> dict[str, bytes]:
    """hwdb.bin as udev's script makes it; without it, the first boot would spend its time on that."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        # The list of checksums says what a package has without unpacking it.
        for deb in (deb for deb in debs.values() if "usr/lib/udev/hwdb.d/" in deb.members.get("md5sums", "")):
            for path, data in read(deb, lambda path: path.startswith("/usr/lib/udev/hwdb.d/")).items():
                target = Path(name) / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        trixie.run("systemd-hwdb", "--usr", f"--root={name}", "update")
        data = (Path(name) / "usr/lib/udev/hwdb.bin").read_bytes()
        # It names its sources with our temporary directory in front: the names move forward, zeros follow them.
        inside = re.compile(re.escape(name.encode()) + rb"(/usr/lib/udev/hwdb\.d/[^\0]*)\0")
        data = inside.sub(lambda match: match[1].ljust(len(match[0]), b"\0"), data)
        if name.encode() in data:
            raise RuntimeError("hwdb.bin names the directory it was made in")
        return {"/usr/lib/udev/hwdb.bin": data}
