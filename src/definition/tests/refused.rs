//! What is refused, and in which words.

use super::{WHOLE, alter, problems};

/// Each case: what is altered, and how what is found begins and goes on.
#[test]
fn what_is_wrong_is_named_with_its_place_and_the_way_out() {
    let cases: &[(&str, &str, &str, &str)] = &[
        // A golden image's key.
        (
            "mode = \"none\"\n",
            "mode = \"build\"\nrekey = \"tpm\"\n[measured-boot]\nkey = \"k\"\n",
            "defs/host.toml:14:13: `encryption.root.recovery` is missing",
            "escrow",
        ),
        (
            "mode = \"none\"\n",
            "mode = \"build\"\nrekey = \"tpm\"\nrecovery = \"none\"\nreason = \"x\"\n",
            "defs/host.toml:15:8: nothing signs the policy over PCR 11",
            "[measured-boot]",
        ),
        (
            "mode = \"none\"\n",
            "mode = \"none\"\nrekey = \"tpm\"\n",
            "defs/host.toml:16:9: `encryption.root.rekey` is of a volume that is made at build",
            "mode = \"build\"",
        ),
        (
            "mode = \"none\"\n",
            "mode = \"build\"\nrecovery = \"none\"\nreason = \"x\"\n",
            "defs/host.toml:16:12: `encryption.root.recovery` is of a root that is bound to a TPM",
            "rekey",
        ),
        // Syntax and types.
        ("id = \"host\"", "id = host", "defs/host.toml:3:6: not TOML", ""),
        (
            "id = \"host\"",
            "id = 5",
            "defs/host.toml:3:6: `image.id` is an integer, not a string",
            "write \"5\"",
        ),
        (
            "released = 2026-11-21",
            "released = \"2026-11-21\"",
            "defs/host.toml:5:12: `image.released` is a string",
            "",
        ),
        (
            "[disk]",
            "[disk]\nslots-in-image = 300",
            "defs/host.toml:13:18: `disk.slots-in-image` is 300, outside 0 to 255",
            "",
        ),
        (
            "[kernel]",
            "[kernel]\ncmdline = \"quiet\"",
            "defs/host.toml:8:11: `kernel.cmdline` is a string, not a list",
            "[\"quiet\"]",
        ),
        (
            "[disk]\n",
            "[disk]\nroot = 1\n",
            "defs/host.toml:13:8: `disk.root` is an integer, not a table",
            "",
        ),
        // Keys.
        (
            "arch = ",
            "arhc = ",
            "defs/host.toml:6:1: unknown key `arhc` in `[image]`",
            "did you mean `arch`?",
        ),
        (
            "[disk]",
            "[dsk]",
            "defs/host.toml:12:2: unknown key `dsk` at the top",
            "did you mean `disk`?",
        ),
        (
            "id = \"host\"",
            "id = \"host\"\nhostname = \"x\"",
            "defs/host.toml:4:1: unknown key `hostname` in `[image]`",
            "a key of `[os]`",
        ),
        (
            "id = \"host\"\n",
            "",
            "defs/host.toml:2:2: `image.id` is missing",
            "add `id = ",
        ),
        // Single values.
        (
            "id = \"host\"",
            "id = \"a_b\"",
            "defs/host.toml:3:6: `image.id`: \"a_b\" cannot hold '_'",
            "",
        ),
        (
            "\"1.0\"",
            "\"1.0+2\"",
            "defs/host.toml:4:11: `image.version`: \"1.0+2\" cannot hold `+`",
            "",
        ),
        ("\"1.0\"", "\"../1\"", "defs/host.toml:4:11: `image.version`", ""),
        (
            "\"x86_64\"",
            "\"x86\"",
            "defs/host.toml:6:8: `image.arch`: \"x86\" is not one of its values",
            "`x86_64`",
        ),
        (
            "\"a/b\"",
            "\"a//b\"",
            "defs/host.toml:10:7: `os.ref`: \"a//b\" has an empty part",
            "",
        ),
        ("\"a/b\"", "\"a/../b\"", "defs/host.toml:10:7: `os.ref`", ""),
        (
            "\"30GiB\"",
            "\"30GB\"",
            "defs/host.toml:13:8: `disk.size`: \"30GB\" has the unit `GB`",
            "write `30GiB`",
        ),
        (
            "\"30GiB\"",
            "\"99999999999999999999TiB\"",
            "defs/host.toml:13:8: `disk.size`",
            "",
        ),
        (
            "\"30GiB\"",
            "\"0GiB\"",
            "defs/host.toml:13:8: `disk.size`: \"0GiB\" is zero",
            "",
        ),
        (
            "[kernel]",
            "[kernel]\ncmdline = [\"usrhash=ab\"]",
            "defs/host.toml:8:12: `kernel.cmdline[0]`: \"usrhash=ab\" cannot set `usrhash`",
            "",
        ),
        (
            "[kernel]",
            "[kernel]\ncmdline = [\"a\", \"root=/dev/sda1\"]",
            "defs/host.toml:8:17: `kernel.cmdline[1]`",
            "",
        ),
        (
            "[kernel]",
            "[kernel]\ncmdline = [\"quiet splash\"]",
            "defs/host.toml:8:12: `kernel.cmdline[0]`: \"quiet splash\" is more than one",
            "",
        ),
        (
            "[os]",
            "[os]\nenable = [\"sshd\"]",
            "defs/host.toml:10:11: `os.enable[0]`: \"sshd\" does not end in a unit type",
            "`sshd.service`",
        ),
        (
            "mode = \"none\"",
            "mode = \"first-boot\"",
            "defs/host.toml:14:13: `encryption.root.recovery` is missing",
            "add `recovery = { escrow = \"keys/escrow.pem\" }`",
        ),
        (
            "mode = \"none\"",
            "recovery = \"none\"",
            "defs/host.toml:15:12: `encryption.root.recovery` is \"none\" without a reason",
            "why the data",
        ),
        (
            "mode = \"none\"",
            "recovery = \"print\"",
            "defs/host.toml:15:12: `encryption.root.recovery`: \"print\" is not one of its values",
            "\"none\" with a `reason`",
        ),
        (
            "mode = \"none\"",
            "mode = \"first-boot\"\nrecovery = { escrow = \"e.pem\" }",
            "defs/host.toml:15:8: nothing signs the policy over PCR 11",
            "add `[measured-boot]`",
        ),
        (
            "mode = \"none\"",
            "recovery = { escrow = \"e.pem\" }\n[measured-boot]\nkey = \"k\"\nbanks = [\"sha384\"]",
            "nowhere: no policy is signed for the PCR bank `sha256`",
            "name \"sha256\"",
        ),
        (
            "mode = \"none\"",
            "mode = \"none\"\nrecovery = \"none\"",
            "defs/host.toml:16:12: `encryption.root.recovery` is of a root that is not",
            "leave it out",
        ),
        (
            "mode = \"none\"",
            "mode = \"build\"\npassphrase = \"correct horse\"",
            "defs/host.toml:16:1: `encryption.root.passphrase` is refused: a definition carries no secrets",
            "as `key-file`",
        ),
        (
            "mode = \"none\"",
            "mode = \"build\"\nkey-file = \"absent.key\"",
            "defs/host.toml:16:12: `encryption.root.key-file`",
            "",
        ),
        (
            "mode = \"none\"",
            "mode = \"none\"\nkdf = \"pbkdf2\"",
            "defs/host.toml:16:7: `encryption.root.kdf` is of a volume that is made at build",
            "or set `mode = \"build\"`",
        ),
        (
            "mode = \"none\"",
            "mode = \"frist-boot\"",
            "defs/host.toml:15:8: `encryption.root.mode`: \"frist-boot\" is not one",
            "did you mean `first-boot`?",
        ),
        (
            "\"none\"\n[disk]",
            "\"../none\"\n[disk]",
            "defs/host.toml:11:11: `os.selinux`: \"../none\" cannot hold '/'",
            "a directory below /etc/selinux",
        ),
        (
            "\"none\"\n[disk]",
            "\"..\"\n[disk]",
            "defs/host.toml:11:11: `os.selinux`: \"..\" does not begin",
            "",
        ),
        // Measured boot.
        (
            "[disk]",
            "[measured-boot]\n[disk]",
            "defs/host.toml:12:2: `measured-boot.key` is missing",
            "add `key = ",
        ),
        (
            "[disk]",
            "[measured-boot]\nkey = \"k\"\npublic = \"p\"\ncert = \"c\"\n[disk]",
            "defs/host.toml:15:8: `measured-boot.public` and `measured-boot.cert` exclude",
            "leave one out",
        ),
        (
            "[disk]",
            "[measured-boot]\nkey = \"k\"\nbanks = [\"sha1\"]\n[disk]",
            "defs/host.toml:14:10: `measured-boot.banks[0]`: \"sha1\" is not one of its values",
            "`sha256`",
        ),
        (
            "[disk]",
            "[measured-boot]\nkey = \"k\"\nbanks = []\n[disk]",
            "defs/host.toml:14:9: `measured-boot.banks` is empty",
            "",
        ),
        (
            "[disk]",
            "[measured-boot]\nkey = \"k\"\nphases = [\"leave-initrd:enter-initrd\"]\n[disk]",
            "defs/host.toml:14:11: `measured-boot.phases[0]`: \"leave-initrd:enter-initrd\" has `enter-initrd` out of order",
            "enter-initrd, leave-initrd, sysinit",
        ),
        (
            "[disk]",
            "[measured-boot]\nkey = \"k\"\nphases = [\"initrd\"]\n[disk]",
            "defs/host.toml:14:11: `measured-boot.phases[0]`: \"initrd\" holds `initrd`, which is no phase",
            "enter-initrd",
        ),
        // Profiles and add-ons.
        (
            "[disk]",
            "[[uki.profiles]]\nid = \"main\"\ntitle = \"x\"\ncmdline = [\"quiet\"]\n[disk]",
            "defs/host.toml:13:6: `main` is the name of another profile",
            "give each its own",
        ),
        (
            "[disk]",
            "[[uki.profiles]]\nid = \"x\"\ntitle = \"x\"\ncmdline = [\"quiet\", \"systemd.debug-shell=1\"]\n[disk]",
            "defs/host.toml:15:21: `systemd.debug-shell=1` opens a way into the machine",
            "debug add-on",
        ),
        (
            "[disk]",
            "[[uki.profiles]]\nid = \"x\"\ntitle = \"a`b\"\ncmdline = [\"quiet\"]\n[disk]",
            "defs/host.toml:14:9: `uki.profiles[0].title` is no title",
            "",
        ),
        (
            "[disk]",
            "[[uki.addons]]\nname = \"console\"\ncmdline = []\n[disk]",
            "defs/host.toml:14:11: `uki.addons[0].cmdline` adds nothing",
            "",
        ),
        (
            "[disk]",
            "[[uki.addons]]\nname = \"console\"\ncmdline = [\"usrhash=00\"]\n[disk]",
            "defs/host.toml:14:12: `uki.addons[0].cmdline[0]`: \"usrhash=00\" cannot set `usrhash`",
            "",
        ),
        (
            "[disk]",
            "[[uki.addons]]\nname = \"d\"\ncmdline = [\"rd.break\"]\n[disk]",
            "defs/host.toml:14:12: `rd.break` opens a way into the machine",
            "kind = \"debug\"",
        ),
        (
            "[disk]",
            "[[uki.addons]]\nname = \"d\"\ncmdline = [\"quiet\"]\nkey = \"k\"\ncert = \"c\"\n[disk]",
            "defs/host.toml:15:7: `d` is signed as the image is",
            "leave `key` and `cert` out",
        ),
        (
            "[disk]",
            "[[uki.addons]]\nname = \"d\"\ncmdline = [\"rd.break\"]\nkind = \"debug\"\nplace = \"uki\"\n[disk]",
            "defs/host.toml:16:9: the debug add-on `d` would lie in the image",
            "beside the image",
        ),
        (
            "[disk]",
            "[[uki.addons]]\nname = \"d\"\ncmdline = [\"rd.break\"]\nkind = \"debug\"\nkey = \"k\"\n[disk]",
            "defs/host.toml:12:1: `uki.addons[0].cert` is missing",
            "keys/debug.pem",
        ),
        // Keys and signatures.
        (
            "[disk]",
            "[secure-boot]\n[disk]",
            "defs/host.toml:12:2: `secure-boot.db.cert` is missing",
            "",
        ),
        (
            "[disk]",
            "[secure-boot]\ndb = { key = \"k\" }\n[disk]",
            "defs/host.toml:13:1: `secure-boot.db.cert` is missing",
            "add `cert = ",
        ),
        (
            "[disk]",
            "[secure-boot]\ndb = { key = \"pkcs11:object=a?pin-value=1\", cert = \"c\" }\n[disk]",
            "defs/host.toml:13:14: `secure-boot.db.key` holds a PIN",
            "pin-source",
        ),
        (
            "[disk]",
            "[commit]\nkey = \"-----BEGIN PRIVATE KEY-----\"\n[disk]",
            "defs/host.toml:13:7: `commit.key` holds a private key",
            "into a file",
        ),
        (
            "[disk]",
            "[commit]\nkey = 1\n[disk]",
            "defs/host.toml:13:7: `commit.key` is an integer, not a string (a path, or",
            "",
        ),
        (
            "[disk]",
            "[verity]\nsignature = \"kernel\"\nkey = \"k\"\n[disk]",
            "defs/host.toml:12:2: `verity.cert` is missing",
            "",
        ),
        (
            "[disk]",
            "[verity]\nkey = \"k\"\n[disk]",
            "defs/host.toml:13:7: `verity.key` signs nothing",
            "signature = ",
        ),
        (
            "[disk]",
            "[verity]\nalgorithm = \"sha1\"\n[disk]",
            "defs/host.toml:13:13: `verity.algorithm`: \"sha1\" is not one of its values",
            "`sha256` and `sha512`",
        ),
        (
            "[disk]",
            "[verity]\nfec-roots = 2\n[disk]",
            "defs/host.toml:13:13: `verity.fec-roots` is given without `fec`",
            "leave it out",
        ),
        (
            "[disk]",
            "[verity]\nfec = true\nfec-roots = 25\n[disk]",
            "defs/host.toml:14:13: `verity.fec-roots` is 25",
            "2 to 24",
        ),
        // Sources.
        (
            "[kernel]",
            "[kernel]\nrequire = [\"../k/x\"]",
            "defs/host.toml:8:12: `kernel.require[0]`: there is no file `k/x`",
            "",
        ),
        (
            "[os]",
            "[os]\noverlays = [\"host.toml\"]",
            "defs/host.toml:10:13: `os.overlays[0]`: `defs/host.toml` is a file, not a directory",
            "",
        ),
        // One against the other.
        (
            "id = \"host\"",
            "id = \"a-host-for-containers-of-some-length\"",
            "defs/host.toml:4:11: the partition label",
            "shorten",
        ),
        (
            "\"1.0\"",
            "\"1.20261120\"",
            "defs/host.toml:5:12: `image.released` is 2026-11-21, but the version `1.20261120`",
            "",
        ),
        (
            "[kernel]",
            "[rpms]\nlock = \"l\"\ndirectory = \"d\"\n[kernel]",
            "defs/host.toml:9:13: `rpms.lock` and `rpms.directory` exclude",
            "defs/host.toml:8:8",
        ),
        (
            "\"30GiB\"",
            "\"30GiB\"\nusr = \"14GiB\"",
            "defs/host.toml:13:8: `disk.size` is 30GiB, but its partitions need",
            "two slots",
        ),
        (
            "\"30GiB\"",
            "\"30GiB\"\nusr = \"1GiB\"\nusr-verity = \"8MiB\"",
            "defs/host.toml:15:14: `disk.usr-verity` is 8MiB, but the hash tree of a full slot of 1GiB has 9MiB",
            "",
        ),
        (
            "\"30GiB\"",
            "\"2000GiB\"\n[outputs]\nformats = [\"vhd\"]",
            "defs/host.toml:13:8: `disk.size` is 2000GiB, which Azure",
            "",
        ),
        (
            "[disk]",
            "[disk]\nesp = \"32MiB\"",
            "defs/host.toml:13:7: `disk.esp` is 32MiB: too small for FAT32",
            "",
        ),
        (
            "[disk]",
            "[disk]\nesp = \"100000KiB\"",
            "defs/host.toml:13:7: `disk.esp` is no whole number of MiB",
            "",
        ),
        (
            "[disk]",
            "[outputs]\nerofs = { compression = \"lz4\", level = 9 }\n[disk]",
            "defs/host.toml:13:40: `outputs.erofs.level` is given, but `lz4` has no levels",
            "",
        ),
        (
            "[disk]",
            "[outputs.erofs]\ncompression = \"none\"\nfragments = true\n[disk]",
            "defs/host.toml:14:13: `outputs.erofs.fragments` is about compressed files, but `outputs.erofs.compression` is \
             \"none\"",
            "choose a compression",
        ),
        (
            "[disk]",
            "[outputs.erofs]\nchunk = \"4KiB\"\n[disk]",
            "defs/host.toml:13:9: `outputs.erofs.chunk` is given, but files are compressed by `lz4hc`",
            "say `compression = \"none\"`",
        ),
        (
            "[disk]",
            "[outputs.erofs]\ncluster = \"12KiB\"\n[disk]",
            "defs/host.toml:13:11: `outputs.erofs.cluster` is 12KiB",
            "",
        ),
        (
            "[os]",
            "[os]\nenable = [\"a.service\"]\nmask = [\"a.service\"]",
            "defs/host.toml:11:8: `a.service` is both in `os.enable` and in `os.mask`",
            "",
        ),
        (
            "[disk]",
            "[initrd]\nmodules = { remove = [\"x\"] }\n[disk]",
            "defs/host.toml:13:23: `x` is to be removed, but no included list has it",
            "",
        ),
    ];
    for (old, new, begins, help) in cases {
        let found = problems(&[("defs/host.toml", &alter(old, new))]);
        assert!(
            found
                .iter()
                .any(|problem| problem.starts_with(begins) && problem.contains(help)),
            "{new}: {found:#?}"
        );
    }
}

#[test]
fn entries_of_the_tree_are_checked() {
    let cases: &[(&str, &str)] = &[
        (
            "[[files]]\npath = \"etc/motd\"\ntext = \"\"",
            "17:8: `files[0].path`: \"etc/motd\" is not absolute",
        ),
        (
            "[[files]]\npath = \"/etc/../motd\"\ntext = \"\"",
            "17:8: `files[0].path`",
        ),
        (
            "[[files]]\npath = \"/opt/x\"\ntext = \"\"",
            "17:8: `/opt/x` is no place of the image",
        ),
        (
            "[[files]]\npath = \"/usr/etc/x\"\ntext = \"\"",
            "17:8: `/usr/etc/x` is no place of the image",
        ),
        ("[[files]]\npath = \"/etc/x\"", "16:1: `files[0]` has no content"),
        (
            "[[files]]\npath = \"/etc/x\"\ntext = \"\"\nsource = \"host.toml\"",
            "19:10: `text` and `source` exclude each other",
        ),
        (
            "[[files]]\npath = \"/etc/x\"\ntext = \"\"\nmode = 644",
            "19:8: `files[0].mode` is an integer",
        ),
        (
            "[[files]]\npath = \"/etc/x\"\ntext = \"\"\nmode = \"99\"",
            "19:8: `files[0].mode`: \"99\" is not a mode",
        ),
        (
            "[[files]]\npath = \"/etc/x\"\ntext = \"\"\n[[symlinks]]\npath = \"/etc//x\"\ntarget = \"y\"",
            "20:8: `/etc/x` is given twice",
        ),
        (
            "[[files]]\npath = \"/etc/x\"\ntext = \"\"\n[[directories]]\npath = \"/etc/x/y\"",
            "20:8: `/etc/x/y` lies below `/etc/x`",
        ),
        (
            "[[files]]\npath = \"/etc/x\"\ntext = \"\"\nowner = \"root\"",
            "19:1: unknown key `owner` in `[files]`",
        ),
        (
            "[[paths]]\npath = \"/opt/x\"\naction = \"move\"\nreason = \"r\"",
            "16:1: `paths[0].to` is missing",
        ),
        (
            "[[paths]]\npath = \"/usr/x\"\naction = \"move\"\nto = \"/usr/x/y\"\nreason = \"r\"",
            "19:6: `/usr/x/y` lies inside `/usr/x`",
        ),
        (
            "[[paths]]\npath = \"/opt/x\"\naction = \"drop\"\nreason = \" \"",
            "19:10: `paths[0].reason`: \" \" is empty",
        ),
        (
            "[[os.users]]\nname = \"a\"\nid = 0\nhome = \"/a\"\nshell = \"/b\"",
            "18:6: `a` cannot have the number 0",
        ),
        (
            "[[os.users]]\nname = \"a\"\nid = 9\nhome = \"/a\"\nshell = \"/b\"\npassword = \"x\"",
            "21:1: `os.users[0].password` is refused",
        ),
        (
            "[[os.groups]]\nname = \"a\"\nid = 9\n[[os.groups]]\nname = \"a\"\nid = 8",
            "20:8: `a` is twice in `[[os.groups]]`",
        ),
        (
            "[[os.groups]]\nname = \"a\"\nid = 9\n[[os.groups]]\nname = \"b\"\nid = 9",
            "21:6: `b` has the number 9 of `a`",
        ),
        (
            "[[rpms.unsigned]]\npackage = \"p\"",
            "16:1: `rpms.unsigned[0].reason` is missing",
        ),
        (
            "[[rpms.scriptlets]]\nscriptlet = \"p:post\"\naction = \"ignore\"\nreason = \"r\"",
            "18:10: `rpms.scriptlets[0].action`: \"ignore\" is not one of its values",
        ),
    ];
    for (text, begins) in cases {
        let found = problems(&[("defs/host.toml", &format!("{}\n{text}\n", WHOLE.trim_end()))]);
        let begins = format!("defs/host.toml:{begins}");
        assert!(
            found.iter().any(|problem| problem.starts_with(&begins)),
            "{text}: {found:#?}"
        );
    }
}
