//! A machine after its first boot, asked by ssh, and after its second.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hullwright::vm::Machine;
use serde_json::Value;

use crate::lab::{Answers, GROW, Lab, PATIENCE, healthy, script};
use crate::support::image::{hullwright, output_file, said};
use crate::support::tool;

const MIB: u64 = 1 << 20;

/// What each boot is asked.
const EACH: &[(&str, &str)] = &[
    ("table", "sfdisk --json /dev/vda"),
    (
        "root file system",
        "blkid -s UUID -o value /dev/disk/by-partlabel/root",
    ),
    ("machine id", "cat /etc/machine-id"),
    ("host keys", "cat /etc/ssh/ssh_host_*_key.pub"),
    ("state", "systemctl is-system-running"),
    ("failed", "systemctl --failed --plain --no-legend"),
    ("entries", "ls /boot/EFI/Linux"),
    ("journal", "journalctl -b -p warning -o json --no-pager"),
    (
        "update done",
        "systemctl show -P ConditionResult systemd-update-done.service",
    ),
    ("ran", "journalctl -b -o cat --no-pager _COMM=systemd-repart"),
];

const FIRST: &[(&str, &str)] = &[
    (
        "top",
        r"find / -mindepth 1 -maxdepth 1 -printf '%y %p -> %l\n' | sed 's/ -> $//'",
    ),
    ("mounts", "cat /proc/1/mountinfo"),
    ("host manager", "systemctl show -P UserspaceTimestampMonotonic"),
    // The message that systemd sends when a unit has started.
    (
        "etc mounted",
        "journalctl -b -o json --no-pager UNIT=sysroot-etc.mount MESSAGE_ID=39f53479d3a045ac8e11786248231fbf",
    ),
    ("table of /usr", "dmsetup table usr"),
    ("verity", "veritysetup status usr"),
    ("write to /usr", "touch /usr/written"),
    (
        "write to the device of /usr",
        "dd if=/dev/zero of=/dev/mapper/usr bs=4096 count=1 conv=fsync",
    ),
    (
        "slot B",
        "head -c 16777216 /dev/vda4 | tr -d '\\0' | wc -c; tr -d '\\0' </dev/vda5 | wc -c",
    ),
    ("size of /", "findmnt -bno SIZE /"),
    ("containerd", "ctr version"),
    ("address", "ip -json -4 addr show scope global"),
    ("machine id of the image", "cat /usr/etc/machine-id"),
    ("release", "cat /etc/os-release"),
    ("authorized", "cat /root/.ssh/authorized_keys"),
    ("password", "grep ^root: /etc/shadow | cut -d: -f2"),
    ("analyze", "systemd-analyze"),
    ("updated", "stat -c %Y /usr /etc/.updated /var/.updated"),
    ("command line", "cat /proc/cmdline"),
];

/// Errors and warnings that are no fault of the image, by a part of their text, and why.
const EXPECTED: &[(&str, &str)] = &[
    (
        "kex_exchange_identification",
        "this test, which knocks at sshd's door until it can log in",
    ),
    (
        "Alternate GPT header not at the end of the disk",
        "the disk is larger than the image",
    ),
];

/// What the journal says in earnest: errors of the kernel, warnings of all others. An emulated
/// machine makes kernels warn of its clocks and processors, whatever the image.
fn complaints(journal: &str) -> Vec<String> {
    let entries = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let earnest = entries.filter(|entry| {
        let priority: u8 = entry["PRIORITY"].as_str().unwrap().parse().unwrap();
        priority <= 3 || entry["_TRANSPORT"] != "kernel"
    });
    let lines = earnest.map(|entry| format!("{}: {}", entry["SYSLOG_IDENTIFIER"], entry["MESSAGE"]));
    lines
        .filter(|line| !EXPECTED.iter().any(|(part, _)| line.contains(part)))
        .collect()
}

#[test]
fn first_and_second_boot() {
    let (Some(ostree), Some(mdir), Some(lab)) = (tool("ostree"), tool("mdir"), Lab::enter()) else {
        return;
    };
    let disk = lab.disk();
    let stem = format!("{}_{}", lab.text(&["image"]), lab.text(&["version"]));
    assert_eq!(kernels(&mdir, &lab), [format!("{stem}+3.efi")]);

    let mut vm = healthy(|| Machine::new(&disk).grow(GROW).keep(true).ssh(true));
    vm.wait_ssh(PATIENCE).unwrap();
    let questions: Vec<_> = EACH.iter().chain(FIRST).copied().collect();
    let output = vm.ssh(&[script(&questions)]).unwrap();
    let first = Answers::read(&output.stdout);
    assert!(vm.power_off(Duration::from_secs(180)).unwrap());

    top_level(&lab, &ostree, &first);
    etc_before_the_host(&first);
    sealed_usr(&lab, &first);
    let table = disk_completed(&lab, &first);
    services(&first);
    identity(&lab, &ostree, &first, &stem);
    well(&first, &stem);
    assert_eq!(first.get("update done"), "yes");

    // Through the program, whose exit status counts.
    let again = hullwright()
        .args([
            "boot",
            "--until-healthy",
            "--keep",
            "--grow",
            "--ssh",
            "--timeout",
            "900",
        ])
        .arg(&disk)
        .arg("--")
        .arg(script(EACH))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(said(&again).contains("\nhealthy after "), "{}", said(&again));
    let second = Answers::read(&again.stdout);
    assert_eq!(second.json("table"), table);
    for same in ["root file system", "machine id", "host keys", "entries"] {
        assert_eq!(second.get(same), first.get(same), "{same}");
    }
    well(&second, &stem);
    // Nothing is done again that the first boot did.
    assert_eq!(second.get("update done"), "no");
    assert!(first.get("ran").contains("Writing new partition table"));
    assert!(!second.get("ran").contains("Writing"), "{}", second.get("ran"));
}

/// Names in the directory of kernels on the image's ESP.
fn kernels(mdir: &Path, lab: &Lab) -> Vec<String> {
    let offset = &lab.partition(1)["offset"];
    let image = format!("{}@@{offset}", output_file(&lab.built, ".raw").display());
    let output = Command::new(mdir)
        .args(["-b", "-i", &image, "::/EFI/Linux"])
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.lines()
        .map(|line| line.rsplit('/').next().unwrap().to_owned())
        .collect()
}

/// `/` has what the commit has at its top, and mount points that only a machine needs.
fn top_level(lab: &Lab, ostree: &Path, answers: &Answers) {
    let booted: BTreeSet<&str> = answers.get("top").lines().collect();
    let commit = lab.commit(ostree, "/", &[]);
    let mut expected: BTreeSet<&str> = commit.iter().map(String::as_str).collect();
    assert!(expected.remove("d /") && expected.contains("l /bin -> usr/bin"));
    expected.extend(["d /efi", "d /etc", "d /lost+found"]);
    assert_eq!(booted, expected);
}

/// The host's systemd has never seen another `/etc` than the overlay.
fn etc_before_the_host(answers: &Answers) {
    let mounts = answers.get("mounts");
    let etc: Vec<&str> = mounts
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/etc"))
        .collect();
    let [etc] = etc[..] else { panic!("{mounts}") };
    // The names of the initrd: the host could not have mounted it so.
    for part in [
        " - overlay ",
        "lowerdir=/sysroot/usr/etc,",
        "upperdir=/sysroot/etc,",
        "workdir=/sysroot/var/lib/etc-overlay",
    ] {
        assert!(etc.contains(part), "{etc}");
    }
    let mounted = answers.json("etc mounted");
    let mounted: u64 = mounted["__MONOTONIC_TIMESTAMP"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let host: u64 = answers.get("host manager").parse().unwrap();
    assert!(
        0 < mounted && mounted < host,
        "mounted at {mounted} µs, the host's manager at {host} µs"
    );
}

fn sealed_usr(lab: &Lab, answers: &Answers) {
    let mounts = answers.get("mounts");
    let usr = mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/usr"))
        .unwrap();
    assert!(
        usr.contains(" ro,") && usr.contains(" - erofs /dev/mapper/usr ro,"),
        "{usr}"
    );
    let root_hash = lab.text(&["usr_root_hash"]);
    let table: Vec<&str> = answers.get("table of /usr").split(' ').collect();
    // Start, length, target, version, devices, block sizes, blocks, offset, algorithm, root hash, salt.
    assert_eq!((table[2], table[10], table[11]), ("verity", "sha256", root_hash));
    let status = answers.get("verity");
    let has = |key: &str, value: &str| {
        status.lines().any(|line| {
            line.trim()
                .split_once(':')
                .is_some_and(|(k, v)| (k, v.trim()) == (key, value))
        })
    };
    assert!(has("status", "verified") && has("mode", "readonly"), "{status}");
    assert!(has("root hash", root_hash), "{status}");
    assert!(
        answers
            .get("command line")
            .contains(&format!("usrhash={root_hash}"))
    );
    for (question, refusal) in [
        ("write to /usr", "Read-only file system"),
        ("write to the device of /usr", "Operation not permitted"),
    ] {
        let (text, status) = answers.whole(question);
        assert!(
            status != 0 && text.contains(refusal),
            "{question}: {status}, {text}"
        );
    }
}

/// The image's partitions are as they were, slot B is there and empty, root fills the larger disk.
fn disk_completed(lab: &Lab, answers: &Answers) -> Value {
    let table = answers.json("table");
    let rows = table["partitiontable"]["partitions"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "{rows:?}");
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
    let attributes = |index: usize| rows[index]["attrs"].as_str().unwrap_or("");
    for (index, row) in rows[..3].iter().enumerate() {
        let planned = lab.partition(index as u64 + 1);
        assert_eq!(number(row, "start") * 512, number(planned, "offset"));
        assert_eq!(number(row, "size") * 512, number(planned, "size"));
        for (key, planned) in [("uuid", &planned["uuid"]), ("name", &planned["label"])] {
            let (real, planned) = (row[key].as_str().unwrap(), planned.as_str().unwrap());
            assert!(real.eq_ignore_ascii_case(planned), "{row} {planned}");
        }
    }
    for (a, b) in [(1, 3), (2, 4)] {
        for key in ["size", "type"] {
            assert_eq!(rows[a][key], rows[b][key]);
        }
        assert_eq!(rows[b]["name"], "_empty");
        assert_ne!(rows[a]["uuid"], rows[b]["uuid"]);
        // Read-only, and not to be grown (bit 59), on either side.
        assert_eq!((attributes(a), attributes(b)), ("GUID:60", "GUID:60"));
    }
    assert_eq!(answers.get("slot B"), "0\n0");
    let root = &rows[5];
    assert_eq!(root["name"], "root");
    let (start, size) = (number(root, "start") * 512, number(root, "size") * 512);
    let disk = (30 << 30) + GROW;
    assert!(disk - MIB <= start + size && start + size < disk, "{root}");
    let file_system: u64 = answers.get("size of /").parse().unwrap();
    assert!(file_system > size / 100 * 95, "{file_system} of {size}");
    table
}

fn services(answers: &Answers) {
    let containerd = answers.get("containerd");
    assert!(
        containerd.contains("Client:") && containerd.contains("Server:"),
        "{containerd}"
    );
    let links = answers.json("address");
    let [link] = &links.as_array().unwrap()[..] else {
        panic!("{links}")
    };
    let address = &link["addr_info"][0];
    assert_eq!(address["local"], "10.0.2.15", "{link}");
    assert_eq!(address["dynamic"], true, "{link}");
    assert!(answers.get("analyze").contains("Startup finished in"));
}

/// What makes this machine itself was made by its first boot, and the way in is not in the image.
fn identity(lab: &Lab, ostree: &Path, answers: &Answers, stem: &str) {
    assert_eq!(answers.get("machine id of the image"), "uninitialized");
    let id = answers.get("machine id");
    assert!(
        id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()),
        "{id}"
    );
    assert!(id.bytes().any(|c| c != b'0'));
    let (image, version) = stem.split_once('_').unwrap();
    let release = answers.get("release");
    for line in [format!("IMAGE_ID={image}"), format!("IMAGE_VERSION={version}")] {
        assert!(release.lines().any(|found| found == line), "{line}: {release}");
    }
    assert_eq!(answers.get("host keys").lines().count(), 2);
    let authorized = answers.get("authorized");
    assert_eq!(authorized.lines().count(), 1, "{authorized}");
    assert!(authorized.starts_with("ssh-ed25519 "), "{authorized}");
    let password = answers.get("password");
    assert!(
        password.starts_with(['!', '*']),
        "root has a password: {password}"
    );
    let files = lab.commit(ostree, "/", &["-R"]);
    assert!(
        files
            .iter()
            .any(|path| path.ends_with("/usr/etc/ssh/sshd_config"))
    );
    let keys: Vec<_> = files
        .iter()
        .filter(|path| path.ends_with("/authorized_keys") || path.contains("/ssh_host_"))
        .collect();
    assert!(keys.is_empty(), "{keys:?}");
    let times: BTreeSet<&str> = answers.get("updated").lines().collect();
    assert_eq!(
        times,
        BTreeSet::from([lab.manifest["released"].to_string().as_str()])
    );
}

/// As every boot must end.
fn well(answers: &Answers, stem: &str) {
    assert_eq!(answers.get("failed"), "");
    assert_eq!(answers.get("state"), "running");
    assert_eq!(complaints(answers.get("journal")), Vec::<String>::new());
    // Blessed: the boot loader no longer counts its tries.
    assert_eq!(answers.get("entries"), format!("{stem}.efi"));
}
