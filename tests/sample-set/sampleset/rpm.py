"""rpmbuild, rpmsign and createrepo_c, run so that nothing of the host or of the hour gets into what they write."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from . import spec
from .spec import Package

TOOLS = ("rpmbuild", "rpmsign", "rpm", "createrepo_c", "dpkg-deb", "apt-get", "gpg")
KEY_NAME = "Hullwright sample set (made on this machine, worthless elsewhere)"
# Times inside signatures are not facts about anything; a fixed one makes signed RPMs as reproducible as unsigned ones.
_KEY_TIME = "20260101T000000!"


def run(command: list[str], **options) -> str:
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed ({done.returncode}):\n{done.stdout}")
    return done.stdout


def _defines(**macros: str) -> list[str]:
    return [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]


def _environment(home: Path, **more: str) -> dict[str, str]:
    # HOME hides the user's ~/.rpmmacros.
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC", **more}


def build(package: Package, work: Path, staged: Path) -> Path:
    """Run rpmbuild; the finished RPM lies in `work`."""
    text = spec.render(package, str(staged))
    spec_path = work / f"{package.name}.spec"
    spec_path.write_text(text)
    macros = _defines(
        _topdir=str(work),
        _builddir=str(work),
        _rpmdir=str(work),
        _srcrpmdir=str(work),
        _sourcedir=str(work),
        _tmppath=str(work),
        _dbpath=str(work / "rpmdb"),
        _rpmfilename=package.file_name.replace("%", "%%"),
        _buildhost="sample.invalid",
        _binary_payload="w3.zstdio",
        _source_filedigest_algorithm="8",
        _binary_filedigest_algorithm="8",
        use_source_date_epoch_as_buildtime="1",
        clamp_mtime_to_source_date_epoch="1",
        source_date_epoch_from_changelog="0",
        debug_package="%{nil}",
        __os_install_post="%{nil}",
        __spec_install_pre="%{___build_pre}",
        _build_id_links="none",
        _binaries_in_noarch_packages_terminate_build="0",
        _docdir_fmt="%%{NAME}",
        _missing_doc_files_terminate_build="0",
    )
    command = ["rpmbuild", "-bb", "--quiet", "--nodeps", "--target", "x86_64-linux", "--buildroot", str(work / "root")]
    environment = _environment(work, SOURCE_DATE_EPOCH=str(package.epoch_seconds))
    run([*command, *macros, str(spec_path)], cwd=work, env=environment)
    built = work / package.file_name
    if not built.exists():
        raise RuntimeError(f"rpmbuild did not write {package.file_name}")
    return built


class Signer:
    """A key made on first use; a throw-away GnuPG home, since a socket's path must be short."""

    def __init__(self, directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        self.secret, self.public = directory / "secret.asc", directory / "public.asc"
        self._home = tempfile.TemporaryDirectory(prefix="hullwright-gpg-", dir="/tmp")
        self.home = Path(self._home.name)
        self._gpg = ["gpg", "--batch", "--quiet", "--homedir", str(self.home)]
        if not self.secret.exists():
            self._make()
        run([*self._gpg, "--import", str(self.secret)], env=_environment(self.home))
        listing = run([*self._gpg, "--with-colons", "--list-secret-keys"], env=_environment(self.home))
        self.fingerprint = re.search(r"^fpr:+([0-9A-F]+):", listing, re.M)[1]

    def _make(self):
        environment = _environment(self.home)
        generate = ["--faked-system-time", _KEY_TIME, "--passphrase", "", "--quick-generate-key", KEY_NAME, "rsa3072", "sign", "never"]
        run([*self._gpg, *generate], env=environment)
        self.public.write_text(run([*self._gpg, "--armor", "--export"], env=environment))
        partial = self.secret.with_suffix(".partial")
        partial.touch(0o600)
        partial.write_text(run([*self._gpg, "--armor", "--export-secret-keys"], env=environment))
        partial.rename(self.secret)

    def sign(self, path: Path):
        macros = _defines(
            __gpg="/usr/bin/gpg",
            _gpg_path=str(self.home),
            _gpg_name=self.fingerprint,
            _gpg_digest_algo="sha256",
            _gpg_sign_cmd_extra_args=f"--batch --faked-system-time {_KEY_TIME}",
        )
        run(["rpmsign", "--addsign", *macros, str(path)], env=_environment(self.home))

    def close(self):
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], stderr=subprocess.DEVNULL)
        self._home.cleanup()


def createrepo(directory: Path, epoch_seconds: int):
    """repodata with fixed times."""
    command = ["createrepo_c", "--quiet", "--no-database", "--workers", str(os.cpu_count() or 1)]
    times = ["--set-timestamp-to-revision", "--revision", str(epoch_seconds)]
    run([*command, *times, str(directory)], env=_environment(directory))
