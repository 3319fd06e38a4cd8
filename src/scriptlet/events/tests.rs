use std::fs;

use super::{Step, steps};
use crate::scriptlet::testing::{build, install, root_with_shell};
use crate::scriptlet::{of_package, order};

/// Every scriptlet of it writes its name, arguments and input into a log.
const SPEC: &str = r#"
%install
mkdir -p %{buildroot}/usr/share/foo/sub %{buildroot}/usr/share/foobar %{buildroot}/opt/x
cd %{buildroot}/usr/share
touch foo/a foo/b foo/sub/c foobar/z foo/ghost ../../opt/x/1

%package -n a
Summary: s
%description -n a
d
%pretrans -n a
echo "a pretrans $*" >> /log
%pre -n a
echo "a pre $*" >> /log
%post -n a
echo "a post $*" >> /log
%preun -n a
echo "a preun $*" >> /log
%postun -n a
echo "a postun $*" >> /log
%posttrans -n a
echo "a posttrans $*" >> /log
%triggerprein -n a -- b
echo "a triggerprein[0] $*" >> /log
%triggerin -n a -- b < 1
echo "a triggerin[1] $*" >> /log
%triggerin -n a -- a, c > 0
echo "a triggerin[2] $*" >> /log
%triggerin -n a -- d
echo "a triggerin[3] $*" >> /log
%triggerun -n a -- b
echo "a triggerun[4] $*" >> /log
%filetriggerin -n a -P 50000 -- /usr/share/foo
echo "a filetriggerin[0] $* : "$(cat) >> /log
%filetriggerin -n a -P 9999 -- /usr/share/foo
echo "a filetriggerin[1] $* : "$(cat) >> /log
%filetriggerin -n a -P 10000 -- /usr/share/foo /opt
echo "a filetriggerin[2] $* : "$(cat) >> /log
%transfiletriggerin -n a -- /usr/share/foo /opt
echo "a transfiletriggerin[0] $* : "$(cat) >> /log
%files -n a
/usr/share/foo/a

%package -n b
Summary: s
%description -n b
d
%pre -n b
echo "b pre $*" >> /log
%post -n b
echo "b post $*" >> /log
%triggerprein -n b -- a
echo "b triggerprein[0] $*" >> /log
%triggerin -n b -- a c
echo "b triggerin[1] $*" >> /log
%filetriggerin -n b -P 300000 -- /opt
echo "b filetriggerin[0] $* : "$(cat) >> /log
%filetriggerin -n b -P 100 -- /opt /usr
echo "b filetriggerin[1] $* : "$(cat) >> /log
%transfiletriggerin -n b -P 5 -- /usr
echo "b transfiletriggerin[0] $* : "$(cat) >> /log
%transfiletriggerin -n b -P 10 -- /usr/share/foo
echo "b transfiletriggerin[1] $* : "$(cat) >> /log
%files -n b
/usr/share/foo/b
/opt/x/1

%package -n c
Summary: s
%description -n c
d
%post -n c
echo "c post $*" >> /log
%files -n c
%dir /usr/share/foo
/usr/share/foo/sub
/usr/share/foobar
%ghost /usr/share/foo/ghost

%package -n d
Summary: s
Requires: b
%description -n d
d
%post -n d
echo "d post $*" >> /log
%posttrans -n d
echo "d posttrans $*" >> /log
%filetriggerin -n d -- /usr/share/foo/sub
echo "d filetriggerin[0] $* : "$(cat) >> /log
%transfiletriggerin -n d -P 5 -- /usr/share/foo/a
echo "d transfiletriggerin[0] $* : "$(cat) >> /log
%files -n d
%dir /usr/share/foo
"#;

#[test]
fn all_runs_are_those_of_rpm() {
    let directory = tempfile::tempdir().unwrap();
    let Some(set) = build(directory.path(), SPEC) else {
        return;
    };
    let Some(root) = root_with_shell(directory.path()) else {
        return;
    };
    if install(&root, set.packages()).is_none() {
        return;
    }
    let log = fs::read_to_string(root.join("log")).unwrap();
    let order = order::installation(set.packages()).unwrap();
    let scriptlets: Vec<_> = set
        .packages()
        .iter()
        .map(|package| of_package(package).unwrap())
        .collect();
    let mut lines = Vec::new();
    for step in steps(set.packages(), &scriptlets, &order) {
        let Step::Run(event) = step else {
            continue;
        };
        let scriptlet = &scriptlets[event.package][event.scriptlet];
        let numbers: Vec<_> = event.arguments.iter().map(u32::to_string).collect();
        let name = &set.packages()[event.package].nevra.name;
        let mut line = format!("{name} {} {}", scriptlet.name(), numbers.join(" "));
        if !event.paths.is_empty() {
            let paths = event.paths.iter().map(|path| String::from_utf8_lossy(path));
            line.push_str(" : ");
            line.push_str(&paths.collect::<Vec<_>>().join(" "));
        }
        lines.push(line);
    }
    assert_eq!(lines, log.lines().collect::<Vec<_>>());
    assert!(lines.len() > 25, "{lines:?}");
}
