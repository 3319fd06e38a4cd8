"""Where a distribution that is made of RPMs differs from Debian's file layout.

Everything here is a decision about Debian's own packages; what is new comes from `own/`.
"""

import re

# Debian keeps the kernel in /boot; Fedora's and Azure Linux's RPMs keep it beside its modules.
_KERNEL = re.compile(r"^/boot/(?P<what>vmlinuz|config|System\.map)-(?P<release>.+)$")

# Paths that packages of the sample's own bring instead, by Debian package.
DROPPED = {
    # sample-release says what this distribution is.
    "base-files": {
        "/etc/debian_version",
        "/etc/issue",
        "/etc/issue.net",
        "/etc/os-release",
        "/usr/lib/os-release",
        "/etc/dpkg/origins/debian",
        "/etc/update-motd.d/10-uname",
        # sample-filesystem has them as links into /run.
        "/var/run",
        "/var/lock",
    },
}

# Debian lets everybody ping by a sysctl alone; RPM distributions give ping the capability, so that it also works
# where the sysctl is narrowed.
CAPABILITIES = {("iputils-ping", "/usr/bin/ping"): "cap_net_raw=p"}


def place(package: str, path: str) -> str | None:
    """Where `path` goes; None where it is left out."""
    if path in DROPPED.get(package, ()):
        return None
    kernel = _KERNEL.match(path)
    if kernel:
        return f"/usr/lib/modules/{kernel['release']}/{kernel['what']}"
    return path


def kernel_release(path: str) -> str | None:
    """The kernel release, if `path` is a kernel image as Debian places it."""
    kernel = _KERNEL.match(path)
    return kernel["release"] if kernel and kernel["what"] == "vmlinuz" else None


def is_python_module(path: str) -> bool:
    """Whether Debian's py3compile would compile `path`."""
    return path.endswith(".py") and path.startswith(("/usr/lib/python3/dist-packages/", "/usr/lib/python3.13/"))


def is_added(path: str) -> bool:
    """Whether `path` is made at the conversion, out of files of the same package."""
    return path.endswith(".pyc") or path.endswith("/__pycache__")
