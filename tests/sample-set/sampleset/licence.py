"""A licence tag from a Debian copyright file: SPDX names where the file says them in a way that can be read."""

import re

# Debian's short names (machine-readable copyright format 1.0) that differ from SPDX.
_SPDX = {
    "expat": "MIT", "mit": "MIT", "x11": "X11", "isc": "ISC", "zlib": "Zlib", "bsl-1": "BSL-1.0", "public-domain": "LicenseRef-Public-Domain",
    "apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0", "artistic": "Artistic-1.0-Perl", "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "cc0": "CC0-1.0", "cc0-1.0": "CC0-1.0", "mpl-2": "MPL-2.0",
    "mpl-2.0": "MPL-2.0", "openssl": "OpenSSL", "psf-2": "PSF-2.0", "unlicense": "Unlicense", "0bsd": "0BSD",
}  # fmt: skip
_GNU = re.compile(r"^(A?GPL|LGPL|GFDL|GFDL-NIV)-?v?(\d)(?:\.(\d))?(?:\.0)?(\+|-or-later|-only)?$", re.I)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])")
_MOST = 12


def spdx(short_name: str) -> str:
    gnu = _GNU.match(short_name)
    if gnu:
        family, major, minor, later = gnu.groups()
        family = family.upper().replace("GFDL-NIV", "GFDL")
        later = "-or-later" if later in ("+", "-or-later") else "-only"
        return f"{family}-{major}.{minor or 0}{later}"
    known = _SPDX.get(short_name.lower())
    return known or "LicenseRef-Debian-" + re.sub(r"[^A-Za-z0-9.-]+", "-", short_name).strip("-")


def _names(expression: str) -> list[str]:
    """The single licences of a `License:` line; exceptions (`with …`) are left to the copyright file itself."""
    names = []
    for part in re.split(r"\s+(?:or|and|and/or)\s+|,\s*(?:and|or)?\s*|\s*\|\s*", expression.strip(), flags=re.I):
        name = re.split(r"\s+with\s+", part, flags=re.I)[0].strip(" ()")
        if name and " " not in name:
            names.append(name)
    return names


def tag(copyright_file: str | None) -> str:
    """Every licence that the file names, joined with AND: an upper bound, not legal advice."""
    text = copyright_file or ""
    if "copyright-format/1" in text or "dep5" in text.lower():
        expressions = re.findall(r"^License:[ \t]*(\S.*)$", text, re.M)
        found = {spdx(name) for expression in expressions for name in _names(expression)}
    else:
        found = {spdx(name) for name in _COMMON.findall(text) if name not in ("GPL", "LGPL", "GFDL")}
    if not found:
        return "LicenseRef-Debian-see-copyright"
    names = sorted(found, key=lambda name: (name.startswith("LicenseRef"), name))
    more = [] if len(names) <= _MOST else ["LicenseRef-Debian-see-copyright"]
    return " AND ".join(names[:_MOST] + more)
