"""mkosi, the newest that Debian has, building a comparable image: the .debs that the sample set was made of, /usr as erofs under
dm-verity, a UKI, a GPT disk. It takes no RPMs whose distribution it does not know, so it gets the same package list; its package
cache is filled by a first run that is not measured.

mkosi and the tools it calls are trixie's, unpacked in the cache directory and entered as a root of their own: nothing is installed on the host."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from measure import Run, measure
from variants import SAMPLE_SET  # noqa: F401  (puts the sample set's modules in reach)

from sampleset.apt import AptRoot, KEYRING  # isort: skip
from sampleset.cache import cache_directory

TOOLS = [
    "mkosi", "apt", "dpkg", "python3", "coreutils", "bash", "dash", "sed", "grep", "findutils", "tar", "gzip", "xz-utils", "zstd", "cpio",
    "mount", "util-linux", "kmod", "systemd", "systemd-repart", "systemd-ukify", "systemd-boot", "systemd-boot-efi", "systemd-container",
    "udev", "cryptsetup-bin", "erofs-utils", "e2fsprogs", "dosfstools", "mtools", "fdisk", "debian-archive-keyring", "ca-certificates",
    "libcryptsetup12", "libblkid1", "libfdisk1", "python3-pefile", "binutils", "passwd", "login", "base-passwd", "base-files", "openssl", "uidmap",
    "libtss2-esys-3.0.2-0t64", "libtss2-rc0t64", "libtss2-mu-4.0.1-0t64", "hostname", "diffutils", "debianutils", "libc-bin",
    "perl-base", "gpgv", "sqv",
]  # fmt: skip
CONFIGURATION = """\
[Distribution]
Distribution=debian
Release=trixie
Repositories=main

[Output]
Format=disk
Output=image
ManifestFormat=

[Content]
Packages={packages}
WithRecommends=no
WithDocs=yes
Bootable=yes
Bootloader=systemd-boot
UnifiedKernelImages=yes
KernelCommandLine=console=ttyS0

[Build]
Incremental=no
WithNetwork=yes

[Validation]
SecureBoot=no
"""
# In place of mkosi's own list, which names the archive of debug symbols too.
SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: {keyring}

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: trixie-security
Components: main
Signed-By: {keyring}
"""
PARTITIONS = {
    "00-esp": "Type=esp\nFormat=vfat\nCopyFiles=/boot:/\nCopyFiles=/efi:/\nSizeMinBytes=256M\nSizeMaxBytes=256M\n",
    "10-usr-verity": "Type=usr-verity\nVerity=hash\nVerityMatchKey=usr\nMinimize=best\n",
    "11-usr": "Type=usr\nFormat=erofs\nCompression=lz4hc\nCompressionLevel=9\nCopyFiles=/usr:/\nVerity=data\nVerityMatchKey=usr\nMinimize=best\n",
}


class Mkosi:
    def __init__(self, sample: Path, work: Path):
        self.sample, self.work = sample, work
        self.root = cache_directory() / "mkosi-tools"

    def prepare(self):
        """Unpacks the tools, once."""
        wanted = json.dumps(TOOLS)
        stamp = self.root / "stamp"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print("unpacking mkosi and its tools …", file=sys.stderr)
        apt = AptRoot(cache_directory() / "mkosi-apt")
        _, paths = apt.resolve_and_fetch(TOOLS, update=False)
        shutil.rmtree(self.root, ignore_errors=True)
        tree = self.root / "root"
        # Merged /usr, before anything is put there.
        for name in ("bin", "sbin", "lib", "lib64"):
            (tree / "usr" / name).mkdir(parents=True)
            (tree / name).symlink_to(f"usr/{name}")
        for path in sorted(paths.values()):
            archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE)
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", tree], stdin=archive.stdout, check=True)
            if archive.wait():
                raise RuntimeError(f"dpkg-deb could not read {path}")
        for place in ("proc", "sys", "dev", "tmp", "work", "run", "etc", "var/tmp"):
            (tree / place).mkdir(parents=True, exist_ok=True)
        masters = tree / "usr/share/base-passwd"
        shutil.copyfile(masters / "passwd.master", tree / "etc/passwd")
        shutil.copyfile(masters / "group.master", tree / "etc/group")
        shutil.copyfile("/etc/resolv.conf", tree / "etc/resolv.conf")
        shutil.copyfile("/etc/hosts", tree / "etc/hosts")
        stamp.write_text(wanted)

    def packages(self) -> list[str]:
        names = [line.split("_")[0] for line in (self.sample / "debs.txt").read_text().split()]
        return sorted(set(names))

    def _command(self, place: Path) -> list:
        tree = self.root / "root"
        # In a mount namespace of its own, so that nothing is left mounted; a real root, as mkosi wants a mount point there.
        script = f"""
mount --make-rprivate / && mount --bind {tree} {tree} && mount --rbind /proc {tree}/proc && mount --rbind /sys {tree}/sys && mount --rbind /dev {tree}/dev &&
mount --bind {place} {tree}/work && mount -t tmpfs tmp {tree}/tmp &&
cd {tree} && pivot_root . . && umount -l . && cd / && exec chroot . /usr/bin/env -i PATH=/usr/bin:/usr/sbin HOME=/root LC_ALL=C.UTF-8 TMPDIR=/work/tmp \\
  /usr/bin/mkosi --directory /work/image --force --package-cache-dir /work/cache --workspace-dir /work/tmp --output-dir /work/out build
"""
        return ["unshare", "--mount", "sh", "-c", script]

    def measure(self) -> Run:
        """A build from cached packages, after one that fills the cache."""
        self.prepare()
        place = self.work / "mkosi"
        for name in ("image/mkosi.repart", "cache", "tmp", "out"):
            (place / name).mkdir(parents=True, exist_ok=True)
        packages = "\n         ".join(self.packages())
        (place / "image/mkosi.conf").write_text(CONFIGURATION.format(packages=packages))
        sources = place / "image/mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
        sources.parent.mkdir(parents=True)
        sources.write_text(SOURCES.format(keyring=KEYRING))
        for name, text in PARTITIONS.items():
            (place / f"image/mkosi.repart/{name}.conf").write_text(f"[Partition]\n{text}")
        measure(self._command(place), self.work / "mkosi-first.log")
        run = measure(self._command(place), self.work / "mkosi.log")
        shutil.rmtree(place)
        return run
