//! A root partition that was encrypted at build: opened by the credential, grown to its disk, and by nothing else.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use hullwright::vm::Machine;

use crate::lab::{Answers, GROW, Lab, PATIENCE, script};
use crate::support::image::{build_command, output_directory, output_file, said, sample_store};
use crate::support::sample_rpms;

const QUESTIONS: &[(&str, &str)] = &[
    ("volume", "cryptsetup status root"),
    ("mount", "findmnt -no SOURCE,FSTYPE /"),
    ("size of /", "findmnt -bno SIZE /"),
    ("partition", "lsblk -bdno SIZE /dev/vda6"),
    ("failed", "systemctl --failed --plain --no-legend"),
    (
        "errors",
        "dmesg --level=err,crit,alert,emerg | grep -i ext4 || true",
    ),
    (
        "top",
        r"find / -mindepth 1 -maxdepth 1 -printf '%y %m %U:%G %p\n' | grep -E ' /(etc|var|tmp|bin|lost\+found)$' | sort",
    ),
];

#[test]
#[ignore = "builds another image and boots it three times"]
fn it_opens_with_its_key_and_is_grown_and_with_no_other() {
    let (Some(lab), Some(rpms)) = (Lab::enter(), sample_rpms()) else {
        return;
    };
    let place = tempfile::Builder::new()
        .prefix("built-root-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let definition =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("image-defs/sample-container-host-built-root.toml");
    let out = place.path().join("out");
    let built = build_command(&definition, &rpms, &out, &sample_store())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let built = output_directory(&out);
    let key = fs::read(output_file(&built, ".root.key")).unwrap();
    let disk = output_file(&built, ".raw");

    for boot in 1..=2 {
        let mut vm = Machine::new(&disk)
            .grow(GROW)
            .keep(true)
            .ssh(true)
            .secret("cryptsetup.passphrase", &key)
            .start()
            .unwrap();
        vm.wait_healthy(PATIENCE)
            .unwrap_or_else(|error| panic!("{error:?}"));
        vm.wait_ssh(PATIENCE).unwrap();
        let answers = Answers::read(&vm.ssh(&[script(QUESTIONS)]).unwrap().stdout);
        assert!(vm.power_off(Duration::from_secs(180)).unwrap());
        well(&answers, boot);
    }

    // What was given is tried once, and the machine says why it goes no further.
    let console = place.path().join("console");
    let mut vm = Machine::new(&disk)
        .secret("cryptsetup.passphrase", b"another-key-of-sufficient-length")
        .console_to(File::create(&console).unwrap())
        .start()
        .unwrap();
    let error = vm.wait_healthy(PATIENCE).unwrap_err();
    drop(vm);
    let text = fs::read_to_string(&console).unwrap_or_default();
    assert!(
        text.contains("is not the one that this image was built with"),
        "{error}: {text}"
    );
    drop(lab);
}

fn well(answers: &Answers, boot: u32) {
    assert_eq!(answers.get("failed"), "", "boot {boot}");
    assert_eq!(answers.get("errors"), "", "boot {boot}");
    let volume = answers.get("volume");
    for part in ["LUKS2", "aes-xts-plain64", "512 bits"] {
        assert!(volume.contains(part), "{volume}");
    }
    let mount: Vec<&str> = answers.get("mount").split_whitespace().collect();
    assert_eq!(mount, ["/dev/mapper/root", "ext4"]);
    let number = |name: &str| answers.get(name).parse::<u64>().unwrap();
    let (size, partition) = (number("size of /"), number("partition"));
    assert!(size > partition / 10 * 9, "{size} of {partition}");
    let top: Vec<&str> = answers.get("top").lines().collect();
    assert_eq!(
        top,
        [
            "d 1777 0:0 /tmp",
            "d 700 0:0 /lost+found",
            "d 755 0:0 /etc",
            "d 755 0:0 /var",
            "l 777 0:0 /bin"
        ]
    );
}
