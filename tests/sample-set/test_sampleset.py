#!/usr/bin/env python3
"""Tables for the parts that translate Debian into RPM."""

import gzip
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

from sampleset import adjust, changelog, evr, licence, rpm, spec  # noqa: E402
from sampleset.relations import Closure, ClosureError  # noqa: E402


class Versions(unittest.TestCase):
    def test_versions(self):
        for debian, epoch, version, release in [
            ("1.2-3", "", "1.2", "3"),
            ("2:6.12.117-1~deb13u1", "2", "6.12.117", "1~deb13u1"),
            ("0:1-1", "", "1", "1"),
            ("257", "", "257", ""),
            ("1.2-rc-3", "", "1.2.rc", "3"),
            ("4.11.1+dfsg1-6+b1", "", "4.11.1+dfsg1", "6+b1"),
        ]:
            self.assertEqual(tuple(evr.evr(debian)), (epoch, version, release), debian)

    def test_relations(self):
        for field, expected in [
            ("libc6 (>= 2.38), libfoo:any", [["libc6 >= 2.38"], ["libfoo"]]),
            ("a (>> 2.41) | b (<< 1:2-1)", [["a >= 2.41", "b < 1:2-1"]]),
            ("perl:any (= 5.40.1-6),", [["perl = 5.40.1-6"]]),
            ("", []),
        ]:
            self.assertEqual([[evr.rpm(one) for one in group] for group in evr.parse(field)], expected, field)
        with self.assertRaises(ValueError):
            evr.parse("a (~ 1)")


def deb(name, **fields):
    return SimpleNamespace(name=name, control={"Package": name, **{key.replace("_", "-"): value for key, value in fields.items()}})


class Closures(unittest.TestCase):
    def test_an_alternative_is_what_the_set_has(self):
        user = deb("user", Depends="missing | virtual, lib (>= 1)", Pre_Depends="own-thing")
        closure = Closure([user, deb("lib"), deb("real", Provides="virtual")], {"sample": ["own-thing"]})
        self.assertEqual(closure.of(user).requires, ["lib >= 1", "own-thing", "virtual"])

    def test_what_nothing_provides_is_an_error(self):
        user = deb("user", Depends="missing | absent")
        with self.assertRaisesRegex(ClosureError, r"user needs missing \| absent"):
            Closure([user], {}).of(user)

    def test_conflicts_with_an_own_name_mean_others(self):
        mta = deb("mta-a", Provides="mta, old-mta (= 3)", Conflicts="mta, old-mta (<< 3), rival", Breaks="lib (<< 2)")
        self.assertEqual(Closure([mta, deb("lib")], {}).of(mta).conflicts, ["lib < 2", "rival"])

    def test_conflicts_with_equal_replaces_is_obsoletes(self):
        new = deb("new", Conflicts="old (<< 2), other (<< 1)", Replaces="old (<< 2), third (<< 1)")
        self.assertEqual(Closure([new], {}).of(new).obsoletes, ["old < 2"])


class Texts(unittest.TestCase):
    def test_licences(self):
        head = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        for text, expected in [
            (head + "License: GPL-2+ or Expat\n\nLicense: LGPL-2.1\n text", "GPL-2.0-or-later AND LGPL-2.1-only AND MIT"),
            (head + "License: GPL-2+ with OpenSSL exception\n", "GPL-2.0-or-later"),
            (head + "License: odd-one\n", "LicenseRef-Debian-odd-one"),
            ("see /usr/share/common-licenses/GPL-3.", "GPL-3.0-only"),
            ("anything", "LicenseRef-Debian-see-copyright"),
            (None, "LicenseRef-Debian-see-copyright"),
        ]:
            self.assertEqual(licence.tag(text), expected, text)

    def test_changelog(self):
        text = "pkg (1-2) trixie; urgency=low\n\n  * One\n    more\n  * 100%\n\n -- A B <a@b>  Mon, 02 Mar 2026 01:00:00 +0200\n"
        ((seconds, author, version, lines),) = changelog.parse(gzip.compress(text.encode()))
        self.assertEqual((seconds, author, version, lines), (1772406000, "A B <a@b>", "1-2", ["- One", "  more", "- 100%"]))
        self.assertEqual(changelog.parse(b"not gzip"), [])

    def test_file_lines(self):
        for path, expected in [
            ("/usr/bin/[", '"/usr/bin/["'),
            ("/a/system\\x2d.slice", '"/a/system\\x2d.slice"'),
            ("/a/[x]*?", '"/a/[[]x[]][*][?]"'),
            ("/a/100%", '"/a/100%%"'),
        ]:
            line = spec._file_line(spec.Entry(path, "file", 0o4755, "root", "shadow", config=True))
            self.assertEqual(line, f"%attr(4755, root, shadow) %config(noreplace) {expected}")

    def test_names_that_a_spec_cannot_hold(self):
        for path in ("/a/{b,c}", '/a/"', "/a/b\nc"):
            with self.assertRaisesRegex(ValueError, "no way to name"):
                spec._file_name(path)

    def test_the_kernel_moves_beside_its_modules(self):
        for path, expected in [
            ("/boot/vmlinuz-6.12-amd64", "/usr/lib/modules/6.12-amd64/vmlinuz"),
            ("/boot/System.map-6.12-amd64", "/usr/lib/modules/6.12-amd64/System.map"),
            ("/boot/other", "/boot/other"),
        ]:
            self.assertEqual(adjust.place("linux-image", path), expected)
        self.assertIsNone(adjust.place("base-files", "/etc/os-release"))


class Rpmbuild(unittest.TestCase):
    """What rpmbuild makes of names and attributes that a spec could get wrong."""

    NAMES = ["/usr/bin/[", "/usr/[x]*?", "/usr/100%", "/usr/a b", "/usr/system\\x2d.slice", "/usr/back\\[x]", "/usr/Főtanúsítvány"]

    def test_hard_names_and_attributes(self):
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            staged = work / "staged"
            (staged / "usr/bin").mkdir(parents=True)
            entries = []
            for path in self.NAMES:
                (staged / path.lstrip("/")).write_text(path)
                entries.append(spec.Entry(path, "file", 0o4711, "root", "shadow", caps="cap_net_raw=p"))
            (staged / "usr/second").hardlink_to(staged / "usr/a b")
            entries.append(spec.Entry("/usr/second", "file", 0o4711, "root", "shadow", caps="cap_net_raw=p"))
            (staged / "usr/link").symlink_to("nowhere")
            entries.append(spec.Entry("/usr/link", "link", 0o777, "root", "root"))
            (staged / "usr/sticky").mkdir()
            entries.append(spec.Entry("/usr/sticky", "dir", 0o1777, "root", "mail"))
            package = spec.Package(
                "hard", evr.Evr("1", "2~rc1", "3+b1"), True, "100% hard", "%files in a text\n\n# not a comment", "MIT", "",
                spec.Relations(provides=["virtual = 1:2"]), entries, [(1772406000, "A <a@b>", "2~rc1", ["- 100%"])], 1772406000,
            )  # fmt: skip
            built = rpm.build(package, work, staged)
            query = "[%{FILENAMES}|%{FILEMODES:octal}|%{FILEUSERNAME}:%{FILEGROUPNAME}|%{FILECAPS}|%{FILELINKTOS}\n]"
            lines = sorted(rpm.run(["rpm", "-qp", "--qf", query, str(built)]).splitlines())
            expected = [f"{path}|104711|root:shadow|cap_net_raw=p|" for path in [*self.NAMES, "/usr/second"]]
            expected += ["/usr/link|120777|root:root||nowhere", "/usr/sticky|41777|root:mail||"]
            self.assertEqual(lines, sorted(expected))
            facts = "%{NEVRA} %{BUILDTIME} %{BUILDHOST} %{SUMMARY} %{DESCRIPTION} %{CHANGELOGTEXT} [%{FILEINODES}-]"
            text = rpm.run(["rpm", "-qp", "--qf", facts, str(built)])
            self.assertIn("hard-1:2~rc1-3+b1.noarch 1772406000 sample.invalid 100% hard - %files in a text\n\n- # not a comment - 100%", text)
            inodes = text.split()[-1].rstrip("-").split("-")
            self.assertEqual(len(inodes) - len(set(inodes)), 1, "one pair of hard links")


if __name__ == "__main__":
    unittest.main()
