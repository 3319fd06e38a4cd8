//! A pair of packages for each rule.

use std::path::PathBuf;

use hullwright::rpmset::Filter;
use hullwright::tree::merge::Options;

use crate::oracle::{Oracle, Outcome, Seens, oracles};
use crate::spec::{Bench, Spec};

const DEFAULT: Options<'static> = Options::DEFAULT;

/// Asks every oracle of `packages`.
#[track_caller]
fn all(packages: &[PathBuf], options: &Options<'_>, check: impl Fn(&Oracle, Outcome)) {
    for oracle in oracles() {
        let outcome = oracle.compare(packages, options, &[]);
        check(&oracle, outcome);
    }
}

#[track_caller]
fn installed(packages: &[PathBuf], options: &Options<'_>, check: impl Fn(&Seens)) {
    all(packages, options, |_, outcome| check(&outcome.installed()));
}

/// What RPM 4.18.0 does not do: it opens every device and FIFO that it has made.
fn knows_special_files(oracle: &Oracle) -> bool {
    oracle.name != "rpm"
}

/// That every side refuses `packages`, and we with `words`.
#[track_caller]
fn refused(packages: &[PathBuf], words: &[&str]) {
    all(packages, &DEFAULT, |oracle, outcome| {
        let (rpm, ours) = outcome.refused();
        let reason = rpm.contains(" conflicts ") || rpm.contains("unpacking of archive failed");
        assert!(reason, "{}: {rpm}", oracle.name);
        for word in words {
            assert!(ours.contains(word), "`{word}` is not in: {ours}");
        }
    });
}

#[track_caller]
fn mode(seen: &Seens, path: &str) -> u32 {
    seen[path.as_bytes()].mode
}

#[test]
fn equal_files_are_shared() {
    let Some(bench) = Bench::new() else { return };
    // Times, flags and what is verified do not count; the first package's time wins.
    let one = bench.package(
        "one",
        "put usr/f same; touch -d @1000000000 usr/f; ln -s f usr/l; mkdir usr/d",
        "/usr/f\n/usr/l\n%dir /usr/d",
    );
    let two = bench.package(
        "two",
        "put usr/f same; touch -d @1100000000 usr/f; ln -s f usr/l; mkdir usr/d",
        "%config %verify(not mtime) /usr/f\n/usr/l\n%dir /usr/d",
    );
    installed(&[one, two], &DEFAULT, |seen| {
        assert_eq!(seen[b"/usr/f".as_slice()].mtime, Some(1_000_000_000));
        assert_eq!(seen.len(), 4);
    });
}

#[test]
fn what_differs_conflicts() {
    let Some(bench) = Bench::new() else { return };
    let cases: [(&str, &str, &str, &str, &[&str]); 9] = [
        (
            "put f a",
            "/f",
            "put f b",
            "/f",
            &["1 path", "a file of 1 bytes (SHA-256 ca978112ca1b…)"],
        ),
        (
            "put f a",
            "/f",
            "put f a",
            "%attr(600,-,-) /f",
            &["a file of root:root with mode 0600"],
        ),
        (
            "put f a",
            "/f",
            "put f a",
            "%attr(-,bin,-) /f",
            &["a file of bin:root with mode 0644"],
        ),
        (
            "mkdir f",
            "%dir /f",
            "mkdir f",
            "%dir %attr(700,-,-) /f",
            &["a directory of root:root with mode 0700"],
        ),
        (
            "mkdir f",
            "%dir /f",
            "mkdir f",
            "%dir %attr(-,-,bin) /f",
            &["a directory of root:bin with mode 0755"],
        ),
        (
            "ln -s a f",
            "/f",
            "ln -s b f",
            "/f",
            &["a link to `a` against a link to `b`"],
        ),
        (
            "ln -s a f",
            "/f",
            "put f a",
            "/f",
            &["a link to `a` against a file"],
        ),
        // What UsrMerge is about: the link is one package's, the directory another's.
        (
            "mkdir -p usr/f; ln -s usr/f f",
            "/f\n/usr/f",
            "mkdir f; put f/x y",
            "/f",
            &["`/f`: a link to `usr/f` against a directory"],
        ),
        (
            "put f a",
            "/f",
            "mkdir f; put f/x y",
            "/f",
            &["`/f`: a file against a directory", "lies behind `/f`"],
        ),
    ];
    for (number, (first, first_files, second, second_files, words)) in cases.into_iter().enumerate() {
        let one = bench.package(&format!("one{number}"), first, first_files);
        let two = bench.package(&format!("two{number}"), second, second_files);
        refused(&[one, two], words);
    }
}

#[test]
fn links_to_directories_are_followed() {
    let Some(bench) = Bench::new() else { return };
    let base = bench.package(
        "base",
        "mkdir -p usr/lib z; ln -s usr/lib lib; ln -s ../y usr/w; mkdir y",
        "/lib\n%dir /usr/lib\n/usr/w\n/y",
    );
    // Without this, RPM puts them first, and then has directories in the way of the links.
    let behind = |name: &str, install: &str, files: &str| {
        let head = "Requires: base";
        let spec = Spec {
            head,
            ..Spec::new(name, install, files)
        };
        bench.build(&spec, &[])
    };
    let files = behind("files", "put lib/a x; put usr/w/b y", "/lib/a\n/usr/w/b");
    let same = behind("same", "put usr/lib/a x", "/usr/lib/a");
    let other = behind("other", "put usr/lib/a z", "/usr/lib/a");
    installed(&[base.clone(), files.clone(), same], &DEFAULT, |seen| {
        assert!(seen.contains_key(b"/usr/lib/a".as_slice()) && seen.contains_key(b"/y/b".as_slice()));
    });
    refused(
        &[base, files, other],
        &["files-1-1.noarch and other-1-1.noarch", "`/usr/lib/a`"],
    );
}

#[test]
fn the_64_bit_file_wins() {
    let Some(bench) = Bench::new() else { return };
    let make = |name: &str, arch, install: &str, files: &str| {
        let spec = Spec {
            arch,
            ..Spec::new(name, install, files)
        };
        bench.build(&spec, &[])
    };
    let install = "put usr/doc same; elf32 usr/lib/only 32; elf32 usr/bin/same x";
    let files = "/usr/bin/*\n/usr/lib/only\n/usr/doc";
    let x32 = make("tool", "i686", &format!("elf32 usr/bin/t 32; {install}"), files);
    let install = "put usr/doc same; elf32 usr/bin/same x";
    let files = "/usr/bin/*\n/usr/doc";
    let x64 = make(
        "tool",
        "x86_64",
        &format!("elf64 usr/bin/t a-longer-content; {install}"),
        files,
    );
    for packages in [[x32.clone(), x64.clone()], [x64.clone(), x32.clone()]] {
        all(&packages, &DEFAULT, |_, outcome| {
            let Outcome::Installed { tree, states } = outcome else {
                panic!("refused")
            };
            let size = |path: &[u8]| tree[path].content.unwrap().0;
            assert_eq!(size(b"/usr/bin/t"), size(b"/usr/bin/same") + 15);
            assert!(tree.contains_key(b"/usr/lib/only".as_slice()));
            let lost: Vec<_> = states.iter().flatten().filter(|state| **state != 0).collect();
            assert_eq!(lost, [&4]);
        });
    }
    // No class, no preference.
    let plain = bench.package("plain", "put usr/bin/t script; chmod 755 usr/bin/t", "/usr/bin/t");
    refused(&[plain, x64], &["`/usr/bin/t`"]);
}

#[test]
fn ghosts_are_nowhere_and_conflict_with_nothing() {
    let Some(bench) = Bench::new() else { return };
    let ghost = bench.package(
        "ghost",
        "put var/f g; mkdir -p var/dir var/empty; ln -s x var/l",
        "%ghost %attr(600,bin,-) /var/f\n%ghost %dir %attr(700,bin,-) /var/dir\n%ghost %dir /var/empty\n%ghost /var/l",
    );
    let real = bench.package(
        "real",
        "put var/f r; put var/dir/x y; put var/l l",
        "/var/f\n/var/dir/x\n/var/l",
    );
    installed(std::slice::from_ref(&ghost), &DEFAULT, |seen| {
        assert!(seen.is_empty())
    });
    installed(&[ghost.clone(), real.clone()], &DEFAULT, |seen| {
        // The ghost's mode is nobody's.
        assert_eq!((mode(seen, "/var/f"), mode(seen, "/var/dir")), (0o644, 0o755));
        assert!(!seen.contains_key(b"/var/empty".as_slice()));
    });
    let spec = Spec {
        head: "Requires: ghost",
        ..Spec::new("areal", "put var/f r", "/var/f")
    };
    installed(&[ghost, bench.build(&spec, &[])], &DEFAULT, |seen| {
        assert!(seen.contains_key(b"/var/f".as_slice()));
    });
}

#[test]
fn configuration_is_there_at_first() {
    let Some(bench) = Bench::new() else { return };
    let one = bench.package(
        "one",
        "put etc/a a; put etc/b b; put etc/c c; put etc/d d; ln -s a etc/l",
        "%config /etc/a\n%config(noreplace) /etc/b\n%config(missingok) /etc/c\n\
         %config(noreplace,missingok) /etc/d\n%config /etc/l",
    );
    let two = bench.package("two", "put etc/b b", "%config(noreplace) /etc/b");
    let three = bench.package("three", "put etc/b other", "%config(noreplace) /etc/b");
    installed(&[one.clone(), two], &DEFAULT, |seen| assert_eq!(seen.len(), 6));
    refused(&[one, three], &["`/etc/b`"]);
}

/// A package with documentation, languages and a licence.
fn documented(bench: &Bench) -> PathBuf {
    bench.package(
        "documented",
        "put usr/share/doc/p/README r; put usr/share/doc/p/sub/deep d; put usr/share/licenses/p/L l\n\
         put usr/share/locale/de/p.mo de; put usr/share/locale/de_AT/p.mo at; put usr/share/locale/en/p.mo en\n\
         put usr/share/locale/sr@latin/p.mo sr; put usr/share/kept/x x; put usr/share/kept/doc d\n\
         put usr/share/both/deen b; put usr/share/help/de/one h; put usr/share/help/de/two h; mkdir usr/share/docdir",
        "%dir /usr/share/doc/p\n%dir /usr/share/doc/p/sub\n%doc /usr/share/doc/p/README\n%doc /usr/share/doc/p/sub/deep\n\
         %license /usr/share/licenses/p/L\n%lang(de) /usr/share/locale/de\n%lang(de_AT) /usr/share/locale/de_AT\n\
         %lang(en) /usr/share/locale/en/p.mo\n%lang(sr@latin) /usr/share/locale/sr@latin/p.mo\n%dir /usr/share/kept\n\
         /usr/share/kept/x\n%doc /usr/share/kept/doc\n%lang(de) %lang(en) /usr/share/both/deen\n%dir /usr/share/help\n\
         %dir /usr/share/help/de\n%lang(de) %doc /usr/share/help/de/one\n%lang(de) /usr/share/help/de/two\n\
         %doc %dir /usr/share/docdir",
    )
}

#[test]
fn documentation_goes_and_licences_stay() {
    let Some(bench) = Bench::new() else { return };
    let package = documented(&bench);
    let options = Options {
        filter: Filter {
            exclude_docs: true,
            ..Filter::KEEP
        },
        ..DEFAULT
    };
    installed(&[package], &options, |seen| {
        assert!(seen.contains_key(b"/usr/share/licenses/p/L".as_slice()));
        assert!(seen.contains_key(b"/usr/share/kept".as_slice()));
        assert!(!seen.contains_key(b"/usr/share/doc/p/README".as_slice()));
        assert!(!seen.contains_key(b"/usr/share/doc/p/sub".as_slice()));
    });
}

#[test]
fn languages_are_chosen_as_rpm_chooses_them() {
    let Some(bench) = Bench::new() else { return };
    let package = documented(&bench);
    let there = |seen: &Seens, language: &str| {
        seen.contains_key(format!("/usr/share/locale/{language}/p.mo").as_bytes())
    };
    for (languages, expected) in [
        (&["de"][..], [true, false, false]),
        (&["de_AT"], [true, true, false]),
        (&["en_US", "fr"], [false, false, true]),
        (&["fr", "all"], [true, true, true]),
        (&["C"], [false, false, false]),
    ] {
        let languages: Vec<_> = languages.iter().map(|l| (*l).to_owned()).collect();
        for exclude_docs in [false, true] {
            let filter = Filter {
                exclude_docs,
                languages: &languages,
                ..Filter::KEEP
            };
            let options = Options { filter, ..DEFAULT };
            installed(std::slice::from_ref(&package), &options, |seen| {
                let found = ["de", "de_AT", "en"].map(|language| there(seen, language));
                assert_eq!(found, expected, "{languages:?}");
            });
        }
    }
}

#[test]
fn hard_links_keep_their_content_whatever_is_left_out() {
    let Some(bench) = Bench::new() else { return };
    let install = "put usr/a content; ln usr/a usr/b; ln usr/a usr/z; put usr/doc/x docs; ln usr/doc/x usr/kept; touch usr/e; ln usr/e usr/e2";
    // The content comes with the last of the list, which is documentation once, and of another language once.
    let one = bench.package(
        "one",
        install,
        "/usr/a\n/usr/b\n%doc /usr/z\n%doc /usr/doc/x\n/usr/kept\n/usr/e\n%lang(de) /usr/e2",
    );
    let spec = Spec {
        head: "Requires: one",
        ..Spec::new("other", "put usr/a content", "/usr/a")
    };
    let other = bench.build(&spec, &[]);
    let languages = ["fr".to_owned()];
    for exclude_docs in [false, true] {
        let filter = Filter {
            exclude_docs,
            languages: &languages,
            ..Filter::KEEP
        };
        let options = Options { filter, ..DEFAULT };
        installed(std::slice::from_ref(&one), &options, |seen| {
            assert_eq!(seen[b"/usr/b".as_slice()].content.unwrap().0, 7);
            assert_eq!(seen[b"/usr/b".as_slice()].inode, Some(b"/usr/a".to_vec()));
            assert_eq!(seen[b"/usr/kept".as_slice()].content.unwrap().0, 4);
            assert_eq!(seen[b"/usr/kept".as_slice()].inode.is_some(), !exclude_docs);
            assert_eq!(seen[b"/usr/e".as_slice()].inode, None);
        });
    }
    // One name is another package's as well.
    installed(&[one, other], &DEFAULT, |_| {});
}

#[test]
fn owners_modes_and_capabilities() {
    let Some(bench) = Bench::new() else { return };
    let one = bench.package(
        "one",
        "for f in suid sgid cap both; do put usr/bin/$f $f; done; mkdir -p var/sticky; ln -s bin usr/l",
        "%attr(4755,root,root) /usr/bin/suid\n%attr(2755,-,games) /usr/bin/sgid\n\
         %attr(755,-,-) %caps(cap_net_raw,cap_sys_admin=p) /usr/bin/cap\n%attr(4711,daemon,games) /usr/bin/both\n\
         %dir %attr(3777,nobody,bin) /var/sticky\n%attr(-,daemon,games) /usr/l",
    );
    all(&[one], &DEFAULT, |oracle, outcome| {
        let seen = outcome.installed();
        assert_eq!(mode(&seen, "/usr/bin/both"), 0o4711);
        assert_eq!(mode(&seen, "/var/sticky"), 0o3777);
        if oracle.privileged {
            assert_eq!(seen[b"/usr/bin/cap".as_slice()].xattrs.len(), 1);
            let owner = ("daemon".to_owned(), "games".to_owned());
            assert_eq!(seen[b"/usr/l".as_slice()].owner, owner);
        }
    });
}

#[test]
fn devices_and_fifos() {
    // An ordinary user's RPM cannot make them.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let Some(bench) = Bench::new() else { return };
    let make = |name: &str, minor: &str| {
        let files = format!(
            "%dev(c,1,{minor}) %attr(666,root,root) /dev/null\n%dev(b,8,17) %attr(660,root,bin) /dev/disk"
        );
        let files = format!("{files}\n%attr(600,daemon,-) /dev/fifo");
        bench.package(name, "mkdir dev; mkfifo dev/fifo", &files)
    };
    let (one, two, three) = (make("one", "3"), make("two", "3"), make("three", "5"));
    for oracle in oracles().iter().filter(|oracle| knows_special_files(oracle)) {
        let both = [one.clone(), two.clone()];
        let seen = oracle.compare(&both, &DEFAULT, &[]).installed();
        assert_eq!(seen[b"/dev/disk".as_slice()].device, Some((8, 17)));
        assert_eq!((seen.len(), mode(&seen, "/dev/fifo")), (4, 0o600));
    }
    refused(
        &[one, three],
        &["a character device 1:3 against a character device 1:5"],
    );
}

#[test]
fn names_that_are_not_utf8() {
    let Some(bench) = Bench::new() else { return };
    let one = bench.package("one", "mkdir usr; printf x > usr/$(printf 'a\\377b')", "/usr/*");
    installed(&[one], &DEFAULT, |seen| {
        let names: Vec<_> = seen.keys().map(|name| name.escape_ascii().to_string()).collect();
        assert_eq!(names, ["/usr", "/usr/a\\xffb"]);
    });
}

#[test]
fn relocatable_packages_lie_where_they_were_built_for() {
    let Some(bench) = Bench::new() else { return };
    let spec = Spec {
        head: "Prefix: /opt/tool",
        ..Spec::new("one", "put opt/tool/f x", "/opt/tool")
    };
    installed(&[bench.build(&spec, &[])], &DEFAULT, |seen| {
        assert!(seen.contains_key(b"/opt/tool/f".as_slice()));
    });
}

#[test]
fn artifacts_and_directories_that_nobody_owns() {
    let Some(bench) = Bench::new() else { return };
    let one = bench.package(
        "one",
        "put usr/lib/.build-id/ab/c x; put a/b/c/d/e x; mkdir -p own/er; put own/er/f f",
        "%artifact /usr/lib/.build-id/ab/c\n/a/b/c/d/e\n%dir %attr(711,bin,bin) /own/er\n/own/er/f",
    );
    let two = bench.package("two", "put own/er/g g", "/own/er/g");
    installed(&[one, two], &DEFAULT, |seen| {
        assert_eq!((mode(seen, "/a/b/c"), mode(seen, "/own/er")), (0o755, 0o711));
    });
}

/// What RPM lets its own order decide: we refuse it.
#[test]
fn what_depends_on_the_order_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let make = |name: &str, files: &str, content: &str| {
        let install = format!("put usr/f {content}; chmod 755 usr/f");
        bench.package(name, &install, files)
    };
    let merge = |packages: &[PathBuf]| {
        let set = hullwright::rpmset::RpmSet::open(packages).unwrap();
        let place = tempfile::tempdir_in(bench.path()).unwrap();
        let store = hullwright::store::Store::open(place.path()).unwrap();
        let contents = set.contents(&store).unwrap();
        let merged = hullwright::tree::merge::merge(&set, &contents, &DEFAULT);
        merged.unwrap_err().to_string()
    };
    let plain = make("a", "/usr/f", "x");
    let able = make("b", "%caps(cap_net_raw=ep) /usr/f", "x");
    let said = merge(&[plain.clone(), able]);
    assert!(said.contains("with the capabilities `cap_net_raw=ep`"), "{said}");
    let ghost = make("c", "%ghost /usr/f", "y");
    let other = make("d", "/usr/f", "z");
    let said = merge(&[plain, ghost, other]);
    assert!(said.contains("a-1-1.noarch and d-1-1.noarch"), "{said}");
}
