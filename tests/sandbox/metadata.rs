//! Owners, devices and extended attributes: recorded, shown, read back.

use hullwright::scriptlet::sandbox::{ChangeKind, End, Limits};
use hullwright::tree::Kind;

use crate::tree::{Lab, dir, lab, node, owned, path};

const CAPABILITY: &[u8] = b"security.capability";

/// `stat` of `file` as a script sees it: owner, group, mode, type, device numbers.
fn shown(lab: &mut Lab, file: &str) -> String {
    lab.output(&format!("stat -c '%u %g %a %F %t:%T' {file}"))
        .trim_end()
        .to_owned()
}

#[test]
fn owners_are_recorded_and_shown() {
    let mut lab = lab(Limits::default());
    lab.output("echo x >/data/f; ln -s f /data/l; chown 998:4000000000 /data/f; chgrp disk /data; chown -h daemon:daemon /data/l");
    assert_eq!(shown(&mut lab, "/data/f"), "998 4000000000 644 regular file 0:0");
    assert_eq!(shown(&mut lab, "/data"), "0 6 755 directory 0:0");
    assert_eq!(shown(&mut lab, "/data/l"), "2 2 777 symbolic link 0:0");
    assert_eq!(
        shown(&mut lab, "-L /data/l"),
        "998 4000000000 644 regular file 0:0"
    );
    // By descriptor, relative to a directory, through the directory of open files, by find's own way.
    assert_eq!(lab.output("stat -c %u - </data/f"), "998\n");
    assert_eq!(
        lab.output("cd /data; stat -c %u f ./f ../data/f; find . -user 998 -printf '%p %U\\n'"),
        "998\n998\n998\n./f 998\n"
    );
    assert_eq!(lab.output("exec 7</data/f; stat -L -c %u /proc/self/fd/7 /dev/fd/7 7>&7 2>/dev/null || stat -L -c %u /dev/stdin <&7"), "998\n998\n");
    assert_eq!(lab.output("cd /data; mkdir -p a/b; cd a/b; ln -s /data/f abs; stat -L -c %u abs ../../f; chown -h 5 abs; chown 7 ../../f; stat -c %u abs; stat -c %u /data/f"), "998\n998\n5\n7\n");
    let file = lab.read("/data/f");
    assert_eq!(
        (file.meta.uid, file.meta.gid, file.meta.mode, file.meta.mtime),
        (7, 4_000_000_000, 0o644, 77)
    );
    assert_eq!(lab.read("/data").meta.gid, 6);
    assert_eq!(lab.read("/data/l").meta.uid, 2);
    assert_eq!(lab.read("/data/l").kind.noun(), "a symbolic link");
    // What is the host's is root's, whoever builds.
    assert_eq!(shown(&mut lab, "/dev/null"), "0 0 666 character special file 1:3");
    // On disk they are the builder's.
    let metadata = std::fs::metadata(lab.scratch.path().join("root/data/f")).unwrap();
    assert_eq!(
        std::os::unix::fs::MetadataExt::uid(&metadata),
        nix::unistd::geteuid().as_raw()
    );
}

#[test]
fn records_follow_their_inode_and_end_with_it() {
    let mut lab = lab(Limits::default());
    lab.output("cd /data; touch f g; chown 9:9 f; mv f moved; ln moved hard; chown 8 g; rm g; for i in 1 2 3 4 5; do touch n$i; done");
    assert_eq!(lab.output("cd /data; stat -c '%u %h' moved hard"), "9 2\n9 2\n");
    // A new file may get the number of the old one, and nothing else of it.
    let all = lab.output("cd /data; i=0; while [ $i -lt 200 ]; do : >x; chown 77 x; rm x; : >y; stat -c %u y; rm y; i=$((i+1)); done");
    assert_eq!(all, "0\n".repeat(200));
    assert_eq!(lab.output("cd /data; stat -c %u n1 n2 n3 n4 n5"), "0\n".repeat(5));
    let (one, two) = (lab.read("/data/moved"), lab.read("/data/hard"));
    let (Kind::File(one), Kind::File(two)) = (one.kind, two.kind) else {
        panic!()
    };
    assert!(one.link.is_some());
    assert_eq!(one, two);
}

#[test]
fn programs_that_copy_keep_what_is_recorded() {
    let mut lab = lab(Limits::default());
    lab.output("cd /data; mkdir from; echo x >from/f; chown 12:34 from from/f; chmod 4755 from/f; mknod from/null c 1 3; setcap cap_net_raw+ep from/f; ln -s f from/l; chown -h 3 from/l");
    lab.output("cd /data; cp -a from copied; mkdir out; tar --xattrs --xattrs-include='*' -cpf - -C from . | tar --xattrs --xattrs-include='*' -xpf - -C out; install -o daemon -g 6 -m 2750 from/f installed");
    for place in ["copied", "out"] {
        let at = format!("/data/{place}");
        assert_eq!(
            shown(&mut lab, &format!("{at}/f")),
            "12 34 4755 regular file 0:0",
            "{place}"
        );
        assert_eq!(
            shown(&mut lab, &format!("{at}/null")),
            "0 0 644 character special file 1:3"
        );
        assert_eq!(shown(&mut lab, &format!("{at}/l")), "3 0 777 symbolic link 0:0");
        assert_eq!(
            lab.output(&format!("getcap {at}/f")),
            format!("{at}/f cap_net_raw=ep\n")
        );
        assert_eq!(lab.read(&at).meta.uid, 12);
    }
    assert_eq!(shown(&mut lab, "/data/installed"), "2 6 2750 regular file 0:0");
}

#[test]
fn devices_are_recorded() {
    let mut lab = lab(Limits::default());
    lab.output("umask 027; mknod /data/c c 5 1; mknod -m 600 /data/b b 259 70000; cd /data; mknod p p; ! mknod c c 1 1; ! mknod /absent/x c 1 1");
    assert_eq!(shown(&mut lab, "/data/c"), "0 0 640 character special file 5:1");
    assert_eq!(shown(&mut lab, "/data/b"), "0 0 600 block special file 103:11170");
    let Kind::CharDevice { major: 5, minor: 1 } = lab.read("/data/c").kind else {
        panic!()
    };
    let Kind::BlockDevice {
        major: 259,
        minor: 70000,
    } = lab.read("/data/b").kind
    else {
        panic!()
    };
    assert!(matches!(lab.read("/data/p").kind, Kind::Fifo));
    assert_eq!(
        lab.output("test -c /data/c && test ! -f /data/c && test -b /data/b && test -p /data/p && echo yes"),
        "yes\n"
    );
}

#[test]
fn capabilities_and_attributes_are_recorded() {
    let mut lab = lab(Limits::default());
    let text = lab.output(
        "cd /data; cp /bin/true t; setcap cap_net_bind_service,cap_chown+ep t; getcap t; setfattr -n user.note -v abc t; \
         setfattr -n trusted.x -v 1 t; getfattr -d -m - t; setfattr -x user.note t; getfattr -m - t; \
         ! getfattr -n user.note t 2>/dev/null; ! setfattr -n system.posix_acl_access -v 0x0200 t 2>/dev/null; \
         ! setfattr -n bad. -v 1 t 2>/dev/null",
    );
    assert!(
        text.starts_with("t cap_chown,cap_net_bind_service=ep\n"),
        "{text}"
    );
    assert!(text.contains("trusted.x=\"1\"\nuser.note=\"abc\"\n"), "{text}");
    assert!(text.ends_with("security.capability\ntrusted.x\n\n"), "{text}");
    let xattrs = lab.read("/data/t").meta.xattrs;
    // Version 2, effective, chown and net_bind_service permitted.
    let expected = [1, 0, 0, 2, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(xattrs[CAPABILITY].to_vec(), expected);
    assert_eq!(xattrs.len(), 2);
    // A new owner does not get a program's capabilities.
    lab.output("chmod 6755 /data/t; chown 5 /data/t");
    let after = lab.read("/data/t").meta;
    assert!(!after.xattrs.contains_key(CAPABILITY));
    assert_eq!(after.mode, 0o755);
}

#[test]
fn what_is_laid_is_shown_and_read_back() {
    let mut lab = lab(Limits::default());
    let mut tool = owned(0, 15, node(0o2755, Kind::file(*b"tool")));
    tool.meta.xattrs.insert(CAPABILITY.into(), vec![1; 20].into());
    let nodes = [
        ("/etc/shadow", owned(0, 42, node(0, Kind::file(*b"secret")))),
        ("/data/closed", owned(81, 81, node(0, dir()))),
        ("/data/closed/in", owned(81, 0, node(0o400, Kind::file(*b"in")))),
        ("/data/tool", tool),
        ("/data/dev", node(0o660, Kind::BlockDevice { major: 8, minor: 1 })),
        (
            "/data/link",
            owned(4, 4, node(0o777, Kind::Symlink((*b"/etc/shadow").into()))),
        ),
        ("/data/fifo", node(0o600, Kind::Fifo)),
        ("/new/above/file", node(0o644, Kind::file(vec![7; 400_000]))),
    ];
    for (at, node) in &nodes {
        lab.sandbox.put(&path(at), node).unwrap();
    }
    assert_eq!(shown(&mut lab, "/etc/shadow"), "0 42 0 regular file 0:0");
    assert_eq!(
        lab.output("cat /etc/shadow /data/closed/in /data/tool"),
        "secretintool"
    );
    assert_eq!(shown(&mut lab, "/data/dev"), "0 0 660 block special file 8:1");
    for (at, node) in &nodes {
        let found = lab.read(at);
        assert_eq!(found.kind.noun(), node.kind.noun(), "{at}");
        let mut meta = node.meta.clone();
        meta.mtime = 77;
        assert_eq!(found.meta, meta, "{at}");
        if let (Kind::File(a), Kind::File(b)) = (&found.kind, &node.kind) {
            assert_eq!(a.blob.read_all().unwrap(), b.blob.read_all().unwrap());
        }
    }
    // Nothing that was only looked at has changed, whatever rights it took.
    assert_eq!(lab.changes("true"), []);
    assert_eq!(
        lab.changes("echo more >>/etc/shadow; echo x >/data/closed/in"),
        [
            ("/data/closed/in".to_owned(), ChangeKind::Content),
            ("/etc/shadow".to_owned(), ChangeKind::Content),
        ]
    );
    lab.sandbox.remove(&path("/data/closed")).unwrap();
    assert!(lab.sandbox.read(&path("/data/closed/in"), 0).unwrap().is_none());
    assert_eq!(lab.changes("test ! -e /data/closed"), []);
}

#[test]
fn other_users_are_refused_not_pretended() {
    let mut lab = lab(Limits::default());
    for (flags, why) in [
        ("--reuid=2", "setresuid failed"),
        ("--regid=2 --clear-groups", "failed"),
    ] {
        let outcome = lab.run(&format!("setpriv {flags} id"));
        let text = String::from_utf8_lossy(&outcome.output);
        assert_ne!(outcome.end, End::Exit(0), "{text}");
        assert!(text.contains(why) && !text.contains("uid="), "{text}");
    }
}

#[test]
fn the_same_scripts_leave_the_same() {
    let left = || {
        let mut lab = lab(Limits::default());
        let changes = lab.changes("cd /data; mkdir d; for i in 3 1 2; do echo $i >d/$i; chown $i d/$i; ln d/$i h$i; done; mknod d/n c 1 $((2+3)); setcap cap_chown+p d/1");
        let nodes: Vec<_> = changes
            .iter()
            .map(|(at, _)| {
                let node = lab.read(at);
                (node.meta, format!("{:?}", node.kind))
            })
            .collect();
        (changes, nodes)
    };
    let (one, two) = (left(), left());
    assert_eq!(one.0.len(), 8);
    assert_eq!(one, two);
}
