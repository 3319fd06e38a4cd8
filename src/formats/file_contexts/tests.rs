use super::testing::{ANSWERS, DISTRIBUTION, LOCAL, RULES};
use super::*;

fn database(inputs: &[&str], local: &str, distribution: &str) -> FileContexts {
    let mut database = Database::default();
    for input in inputs {
        database.add(input.as_bytes()).unwrap();
    }
    database.add_local_substitutions(local.as_bytes()).unwrap();
    database
        .add_distribution_substitutions(distribution.as_bytes())
        .unwrap();
    database.compile().unwrap()
}

fn kind(flag: &str) -> FileKind {
    FileKind::from_flag(flag).unwrap()
}

#[test]
fn entries_have_two_or_three_fields() {
    let text =
        b"# comment\n\n  /a/b(/.*)?\t--  u:o:t:s0 and more\r\n\t/c <<none>>\n/d\\.e -d u:o:t:s0-s0:c0.c1023";
    let spec = |pattern: &str, kind, context: Option<&str>, line| Spec {
        pattern: pattern.into(),
        kind,
        context: context.map(str::to_owned),
        line,
    };
    let wanted = [
        spec("/a/b(/.*)?", Some(FileKind::Regular), Some("u:o:t:s0"), 3),
        spec("/c", None, None, 4),
        spec(
            "/d\\.e",
            Some(FileKind::Directory),
            Some("u:o:t:s0-s0:c0.c1023"),
            5,
        ),
    ];
    assert_eq!(parse(text).unwrap(), wanted);
}

#[test]
fn lines_that_are_no_entries_are_refused_by_number() {
    let long = format!("\n\n/{} u:o:t", "a".repeat(4096));
    let cases: &[(&[u8], &str)] = &[
        (b"\n/a\n", "line 2: `/a` has no context after it"),
        (b"/a -x u:o:t", "line 1: `-x` is no file type"),
        (b"/a u:o", "line 1: `u:o` is no context"),
        (b"/a -- u::t", "`u::t` is no context"),
        (b"/a u:o:t:", "`u:o:t:` is no context"),
        (b"/a <<some>>", "`<<some>>` is no context"),
        (b"/\xc3\xa4 u:o:t", "line 1: it holds a byte that is not ASCII"),
        (b"/a\0b u:o:t", "line 1: it holds a NUL byte"),
        (long.as_bytes(), "line 3: a pattern of 4097 bytes is longer"),
    ];
    for (text, wanted) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}: {wanted}");
    }
    let error = parse_substitutions(format!("\n/a {}", "b".repeat(1020)).as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2: a line of 1023 bytes is longer than the 1021 that libselinux reads"
    );
}

/// Patterns with paths that they match and do not, as PCRE2 answers for `^PATTERN$`.
const MATCHES: &[(&str, &[&str], &[&str])] = &[
    ("/a.c", &["/abc", "/a\nc", "/a/c"], &["/ac", "/abcd", "x/abc"]),
    ("/a(/.*)?", &["/a", "/a/", "/a/b/c", "/a\n"], &["/ab", "/a\nb"]),
    // Anchors bind tighter than alternatives.
    ("/a|/b", &["/a", "/ax", "/x/b"], &["/b/", "x/a"]),
    ("/[^/]+/[a-c-]x", &["/q/ax", "/q/-x"], &["/q/r/ax", "/q/dx"]),
    ("/[]a]x", &["/]x", "/ax"], &["/[x"]),
    ("/[^]a]x", &["/bx"], &["/]x", "/ax"]),
    ("/[[&&~~-]x", &["/[x", "/&x", "/~x", "/-x"], &["/ax"]),
    ("/[[:digit:]_]+", &["/1_2"], &["/:", "/d"]),
    ("/[[:^digit:]]", &["/a"], &["/1"]),
    ("/[\\w-]+\\.d", &["/a-b_c.d"], &["/a.b.d", "/abcd"]),
    ("/[\\]\\\\]", &["/]", "/\\"], &["/a"]),
    ("/x{2}y{1,}z{0,1}", &["/xxy", "/xxyyz"], &["/xy", "/xxyzz"]),
    ("/x{a}", &["/x{a}"], &["/xa"]),
    ("/x{", &["/x{"], &["/x"]),
    ("/x}]", &["/x}]"], &["/x"]),
    ("/\\<\\>\\-\\_\\,\\ ", &["/<>-_, "], &["/"]),
    ("/a*?b+?c??", &["/aab", "/bc"], &["/a"]),
    ("/(a|(?:b|c)d)", &["/a", "/bd", "/cd"], &["/b", "/d"]),
    ("/(|a)b()", &["/b", "/ab"], &["/a"]),
    ("/\\x41\\x2e\\x2A", &["/A.*"], &["/A", "/Axx"]),
    ("/\\bq\\b.*", &["/q.x", "/q"], &["/qx"]),
    ("/a$(b)?", &["/a"], &["/ab"]),
];

#[test]
fn patterns_match_as_pcre2_matches_them() {
    for (pattern, matched, not) in MATCHES {
        let regex = regex::bytes::Regex::new(&pattern::translate(pattern).unwrap()).unwrap();
        for path in *matched {
            assert!(regex.is_match(path.as_bytes()), "{pattern} {path:?}");
        }
        for path in *not {
            assert!(!regex.is_match(path.as_bytes()), "{pattern} {path:?}");
        }
    }
    // Bytes, not characters.
    let regex = regex::bytes::Regex::new(&pattern::translate("/..").unwrap()).unwrap();
    assert!(
        regex.is_match("/\u{e9}".as_bytes()) && regex.is_match(b"/\xff\xfe") && !regex.is_match(b"/\xff")
    );
}

#[test]
fn patterns_that_cannot_be_matched_are_refused() {
    let cases = [
        ("/a(?=b)", "looks ahead, at its byte 2"),
        ("/a(?!b)", "looks ahead"),
        ("/(?<=a)b", "looks behind"),
        ("/(?<!a)b", "looks behind"),
        ("/(?>a)b", "atomic"),
        ("/(?i)b", "options"),
        ("/(?P<n>a)", "options"),
        ("/(*ACCEPT)", "verb"),
        ("/(a)\\1", "back reference"),
        ("/a++", "possessive"),
        ("/a{1,2}+", "possessive"),
        ("/a**", "a quantifier behind a quantifier, at its byte 3"),
        ("/(*a)", "verb"),
        ("/(+a)", "behind nothing"),
        ("*a", "behind nothing"),
        ("/a{,2}", "read differently"),
        ("/a{ 1 }", "read differently"),
        ("/a{2,1}", "at most less"),
        ("/a{70000}", "65535"),
        ("/(a", "`(` without its `)`"),
        ("/a)", "`)` without its `(`"),
        ("/[a", "`[` without its `]`"),
        ("/[]", "`[` without its `]`"),
        ("/[b-a]", "ends before it begins"),
        ("/[[:nope:]]", "does not know"),
        ("/[[.a.]]", "does not know"),
        ("/a\\", "ends in a backslash"),
        ("/\\pL", "an escape that this program does not know"),
        ("/\\Qa\\E", "an escape"),
        ("/\\x4", "hexadecimal"),
    ];
    for (pattern, wanted) in cases {
        let error = pattern::translate(pattern).unwrap_err().to_string();
        assert!(error.contains(wanted), "{pattern}: {error}");
        let error = Database::default().add(format!("\n{pattern} u:o:t").as_bytes());
        // `/a\` and the like are no literals either.
        let error = error.map_or_else(|error| error.to_string(), |()| String::new());
        assert!(
            pattern.contains(' ') || error.starts_with("line 2: the pattern"),
            "{pattern}: {error}"
        );
    }
    let deep = format!("/{}{}", "(".repeat(251), ")".repeat(251));
    assert!(
        pattern::translate(&deep)
            .unwrap_err()
            .to_string()
            .contains("deeper than 250")
    );
}

#[test]
fn patterns_that_explode_are_refused_by_number() {
    let mut database = Database::default();
    database.add(b"/a* u:o:t").unwrap();
    database.add(b"/b* u:o:t\n/(.{1000}){1000} u:o:t").unwrap();
    let error = database.compile().unwrap_err();
    let CompileError::Pattern { input, line, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*input, *line), (1, 2));
    // What would take PCRE2 ages.
    let slow = self::database(&["/(a*)*(a*)*(a*)*b u:o:t"], "", "");
    assert_eq!(
        slow.lookup(format!("/{}", "a".repeat(4000)).as_bytes(), FileKind::Regular),
        None
    );
}

#[test]
fn lookups_follow_the_rules_of_libselinux() {
    let contexts = database(&RULES, LOCAL, DISTRIBUTION);
    for (path, flag, wanted) in ANSWERS {
        let label = contexts.lookup(path.as_bytes(), kind(flag));
        let wanted = wanted.map(|name| format!("u:o:{name}:s0"));
        assert_eq!(label.map(|label| &**label), wanted.as_deref(), "{path} {flag}");
    }
    assert_eq!(
        contexts.lookup(b"/opt\xff/a", kind("--")).map(|label| &**label),
        Some("u:o:any:s0")
    );
}
