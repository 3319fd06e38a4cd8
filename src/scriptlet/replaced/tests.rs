use super::{Effect, Verdict, judge};
use crate::rpmset::Package;
use crate::scriptlet::{Kind, Scriptlet, of_package};
use crate::testing::real_rpms;

fn shell(text: &str) -> Verdict {
    let scriptlet = Scriptlet {
        kind: Kind::Post,
        index: 0,
        interpreter: vec![b"/bin/sh".to_vec()],
        body: Some(text.as_bytes().to_vec()),
        flags: 0,
        conditions: Vec::new(),
        priority: 0,
    };
    judge(&scriptlet, Some(text.as_bytes()), &[1])
}

/// What is left to do: accounts as their lines, other work by name.
fn effects(verdict: &Verdict) -> Vec<String> {
    let Verdict::Replace(replaced) = verdict else {
        panic!("{verdict:?}");
    };
    let effects = replaced.iter().flat_map(|replacement| match &replacement.effect {
        Effect::Nothing => Vec::new(),
        Effect::Native(native) => vec![format!("{native:?}")],
        Effect::Accounts(lines) => lines.clone(),
        Effect::Icons(theme) => vec![format!(
            "{} {} {}",
            theme.program, theme.path, theme.without_index
        )],
    });
    effects.collect()
}

#[test]
fn what_macros_of_distributions_leave_in_scriptlets_is_replaced() {
    let cases: [(&str, &[&str]); 23] = [
        // %systemd_post
        (
            "if [ $1 -eq 1 ] && [ -x \"/usr/lib/systemd/systemd-update-helper\" ]; then\n    # Initial installation\n    \
             /usr/lib/systemd/systemd-update-helper install-system-units sshd.service sshd.socket || :\nfi\n",
            &["Units"],
        ),
        (
            "systemctl --no-reload preset a.service >/dev/null 2>&1 || :",
            &["Units"],
        ),
        (
            "/usr/bin/systemctl --no-reload preset --global pipewire.socket >/dev/null 2>&1 || :",
            &["Units"],
        ),
        ("/bin/systemctl daemon-reload >/dev/null 2>&1 || :", &[]),
        (
            "test -f /etc/sysconfig/x || \\\n  /bin/systemctl try-restart x.service >/dev/null 2>&1 || :",
            &[],
        ),
        // The transaction file triggers of systemd and udev.
        (
            "/usr/lib/systemd/systemd-update-helper system-reload-restart || :",
            &[],
        ),
        (
            "if [ -S /run/udev/control ]; then\n /usr/bin/udevadm control --reload --timeout=5 || :\nfi",
            &[],
        ),
        ("systemd-hwdb update &>/dev/null || :", &["Hwdb"]),
        ("udevadm hwdb --update >/dev/null", &["Hwdb"]),
        ("journalctl --update-catalog || :", &["Catalog"]),
        (
            "systemd-sysusers || :\nsystemd-tmpfiles --create >/dev/null || :",
            &["Accounts"],
        ),
        // %sysusers_create_compat and %sysusers_create_inline
        (
            "getent group 'dnsmasq' >/dev/null || groupadd -r 'dnsmasq' || :\n\
             getent passwd 'dnsmasq' >/dev/null || useradd -r -g 'dnsmasq' -d '/var/lib/dnsmasq' -s '/usr/sbin/nologin' \
             -c 'Dnsmasq DHCP and DNS server' 'dnsmasq' || :",
            &[
                "g dnsmasq -",
                "u dnsmasq -:dnsmasq \"Dnsmasq DHCP and DNS server\" /var/lib/dnsmasq /usr/sbin/nologin",
            ],
        ),
        (
            "systemd-sysusers --replace=/usr/lib/sysusers.d/a.conf - <<SYSTEMD_INLINE_EOF >/dev/null || :\n\
             u a - \"A\"\nSYSTEMD_INLINE_EOF\n",
            &["Accounts"],
        ),
        ("systemd-sysusers - <<EOF\ng b 7\nEOF\n", &["g b 7"]),
        (
            "/usr/sbin/groupadd -r -g 81 dbus 2>/dev/null || :\n\
             /usr/sbin/useradd -c 'System message bus' -u 81 -g 81 \\\n\t-s /sbin/nologin -r -d '/' dbus 2> /dev/null || :",
            &["g dbus 81", "u dbus 81:81 \"System message bus\" / /sbin/nologin"],
        ),
        ("usermod -a -G tss,tty abrt", &["m abrt tss", "m abrt tty"]),
        (
            "if [ -x /bin/kernel-install ]; then\n /bin/kernel-install add 6.17.1 /lib/modules/6.17.1/vmlinuz || :\nfi",
            &[],
        ),
        (
            "if [ -f /etc/selinux/config ]; then\n restorecon -R /usr/bin/x &> /dev/null || :\nfi\n/sbin/ldconfig",
            &["Labels", "Linker"],
        ),
        (
            "/bin/touch --no-create /usr/share/icons/hicolor &>/dev/null || :\nupdate-ca-trust",
            &["Trust"],
        ),
        // shared-mime-info, hicolor-icon-theme, and what packages had before file triggers.
        ("update-mime-database -n /usr/share/mime &> /dev/null", &["Mime"]),
        (
            "gtk-update-icon-cache --force /usr/share/icons/hicolor &>/dev/null || :",
            &["gtk-update-icon-cache /usr/share/icons/hicolor false"],
        ),
        (
            "touch --no-create /usr/share/icons/hicolor\nif [ -x /usr/bin/gtk-update-icon-cache ]; then\n  \
             gtk-update-icon-cache -qtf /usr/share/icons/hicolor/\nfi",
            &["gtk-update-icon-cache /usr/share/icons/hicolor true"],
        ),
        (
            "/usr/bin/gtk4-update-icon-cache -f -q /usr/share/icons/Adwaita &>/dev/null || :",
            &["gtk4-update-icon-cache /usr/share/icons/Adwaita false"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(effects(&shell(text)), expected, "{text}");
    }
}

#[test]
fn what_does_nothing_is_skipped_and_the_rest_runs() {
    for text in [
        "",
        "\n# nothing\n:\n",
        "exit 0\nrm -rf /",
        "if [ $1 -ge 2 ]; then rm /x; fi",
        "echo hello",
    ] {
        assert!(matches!(shell(text), Verdict::Skip(_)), "{text}");
    }
    let cases = [
        ("fc-cache -f", "`fc-cache -f` is not replaced"),
        (
            "update-mime-database /usr/local/share/mime",
            "`update-mime-database /usr/local/share/mime` is not replaced",
        ),
        (
            "gtk-update-icon-cache --include-image-data /usr/share/icons/hicolor",
            "`gtk-update-icon-cache --include-image-data /usr/share/icons/hicolor` is not replaced",
        ),
        (
            "gtk-update-icon-cache -f /usr/share/icons/..",
            "`gtk-update-icon-cache -f /usr/share/icons/..` is not replaced",
        ),
        (
            "systemctl enable x.service",
            "`systemctl enable x.service` is not replaced",
        ),
        (
            "/opt/bin/systemctl daemon-reload",
            "`/opt/bin/systemctl daemon-reload` is not replaced",
        ),
        (
            "systemctl --root=/x preset a",
            "`systemctl --root=/x preset a` is not replaced",
        ),
        ("useradd x", "`useradd x` is not replaced"),
        (
            "useradd -r -s /bin/sh -d /x -k /skel x",
            "`useradd -r -s /bin/sh -d /x -k /skel x` is not replaced",
        ),
        (
            "systemd-tmpfiles --create - <<E\nd /x\nE",
            "`systemd-tmpfiles --create -` is not replaced",
        ),
        ("/sbin/ldconfig -r /x", "`/sbin/ldconfig -r /x` is not replaced"),
        ("touch /etc/x", "`touch /etc/x` is not replaced"),
        ("a | b", "`|` is not understood"),
    ];
    for (text, expected) in cases {
        assert_eq!(shell(text), Verdict::Run(expected.to_owned()), "{text}");
    }
}

/// Every scriptlet of the real packages that runs at an installation, in a word.
#[test]
fn real_packages_are_judged() {
    let Some(real) = real_rpms() else {
        return;
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(real.join("distro")).unwrap() {
        let Ok(package) = Package::open(&entry.unwrap().path()) else {
            continue;
        };
        for scriptlet in of_package(&package).unwrap() {
            if scriptlet.kind.runs_at_installation() {
                let verdict = match judge(&scriptlet, scriptlet.body.as_deref(), &[1]) {
                    Verdict::Skip(_) => "skip".to_owned(),
                    Verdict::Replace(replaced) => format!("replace {}", replaced.len()),
                    Verdict::Run(reason) => reason,
                };
                found.push(format!("{} {}: {verdict}", package.nevra.name, scriptlet.name()));
            }
        }
    }
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "acpi_call post: `dkms add -m acpi_call -v 1.1.0 --rpm_safe_upgrade` is not replaced",
            "container-selinux post: `$?` is not understood",
            "crypto-policies post: Lua is run, not read",
            "dbus pre: replace 2",
            "glibc post: `/usr/sbin/glibc_post_upgrade.x86_64` is not replaced",
            "glibc pre: Lua is run, not read",
            "httpd post: replace 1",
            "httpd posttrans: replace 1",
            "httpd pre: replace 2",
            "keyd post: `systemctl enable keyd.service` is not replaced",
            "libdeflt1_0 post: replace 1",
            "libgcc post: Lua is run, not read",
            "pagure-mirror post: replace 1",
            "sendmail post: `${db%.db}\"` is not understood",
            "sendmail posttrans: `/usr/libexec/sendmail.d/update` is not replaced",
            "sendmail pre: `${service%.*}\"` is not understood",
            "vim-base post: `/usr/sbin/update-alternatives --install /bin/vim vim /usr/share/vim/current/tools/missing-vim-client 0` is not replaced",
            "zlib post: replace 1",
        ]
    );
}
