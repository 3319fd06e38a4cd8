use super::{Action, Rule, Schedule};
use crate::rpmset::RpmSet;
use crate::scriptlet::testing::build;

const SPEC: &str = r#"
%package -n a
Summary: s
%description -n a
d
%pre -n a
getent group ga >/dev/null || groupadd -r ga
%post -n a
fc-cache -f
%posttrans -n a
systemctl --no-reload preset a.service || :
%preun -n a
fc-cache -r
%files -n a

%package -n b
Summary: s
%description -n b
d
%post -n b -e
/sbin/%%{nil}ldconfig
%transfiletriggerin -n b -p <lua> -- /usr
-- nothing
%files -n b
/usr/share/b

%package -n c
Summary: s
%description -n c
d
%post -n c -q
systemctl daemon-reload # %%{NAME}-%%{VERSION}
%files -n c
%install
mkdir -p %{buildroot}/usr/share/b
"#;

fn rule(scriptlet: &str, action: Action) -> Rule {
    Rule {
        scriptlet: scriptlet.to_owned(),
        action,
        reason: "because".to_owned(),
    }
}

/// The ledger's first lines with `rules`, or what is wrong with them.
fn ledger(set: &RpmSet, rules: &[Rule]) -> Result<Vec<String>, String> {
    let schedule = Schedule::new(set.packages(), rules).map_err(|error| error.to_string())?;
    let entries = schedule.ledger();
    Ok(entries
        .iter()
        .map(|entry| entry.to_string().lines().next().unwrap_or_default().to_owned())
        .collect())
}

#[test]
fn every_scriptlet_is_decided_on_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let Some(set) = build(directory.path(), SPEC) else {
        return;
    };
    let usual = [
        "c-1-1.noarch %post 1: replaced",
        "b-1-1.noarch %post 1: replaced",
        "a-1-1.noarch %pre 1: replaced",
        "a-1-1.noarch %post 1: run: `fc-cache -f` is not replaced",
        "a-1-1.noarch %posttrans 1: replaced",
        "b-1-1.noarch %transfiletriggerin[0] 1: skipped: there is no command in it",
    ];
    assert_eq!(ledger(&set, &[]).unwrap(), usual);
    let schedule = Schedule::new(set.packages(), &[]).unwrap();
    assert_eq!(schedule.accounts(), ["g ga -"]);
    assert_eq!(schedule.runs().count(), 1);

    let rules = [
        rule("a:post", Action::Skip),
        rule("a:posttrans", Action::Run),
        rule("a:pre", Action::Skip),
    ];
    let ruled = ledger(&set, &rules).unwrap();
    assert_eq!(
        ruled[2],
        "a-1-1.noarch %pre 1: skipped: the definition says so: because"
    );
    assert_eq!(
        ruled[3],
        "a-1-1.noarch %post 1: skipped: the definition says so: because"
    );
    assert_eq!(
        ruled[4],
        "a-1-1.noarch %posttrans 1: run: the definition says so: because"
    );

    let cases = [
        (
            rule("a:pots", Action::Skip),
            "`a:pots` names no scriptlet that an installation of the set runs; the nearest name is `a:post`",
        ),
        (
            rule("a:preun", Action::Skip),
            "`a:preun` names no scriptlet that an installation of the set runs; the nearest name is `a:pre`",
        ),
        (
            rule("a:post", Action::Run),
            "`a:post` is not needed: the scriptlet is not replaced",
        ),
        (
            rule("b:transfiletriggerin[0]", Action::Skip),
            "`b:transfiletriggerin[0]` is not needed: the scriptlet does nothing",
        ),
        (
            rule("a:pre", Action::MayFail),
            "`a:pre` is not needed: the scriptlet is not run",
        ),
    ];
    for (rule, expected) in cases {
        assert_eq!(ledger(&set, &[rule]).unwrap_err(), expected);
    }
}
