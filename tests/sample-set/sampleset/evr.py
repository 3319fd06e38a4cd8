"""Debian versions and relations in RPM's terms.

A Debian version is `[epoch:]upstream[-revision]`, RPM's is `epoch`, `version` and `release`. Both order by
the same kind of segments and both know `~`. A native Debian package has no revision: its release is `0`, and
a relation that names no release is compared by RPM without one, so `= 257` still matches it.
"""

import re
from typing import NamedTuple

NATIVE_RELEASE = "0"


class Evr(NamedTuple):
    epoch: str
    version: str
    release: str

    def __str__(self):
        epoch = f"{self.epoch}:" if self.epoch else ""
        release = f"-{self.release}" if self.release else ""
        return f"{epoch}{self.version}{release}"


def evr(debian: str) -> Evr:
    """Split a Debian version. `release` is empty when there is no revision."""
    epoch, colon, rest = debian.partition(":")
    if not colon:
        epoch, rest = "", debian
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    # RPM splits name-version-release at dashes, so none may stay inside.
    return Evr("" if epoch == "0" else epoch, upstream.replace("-", "."), revision)


class Relation(NamedTuple):
    name: str
    op: str  # Debian's: "", "<<", "<=", "=", ">=", ">>"
    version: str


_RELATION = re.compile(
    r"^\s*(?P<name>[a-z0-9][a-z0-9+.-]*)(?::[a-z0-9]+)?\s*(?:\(\s*(?P<op><<|<=|=|>=|>>)\s*(?P<version>[^\s)]+)\s*\))?\s*$"
)

# RPM compares without the release when the relation names none, so `> 2.41` would refuse 2.41-12, which Debian's
# `>> 2.41` accepts: `>>` becomes `>=`, which is never stricter than Debian.
_OPS = {"<<": "<", "<=": "<=", "=": "=", ">=": ">=", ">>": ">="}


def parse(field: str) -> list[list[Relation]]:
    """`a (>= 1), b | c` as a list of alternatives."""
    groups = []
    for group in filter(str.strip, field.replace("\n", " ").split(",")):
        alternatives = []
        for text in group.split("|"):
            match = _RELATION.match(text)
            if not match:
                raise ValueError(f"not a Debian relation: {text.strip()!r}")
            alternatives.append(Relation(match["name"], match["op"] or "", match["version"] or ""))
        groups.append(alternatives)
    return groups


def rpm(relation: Relation) -> str:
    if not relation.op:
        return relation.name
    return f"{relation.name} {_OPS[relation.op]} {evr(relation.version)}"
