//! Partitions that a definition declares: made at the first boot with keys on the encrypted root, opened by them at the
//! second, and not opened where something else stands in their place.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::lab::{Answers, PATIENCE, healthy, script};
use crate::sealed_lab::{SealedLab, run};

const QUESTIONS: &[(&str, &str)] = &[
    ("mount", "findmnt -no SOURCE,FSTYPE /var/lib/containerd"),
    ("volume", "cryptsetup status containers"),
    ("size", "findmnt -bno SIZE /var/lib/containerd"),
    ("swap", "swapon --show=NAME --noheadings"),
    ("swap device", "readlink -f /dev/mapper/swap"),
    ("swap volume", "cryptsetup status swap"),
    ("keys", "stat -c '%a %s %n' /var/lib/hullwright/partitions/*"),
    // Not sooner than the service that brings it gives up.
    (
        "patience",
        "systemctl show --property JobRunningTimeoutUSec --value dev-mapper-containers.device",
    ),
    ("uuid", "cryptsetup luksUUID /dev/disk/by-partlabel/containers"),
    (
        "counted",
        "echo x >>/var/lib/containerd/boots; sync; wc -l </var/lib/containerd/boots",
    ),
    ("failed", "systemctl --failed --plain --no-legend"),
];

/// What the sealed sample has beside, as `sample-container-host-data.toml`.
pub fn declared() -> String {
    let project = env!("CARGO_MANIFEST_DIR");
    let text =
        fs::read_to_string(Path::new(project).join("image-defs/sample-container-host-data.toml")).unwrap();
    let start = text.find("[[disk.partitions]]").unwrap();
    text[start..text.find("[outputs]").unwrap()].to_owned()
}

#[test]
#[ignore = "builds another image and boots a machine three times"]
fn they_are_made_opened_and_held_against_what_was_made() {
    let Some(lab) = SealedLab::enter_with("partitions", &["partitions"], &declared()) else {
        return;
    };
    let machine = lab.machine("machine");
    let mut uuids = Vec::new();
    for boot in 1..=2 {
        let mut vm = healthy(|| machine.plan().ssh(true));
        vm.wait_ssh(PATIENCE).unwrap();
        let answers = Answers::read(&vm.ssh(&[script(QUESTIONS)]).unwrap().stdout);
        assert!(vm.power_off(PATIENCE).unwrap());
        assert_eq!(answers.get("failed"), "", "boot {boot}");
        let mount: Vec<&str> = answers.get("mount").split_whitespace().collect();
        assert_eq!(mount, ["/dev/mapper/containers", "ext4"]);
        for (volume, kind) in [("volume", "LUKS2"), ("swap volume", "PLAIN")] {
            let said = answers.get(volume);
            assert!(said.contains(kind) && said.contains("aes-xts-plain64"), "{said}");
        }
        let size: u64 = answers.get("size").parse().unwrap();
        assert!(size > 15 << 27, "{size}");
        assert_eq!(answers.get("swap"), answers.get("swap device"), "boot {boot}");
        let keys: Vec<&str> = answers.get("keys").lines().collect();
        let place = "/var/lib/hullwright/partitions/containers";
        assert_eq!(
            keys,
            [format!("600 64 {place}.key"), format!("600 0 {place}.made")]
        );
        assert_eq!(answers.get("counted").trim(), boot.to_string());
        assert_eq!(answers.get("patience"), "20min");
        uuids.push(answers.get("uuid").to_owned());
    }
    assert_eq!(uuids[0], uuids[1]);

    // In its place a plain file system with the files that an attacker likes to be found.
    let partitions = machine.partitions();
    let found = partitions
        .iter()
        .find(|partition| partition["name"] == "containers")
        .unwrap();
    let sectors = |key: &str| found[key].as_u64().unwrap() * 512;
    let planted = lab.place.path().join("planted");
    let file = fs::File::create(&planted).unwrap();
    file.set_len(sectors("size").min(64 << 20)).unwrap();
    run("mkfs.ext4", ["-q", "-F", planted.to_str().unwrap()]);
    machine.write(sectors("start"), &planted);
    let mut vm = machine.plan().start().unwrap();
    let begun = Instant::now();
    let reason = "is no LUKS2 volume, as it must be";
    while !vm.console().contains(reason) {
        assert!(begun.elapsed() < PATIENCE, "{}", vm.console());
        vm.check_alive().unwrap();
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(Duration::from_secs(20));
    let console = vm.console();
    assert!(!console.contains("hullwright-health: healthy"), "{console}");
    drop(vm);
}
