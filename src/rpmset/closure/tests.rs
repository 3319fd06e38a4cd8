//! Rules that no package of rpmbuild shows: weak requirements, what is installed already, hostile headers.

use super::*;
use crate::formats::rpm::Limits;

/// Makes headers: names, versions and flags as given.
#[derive(Default)]
struct Maker {
    tags: BTreeMap<u32, (u32, u32, Vec<u8>)>,
}

impl Maker {
    fn new(name: &str, arch: &str) -> Self {
        let mut maker = Self::default();
        for (tag, text) in [
            (tag::NAME, name),
            (tag::VERSION, "1"),
            (tag::RELEASE, "1"),
            (tag::ARCH, arch),
        ] {
            maker.tags.insert(tag, (6, 1, [text.as_bytes(), b"\0"].concat()));
        }
        maker.with(List::Provides, &[(name, "1-1", sense::EQUAL)])
    }

    fn strings<'a>(&mut self, tag: u32, values: impl Iterator<Item = &'a str>) {
        let (_, count, bytes) = self.tags.entry(tag).or_insert((8, 0, Vec::new()));
        for value in values {
            *count += 1;
            bytes.extend([value.as_bytes(), b"\0"].concat());
        }
    }

    fn numbers(&mut self, tag: u32, values: impl Iterator<Item = u32>) {
        let (_, count, bytes) = self.tags.entry(tag).or_insert((4, 0, Vec::new()));
        for value in values {
            *count += 1;
            bytes.extend(value.to_be_bytes());
        }
    }

    fn with(mut self, list: List, values: &[(&str, &str, u32)]) -> Self {
        let [names, versions, flags] = list.tags();
        self.strings(names, values.iter().map(|value| value.0));
        self.strings(versions, values.iter().map(|value| value.1));
        self.numbers(flags, values.iter().map(|value| value.2));
        self
    }

    fn requires(self, name: &str, flags: u32) -> Self {
        self.with(List::Requires, &[(name, "", flags)])
    }

    /// Files: path, and where it leads if it is a link.
    fn files(mut self, files: &[(&str, &str)]) -> Self {
        let split = |path: &str| path.rfind('/').unwrap() + 1;
        self.strings(tag::BASENAMES, files.iter().map(|(path, _)| &path[split(path)..]));
        self.strings(tag::DIRNAMES, files.iter().map(|(path, _)| &path[..split(path)]));
        self.numbers(tag::DIRINDEXES, 0..files.len() as u32);
        self.strings(tag::FILELINKTOS, files.iter().map(|(_, target)| *target));
        let modes = files.iter().flat_map(|(_, target)| {
            let mode: u16 = if target.is_empty() { 0o100_644 } else { 0o120_777 };
            mode.to_be_bytes()
        });
        self.tags
            .insert(tag::FILEMODES, (3, files.len() as u32, modes.collect()));
        self
    }

    fn header(self) -> Header {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, (kind, count, bytes)) in &self.tags {
            while !store.len().is_multiple_of(8) {
                store.push(0);
            }
            for word in [*tag, *kind, store.len() as u32, *count] {
                index.extend(word.to_be_bytes());
            }
            store.extend(bytes);
        }
        let mut raw = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        raw.extend((self.tags.len() as u32).to_be_bytes());
        raw.extend((store.len() as u32).to_be_bytes());
        raw.extend([index, store].concat());
        Header::read(&mut raw.as_slice(), &Limits::PACKAGE).unwrap()
    }
}

fn problems(makers: Vec<Maker>, options: Options) -> Vec<String> {
    let headers: Vec<Header> = makers.into_iter().map(Maker::header).collect();
    let headers: Vec<&Header> = headers.iter().collect();
    let problems = check(&headers, options).unwrap();
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn file_dependencies_follow_the_links_of_the_set() {
    let links = [
        ("/bin", "usr/bin"),
        ("/lib64", "/usr/lib64"),
        ("/usr/lib64", "lib"),
        ("/loop", "loop"),
        ("/up", "../../usr/share/.."),
    ];
    let set = |wanted: &str| {
        vec![
            Maker::new("fs", "noarch").files(&links),
            Maker::new("sh", "noarch").files(&[("/usr/bin/sh", ""), ("/lib64/ld.so", ""), ("/loop/x", "")]),
            Maker::new("wanter", "noarch").requires(wanted, 0),
        ]
    };
    for there in [
        "/bin/sh",
        "/usr/bin/sh",
        "/usr/lib/ld.so",
        "/up/bin/sh",
        "/usr/../bin//sh",
        "/loop/x",
    ] {
        assert_eq!(problems(set(there), Options::default()), [""; 0], "{there}");
    }
    assert_eq!(
        problems(set("/sbin/sh"), Options::default()),
        ["nothing provides `/sbin/sh`, which wanter-1-1.noarch needs; sh-1-1.noarch has /usr/bin/sh"]
    );
    assert_eq!(problems(set("/usr/bin/ld.so"), Options::default()).len(), 1);
}

#[test]
fn what_only_an_installation_needs_may_go_afterwards() {
    let cases = [
        (sense::MISSINGOK, 0, 0),
        (sense::SCRIPT_PRE | sense::INTERP, 1, 0),
        (sense::SCRIPT_PREUN, 1, 1),
        (sense::SCRIPT_POST | sense::SCRIPT_POSTUN, 1, 1),
        (0, 1, 1),
    ];
    for (flags, fresh, installed) in cases {
        let count = |options| problems(vec![Maker::new("a", "noarch").requires("b", flags)], options).len();
        let afterwards = Options {
            installed: true,
            ..Options::default()
        };
        assert_eq!(
            (count(Options::default()), count(afterwards)),
            (fresh, installed),
            "{flags:#x}"
        );
    }
    // A root is there from the start; what must be there before the first package is not.
    let roots = Maker::new("a", "noarch")
        .requires("user(root)", 0)
        .requires("group(root)", 0);
    assert_eq!(problems(vec![roots], Options::default()), [""; 0]);
    let early = Maker::new("a", "noarch").requires("a", sense::PRETRANS);
    let said = problems(vec![early], Options::default());
    assert!(
        said[0].contains("before the first package is installed"),
        "{said:?}"
    );
    assert!(said[0].contains("a-1-1.noarch (for pretrans) needs"), "{said:?}");
}

#[test]
fn documentation_that_is_left_out_satisfies_nothing() {
    let set = || {
        let mut doc = Maker::new("doc", "noarch").files(&[("/usr/share/doc/x", "")]);
        doc.numbers(
            tag::FILEFLAGS,
            [crate::formats::rpm::tag::fileflag::DOC].into_iter(),
        );
        vec![doc, Maker::new("a", "noarch").requires("/usr/share/doc/x", 0)]
    };
    let without_docs = Options {
        without_docs: true,
        ..Options::default()
    };
    assert_eq!(problems(set(), Options::default()), [""; 0]);
    assert_eq!(problems(set(), without_docs).len(), 1);
}

#[test]
fn machines_and_names_do_not_mix() {
    let set = |archs: &[&str]| {
        let makers = archs.iter().map(|arch| Maker::new("a", arch)).collect();
        problems(makers, Options::default())
    };
    assert_eq!(set(&["x86_64", "i686"]), [""; 0]);
    for archs in [
        &["x86_64", "noarch"][..],
        &["i586", "i686"],
        &["noarch", "noarch"],
    ] {
        let said = set(archs);
        assert!(
            said.len() == 1 && said[0].contains("`a` more than once: a-1-1."),
            "{said:?}"
        );
    }
    let said = problems(
        vec![
            Maker::new("a", "x86_64"),
            Maker::new("b", "i686"),
            Maker::new("c", "aarch64"),
        ],
        Options::default(),
    );
    assert_eq!(
        said,
        ["c-1-1.aarch64 is for aarch64, most packages of the set for x86_64"]
    );
}

#[test]
fn the_nearest_is_named_with_all_who_want_it() {
    let libc = |version: &str| format!("libc.so.6(GLIBC_{version})(64bit)");
    let (old, older, new) = (libc("2.38"), libc("2.9"), libc("2.41"));
    let mut set = vec![Maker::new("glibc", "x86_64").with(
        List::Provides,
        &[
            (&old, "", 0),
            (&older, "", 0),
            ("libc.so.6(GLIBC_2.40)", "", 0),
            ("glibc(x86-64)", "1-1", sense::EQUAL),
        ],
    )];
    for name in ["f", "e", "d", "c", "b", "a"] {
        set.push(Maker::new(name, "x86_64").requires(&new, 0));
    }
    set.push(
        Maker::new("g", "x86_64").with(List::Requires, &[("glibc", "2", sense::GREATER | sense::EQUAL)]),
    );
    set.push(
        Maker::new("h", "x86_64")
            .requires("glibcc", sense::SCRIPT_POST)
            .requires("glibcc", sense::SCRIPT_PRE),
    );
    set.push(
        Maker::new("i", "x86_64")
            .requires("(glibc and (absent or (a if b)))", 0)
            .requires("(a or)", 0),
    );
    assert_eq!(
        problems(set, Options::default()),
        [
            "`(a or)` does not hold, which i-1-1.x86_64 needs; it cannot be read: an operand is missing",
            "nothing provides `glibc >= 2`, which g-1-1.x86_64 needs; glibc-1-1.x86_64 provides glibc = 1-1",
            "nothing provides `glibcc`, which h-1-1.x86_64 (for post, pre) needs; glibc-1-1.x86_64 provides glibc = 1-1",
            &format!(
                "nothing provides `{new}`, which f-1-1.x86_64, e-1-1.x86_64, d-1-1.x86_64, c-1-1.x86_64 and 2 others \
                 need; glibc-1-1.x86_64 provides {old}"
            ),
        ]
    );
}

#[test]
fn exceptions_excuse_what_they_name_and_nothing_else() {
    let headers = [
        Maker::new("a", "noarch")
            .with(
                List::Requires,
                &[("b", "2", sense::GREATER | sense::EQUAL), ("c", "", 0)],
            )
            .header(),
        Maker::new("d", "noarch").requires("c", 0).header(),
    ];
    let headers: Vec<&Header> = headers.iter().collect();
    let except = |names: &[&str]| {
        let exceptions = names.iter().map(|name| Exception {
            requires: (*name).to_owned(),
            reason: "it is made elsewhere".to_owned(),
        });
        let exceptions: Vec<_> = exceptions.collect();
        super::except(check(&headers, Options::default()).unwrap(), &exceptions)
    };
    let passed = except(&["c", "b  >=  2"]).unwrap();
    let passed: Vec<_> = passed.iter().map(|(open, _)| open.requirement.as_str()).collect();
    assert_eq!(passed, ["b >= 2", "c"]);
    let refused = except(&["b", "c"]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the set is not closed: 1 requirement is open, 1 exception is not needed"
    );
    assert_eq!(
        refused.problems[1].to_string(),
        "`b` is excepted under `[[rpms.open]]`, and is not open"
    );
}

#[test]
fn hostile_headers_neither_hang_nor_panic() {
    // A hundred thousand provides of different names take no time.
    let names: Vec<String> = (0..100_000).map(|number| format!("name({number})")).collect();
    let list: Vec<_> = names.iter().map(|name| (name.as_str(), "", 0)).collect();
    let wide = || {
        Maker::new("a", "noarch")
            .with(List::Provides, &list)
            .with(List::Requires, &list)
    };
    assert_eq!(problems(vec![wide()], Options::default()), [""; 0]);
    let missed = problems(
        vec![Maker::new("b", "noarch").with(List::Requires, &list)],
        Options::default(),
    );
    assert_eq!(missed.len(), list.len());
    // So many versions of one name that comparing them has no end are refused.
    let versions: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    let versioned = |flags| {
        versions
            .iter()
            .map(move |version| ("x", version.as_str(), flags))
            .collect::<Vec<_>>()
    };
    let dense = Maker::new("a", "noarch")
        .with(List::Provides, &versioned(sense::EQUAL))
        .with(List::Requires, &versioned(sense::LESS));
    let dense = dense.header();
    assert!(matches!(
        check(&[&dense], Options::default()),
        Err(ClosureError::TooMany)
    ));
    // Lists that do not fit each other.
    let mut short = Maker::new("a", "noarch").requires("b", 0);
    short.numbers(tag::REQUIREFLAGS, [0].into_iter());
    let error = check(&[&short.header()], Options::default())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "a: its header has 1 names of dependencies in REQUIRENAME, but 1 versions and 2 flags"
    );
    // Deep nesting is a requirement that does not hold.
    let deep = "(".repeat(100_000);
    let said = problems(
        vec![Maker::new("a", "noarch").requires(&deep, 0)],
        Options::default(),
    );
    assert!(
        said[0].ends_with("it is nested more than 64 levels deep"),
        "{}",
        said.len()
    );
}
