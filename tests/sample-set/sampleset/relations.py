"""Relations of the whole set: every Requires must be answered by a Provides inside it."""

from . import evr
from .deb import Deb
from .evr import Relation
from .spec import Relations


class ClosureError(Exception):
    """A dependency that nothing in the set answers."""


def _groups(deb: Deb, *fields: str) -> list[list[Relation]]:
    return [group for name in fields for group in evr.parse(deb.control.get(name, ""))]


class Closure:
    """Who provides what in the set."""

    def __init__(self, debs: list[Deb], own_provides: dict[str, list[str]]):
        """`own_provides`: names that packages of the sample's own provide, by package."""
        self.packages = {deb.name for deb in debs} | set(own_provides)
        self.versioned: set[str] = set(self.packages)
        self.unversioned: set[str] = {text.split()[0] for texts in own_provides.values() for text in texts}
        for deb in debs:
            for (relation,) in _groups(deb, "Provides"):
                (self.versioned if relation.op else self.unversioned).add(relation.name)

    def _answered(self, relation: Relation) -> bool:
        return relation.name in self.versioned or relation.name in self.unversioned

    def check(self, package: str, requires: list[str]):
        for name in requires:
            if not self._answered(Relation(name, "", "")):
                raise ClosureError(f"{package} needs {name}, which no package of the set provides")

    def of(self, deb: Deb) -> Relations:
        provides = [group[0] for group in _groups(deb, "Provides")]
        mine = {deb.name} | {relation.name for relation in provides}
        requires = []
        for group in _groups(deb, "Pre-Depends", "Depends"):
            answered = [relation for relation in group if self._answered(relation)]
            if not answered:
                wanted = " | ".join(relation.name for relation in group)
                raise ClosureError(f"{deb.name} needs {wanted}, which no package of the set provides")
            if answered[0].name not in mine:
                requires.append(evr.rpm(answered[0]))
        # A package that conflicts with a name of its own means everybody else (Debian policy 7.4); RPM has no such rule.
        conflicts = [
            evr.rpm(relation)
            for (relation,) in _groups(deb, "Conflicts", "Breaks")
            if relation.name not in mine
            # An unversioned Provides never meets a versioned Conflicts in Debian, in RPM it always does.
            and not (relation.op and relation.name in self.unversioned)
        ]
        return Relations(
            requires=sorted(set(requires)),
            provides=sorted({evr.rpm(relation) for relation in provides}),
            conflicts=sorted(set(conflicts)),
            obsoletes=sorted(self._obsoletes(deb, mine)),
        )

    def _obsoletes(self, deb: Deb, mine: set[str]) -> set[str]:
        """A versioned Conflicts with an equal Replaces is how Debian retires a package (policy 7.6.2)."""
        replaced = {relation for group in _groups(deb, "Replaces") for relation in group}
        return {
            evr.rpm(relation)
            for (relation,) in _groups(deb, "Conflicts")
            if relation in replaced and relation.op == "<<" and relation.name not in self.packages | mine
        }
