//! A policy that goes through libselinux's rules, with its answers, for tests here and of labelling.

/// `file_contexts`, `.homedirs`, `.local`.
pub const RULES: [&str; 3] = [
    "/.* u:o:any:s0\n\
     /usr/.* u:o:usr:s0\n\
     /usr/lib/.*\\.so -- u:o:lib:s0\n\
     /usr/lib/x\\.so u:o:exact:s0\n\
     /usr/lib/x\\.so -- u:o:exactfile:s0\n\
     /usr/lib/y\\d u:o:digit:s0\n\
     /usr/lib/none(/.*)? <<none>>\n\
     /usr/lib/literal <<none>>\n\
     /.*/late -d u:o:late:s0\n\
     /usr/lib/none/deep/.* u:o:deep:s0\n\
     /opt/a|/opt/b u:o:alternative:s0\n\
     /(var|run)/lock u:o:lock:s0\n\
     /usr/l\\-b/.* u:o:escaped:s0\n\
     /odd//path/.* u:o:odd:s0\n\
     /etc/(.*/)?conf u:o:conf:s0\n",
    "/usr/lib/y.* u:o:home:s0\n",
    "/usr/lib/x\\.so -d u:o:local:s0\n/opt/.* <<none>>\n/opt/z/.* u:o:z:s0\n",
];
pub const LOCAL: &str = "# local\n/mine /usr/lib\n/root0 /\nalone\n";
pub const DISTRIBUTION: &str = "/lib /usr/lib\n/mine /never\n/usr/lib/other /opt/z\n/lib/q /first/wins\n";
/// Path, type, and the type part of the label.
pub const ANSWERS: &[(&str, &str, Option<&str>)] = &[
    ("/", "-d", Some("any")),
    ("/usr", "-d", Some("any")),
    ("/usr/a", "--", Some("usr")),
    ("/usr/lib/a.so", "--", Some("lib")),
    ("/usr/lib/a.so", "-l", Some("usr")),
    ("/usr/lib/x.so", "--", Some("exactfile")),
    ("/usr/lib/x.so", "-l", Some("exact")),
    ("/usr/lib/x.so", "-d", Some("local")),
    ("/usr/lib/y1", "--", Some("home")),
    ("/usr/lib/none", "-d", None),
    ("/usr/lib/none/a", "-p", None),
    // A later entry nearer to the root does not undo `<<none>>`.
    ("/usr/lib/none/late", "-d", None),
    ("/usr/lib/none/deep/a", "-s", Some("deep")),
    ("/usr/lib/literal", "-c", None),
    ("/usr/lib/q/late", "-d", Some("late")),
    ("/usr/lib/q/late", "-b", Some("usr")),
    ("/opt/a", "--", None),
    ("/opt/z/a", "--", Some("z")),
    ("/run/lock", "-d", Some("lock")),
    ("/run/lock/a", "-d", Some("any")),
    ("/usr/l-b/c", "--", Some("escaped")),
    ("/odd/path/c", "--", Some("any")),
    ("/etc/a/conf", "--", Some("conf")),
    ("/etc/conf", "--", Some("conf")),
    ("/lib/a.so", "--", Some("lib")),
    ("/lib", "-l", Some("usr")),
    ("/library", "-l", Some("any")),
    ("/mine/a.so", "--", Some("lib")),
    ("/mine/other/a", "--", Some("z")),
    ("/root0/usr/lib/a.so", "--", Some("lib")),
    ("/root0", "-d", Some("any")),
    ("/lib/q", "--", Some("usr")),
];
