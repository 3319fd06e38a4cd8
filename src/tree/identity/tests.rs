use super::super::{Kind, Meta, Origin};
use super::*;

fn tree(files: &[(&'static str, &'static str)]) -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    for (path, content) in files {
        let node = Node::new(
            Meta::root(0o644, 0),
            Kind::file(content.as_bytes()),
            Origin::Composer("test"),
        );
        tree.insert(&TreePath::literal(path), node).unwrap();
    }
    tree
}

fn read(tree: &Tree, path: &'static str) -> String {
    text(tree, &TreePath::literal(path)).unwrap().unwrap_or_default()
}

const BASE: [(&str, &str); 3] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nbase:x:6:6::/:/usr/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\nbase:x:6:\nutmp:x:43:\n"),
    (
        "/usr/lib/sysusers.d/pkg.conf",
        "u drawn - \"Drawn\" /run\ng utmp -\nu fixed 999\nm base utmp\nm newcomer utmp\n",
    ),
];

#[test]
fn accounts_are_made_as_systemd_sysusers_makes_them() {
    let mut tree = tree(&BASE);
    let accounts = apply(&mut tree, 86_400, None).unwrap();
    let uid = |name: &str| accounts.users[name].uid;
    assert_eq!((uid("fixed"), uid("drawn"), uid("newcomer")), (999, 998, 997));
    assert_eq!(accounts.groups["utmp"].gid, 43);
    assert_eq!(accounts.groups["utmp"].members, ["base", "newcomer"]);
    assert!(read(&tree, "/etc/passwd").contains("drawn:x:998:998:Drawn:/run:/usr/sbin/nologin\n"));
    assert!(read(&tree, "/etc/shadow").contains("drawn:!*:1::::::\n"));
}

#[test]
fn every_number_is_fixed_by_a_line() {
    let mut tree = tree(&BASE);
    apply(&mut tree, 0, None).unwrap();
    let lines = read(&tree, "/etc/sysusers.d/pkg.conf");
    assert!(
        lines.contains("u drawn 998 \"Drawn\" /run\ng utmp 43\nu fixed 999\n"),
        "{lines}"
    );
    let others = read(&tree, ACCOUNTS_FILE);
    assert!(others.contains("u base 6:6 - / /usr/sbin/nologin\n"), "{others}");
    assert!(!others.contains("drawn") && !others.contains("fixed"), "{others}");
    // What was written gives the same accounts again.
    let passwd = read(&tree, "/etc/passwd");
    apply(&mut tree, 0, None).unwrap();
    assert_eq!(read(&tree, "/etc/passwd"), passwd);
}

#[test]
fn owners_need_an_account_and_numbers_one_owner() {
    let mut unowned = tree(&BASE);
    let path = TreePath::literal("/etc/passwd");
    unowned.get_mut(&path).unwrap().meta.user = Some("nobody-knows".into());
    let error = apply(&mut unowned, 0, None).unwrap_err().to_string();
    assert!(
        error.starts_with("`/etc/passwd` belongs to user `nobody-knows`"),
        "{error}"
    );

    let mut clash = tree(&[BASE[0], BASE[1], ("/usr/lib/sysusers.d/x.conf", "u other 6\n")]);
    let error = apply(&mut clash, 0, None).unwrap_err().to_string();
    assert!(
        error.contains("wants number 6 for user `other`, but `base` has it"),
        "{error}"
    );
}

/// A package's account, and a file that is its.
fn with_account(line: &'static str) -> Tree {
    let mut tree = tree(&[
        BASE[0],
        BASE[1],
        ("/usr/lib/sysusers.d/pkg.conf", line),
        ("/usr/lib/owned", ""),
    ]);
    let path = TreePath::literal("/usr/lib/owned");
    tree.get_mut(&path).unwrap().meta.user = Some("daemon".into());
    tree
}

#[test]
fn locked_numbers_stay_whatever_else_comes_and_goes() {
    let first = lock_ids(&with_account("u daemon -\n"), &IdsLock::empty("l")).unwrap();
    assert_eq!(first.id(IdKind::User, "daemon"), Some(999));
    // A second account, whose name and file come before the first one's.
    let mut both = tree(&[
        BASE[0],
        BASE[1],
        ("/usr/lib/sysusers.d/a.conf", "u another -\ng plain -\n"),
        ("/usr/lib/sysusers.d/pkg.conf", "u daemon -\n"),
    ]);
    let second = lock_ids(&both, &first).unwrap();
    assert_eq!(second.id(IdKind::User, "daemon"), Some(999));
    // Groups are made before users, and neither takes the other's number.
    assert_eq!(second.id(IdKind::Group, "plain"), Some(998));
    assert_eq!(second.id(IdKind::User, "another"), Some(997));
    assert_eq!(second.id(IdKind::Group, "another"), Some(997));
    let accounts = apply(&mut both, 0, Some(&second)).unwrap();
    assert_eq!(accounts.users["daemon"].uid, 999);
    assert!(read(&both, "/etc/sysusers.d/pkg.conf").contains("u daemon 999\n"));
    // Gone, its line stays and its number is nobody else's; back, it has it again.
    let without = tree(&[
        BASE[0],
        BASE[1],
        ("/usr/lib/sysusers.d/a.conf", "u another -\nu third -\n"),
    ]);
    let third = lock_ids(&without, &second).unwrap();
    assert_eq!(third.id(IdKind::User, "daemon"), Some(999));
    assert_eq!(third.id(IdKind::User, "third"), Some(996));
    assert_eq!(lock_ids(&both, &third).unwrap(), third);
    // Nothing new: nothing changes.
    assert_eq!(lock_ids(&without, &third).unwrap().to_text(), third.to_text());
}

#[test]
fn the_build_takes_locked_numbers_only() {
    let lock = IdsLock::parse(
        "version = 1\n[users]\nroot = 0\nbase = 6\ndaemon = 500\ngone = 400\n\
         [groups]\nroot = 0\nbase = 6\nutmp = 43\ndaemon = 501\n",
        "x.ids.lock",
    )
    .unwrap();
    let mut tree = with_account("u daemon -\n");
    let accounts = apply(&mut tree, 0, Some(&lock)).unwrap();
    assert_eq!(
        (accounts.users["daemon"].uid, accounts.users["daemon"].gid),
        (500, 501)
    );
    assert!(read(&tree, "/etc/sysusers.d/pkg.conf").contains("u daemon 500:501\n"));

    let owned = "`/usr/lib/owned` would change hands";
    let state = "what it owns on machines already made would change hands";
    let of = |file: &str| format!("`/usr/lib/sysusers.d/{file}.conf`");
    let cases = [
        (
            "u daemon 123\n",
            format!(
                "{} gives user `daemon` number 123, but `x.ids.lock` fixes 500: {owned}",
                of("pkg")
            ),
        ),
        (
            "g daemon 500\nu daemon -:daemon\n",
            format!(
                "{} gives group `daemon` number 500, but `x.ids.lock` fixes 501: {state}",
                of("pkg")
            ),
        ),
        (
            "u daemon -\nu new 400\n",
            format!(
                "{} gives number 400 to user `new`, but `x.ids.lock` fixes it for `gone`: {state}",
                of("pkg")
            ),
        ),
        (
            "u new 500\nu daemon -\n",
            format!(
                "{} gives number 500 to user `new`, but `x.ids.lock` fixes it for `daemon`: {owned}",
                of("pkg")
            ),
        ),
        (
            "u daemon -\nu new -\ng more -\n",
            "`x.ids.lock` fixes no number for user `new`, group `more`, group `new`".to_owned(),
        ),
    ];
    for (line, expected) in cases {
        let error = apply(&mut with_account(line), 0, Some(&lock)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    // A group may have the number of a user of another name.
    let mut tree = with_account("u daemon -\n");
    let other = IdsLock::parse(&lock.to_text().replace("daemon = 501", "daemon = 400"), "y").unwrap();
    assert_eq!(
        apply(&mut tree, 0, Some(&other)).unwrap().groups["daemon"].gid,
        400
    );

    let base = with_account("u daemon -\n");
    let moved = IdsLock::parse(&lock.to_text().replace("base = 6", "base = 7"), "y").unwrap();
    let error = lock_ids(&base, &moved).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("`/etc/passwd` gives user `base` number 6, but `y` fixes 7: {state}")
    );
}

#[test]
fn a_primary_group_by_number_must_be_there() {
    let lock = IdsLock::parse(
        "version = 1\n[users]\nroot = 0\nbase = 6\nnewapp = 979\n\
         [groups]\nroot = 0\nbase = 6\nutmp = 43\nolddb = 980\n",
        "x.ids.lock",
    )
    .unwrap();
    let with = |line| tree(&[BASE[0], BASE[1], ("/usr/lib/sysusers.d/pkg.conf", line)]);
    let start = "`/usr/lib/sysusers.d/pkg.conf` makes group 980 the primary one of user `newapp`, but";
    let error = apply(&mut with("u newapp 979:980\n"), 0, Some(&lock)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{start} `x.ids.lock` fixes that number for group `olddb`, which no package of the set makes: \
             what it owns on machines already made would change hands"
        )
    );
    let error = apply(&mut with("u newapp 979:980\n"), 0, None).unwrap_err();
    assert_eq!(error.to_string(), format!("{start} no group has that number"));
    // Whichever line comes first.
    let accounts = apply(&mut with("u newapp 979:980\ng olddb 980\n"), 0, Some(&lock)).unwrap();
    assert_eq!(accounts.users["newapp"].gid, 980);

    // One that the base names is not drawn for another.
    let passwd = "root:x:0:0:root:/root:/bin/sh\nbase:x:6:999::/:/bin/sh\n";
    let mut dangling = tree(&[
        ("/etc/passwd", passwd),
        BASE[1],
        ("/usr/lib/sysusers.d/a.conf", "g drawn -\n"),
    ]);
    let error = apply(&mut dangling, 0, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/etc/passwd` makes group 999 the primary one of user `base`, but no group has that number"
    );
}

#[test]
fn accounts_of_the_base_are_written_as_lines_that_mean_the_same() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                  odd:x:7:6:50% \"odd\" \\ one:/srv/odd home:\n\
                  none:x:8:6:::/bin/sh\n";
    let mut made = tree(&[("/etc/passwd", passwd), ("/etc/group", "root:x:0:\nbase:x:6:\n")]);
    apply(&mut made, 0, None).unwrap();
    let lines = read(&made, ACCOUNTS_FILE);
    assert!(
        lines.ends_with(
            "u odd 7:6 \"50%% \\\"odd\\\" \\\\ one\" \"/srv/odd home\" /bin/sh\nu none 8:6 - - /bin/sh\n"
        ),
        "{lines}"
    );
    let mut again = tree(&[("/etc/group", "root:x:0:\nbase:x:6:\n")]);
    let node = made.get(&TreePath::literal(ACCOUNTS_FILE)).unwrap().clone();
    again.insert(&TreePath::literal(ACCOUNTS_FILE), node).unwrap();
    let accounts = apply(&mut again, 0, None).unwrap();
    let odd = &accounts.users["odd"];
    assert_eq!(
        (odd.gecos.as_str(), odd.home.as_str()),
        ("50% \"odd\" \\ one", "/srv/odd home")
    );
}
