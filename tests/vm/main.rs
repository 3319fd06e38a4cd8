//! The VM harness against real QEMU and real firmware, with guests that need no operating system.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod efi;
mod enroll;
mod secure_boot;
#[path = "../support/signed.rs"]
mod signed;
#[path = "../../src/testing.rs"]
mod testing;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use efi::Then;
use hullwright::vm::{Acceleration, DiskBus, End, FailureKind, Machine, Ovmf, Qemu, Running, VmError};
use tempfile::TempDir;

/// A loaded machine gets its time: nothing here waits so long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(120);
const HEALTHY: &str = "hullwright-health: healthy\r\n";

fn tools() -> bool {
    match (Qemu::find(), Ovmf::find(false)) {
        (Ok(_), Ok(_)) => true,
        (Err(error), _) | (_, Err(error)) => {
            testing::skip(&error.to_string());
            false
        }
    }
}

/// A machine on a disk in a directory of its own, which the image must outlive.
fn machine(name: &str, disk: &[u8]) -> (TempDir, PathBuf, Machine) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join(name);
    fs::write(&image, disk).unwrap();
    let machine = Machine::new(&image)
        .acceleration(Acceleration::Tcg)
        .memory_mib(256);
    (dir, image, machine)
}

fn unhealthy(disk: &[u8], patience: Duration) -> (FailureKind, String, String) {
    let (_dir, _, machine) = machine("os.raw", disk);
    match machine.start().unwrap().wait_healthy(patience) {
        Err(VmError::NotHealthy { failure, tail }) => (failure.kind, failure.detail, tail),
        other => panic!("{other:?}"),
    }
}

/// Processes whose command line speaks of `path`.
fn processes_on(path: &Path) -> usize {
    let needle = path.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(needle))
        .count()
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn healthy_guest() {
    if !tools() {
        return;
    }
    let disk = efi::disk(HEALTHY, Then::Halt);
    let (dir, image, machine) = machine("os.raw", &disk);
    let (raw, plain) = (Shared::default(), Shared::default());
    let machine = machine
        .console_to(raw.clone())
        .console_lines_to(plain.clone())
        .grow(2 << 30);
    let mut vm = machine.start().unwrap();
    assert_eq!(processes_on(&image), 1);
    let after = vm.wait_healthy(PATIENCE).unwrap();
    assert!(after < PATIENCE);
    assert!(vm.console().contains("hullwright-health: healthy\n"));
    assert!(
        !vm.power_off(Duration::from_secs(1)).unwrap(),
        "this guest has no power button"
    );

    let raw = String::from_utf8_lossy(&raw.0.lock().unwrap()).into_owned();
    assert!(raw.contains('\x1b') && raw.contains(HEALTHY));
    let plain = String::from_utf8_lossy(&plain.0.lock().unwrap()).into_owned();
    assert!(!plain.contains('\x1b') && plain.contains("hullwright-health: healthy\n"));
    assert_eq!(processes_on(&image), 0);
    assert!(fs::read(&image).unwrap() == disk, "the image must stay as it is");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing may be left beside it"
    );
}

#[test]
fn every_bus_and_the_vhd() {
    if !tools() {
        return;
    }
    let raw = efi::disk(HEALTHY, Then::Halt);
    let vhd = efi::vhd(HEALTHY, Then::Halt);
    for (name, disk, bus) in [
        ("nvme.raw", &raw, DiskBus::Nvme),
        ("scsi.raw", &raw, DiskBus::Scsi),
        ("a, b.vhd", &vhd, DiskBus::VirtioBlk),
    ] {
        let (_dir, _, machine) = machine(name, disk);
        let mut vm = machine.bus(bus).start().unwrap();
        vm.wait_healthy(PATIENCE)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
}

#[test]
fn unhealthy_guest() {
    if !tools() {
        return;
    }
    let disk = efi::disk(
        "hullwright-health: unhealthy: no /usr; no network\r\n",
        Then::Halt,
    );
    let (kind, detail, tail) = unhealthy(&disk, PATIENCE);
    assert_eq!(
        (kind, detail.as_str()),
        (FailureKind::Unhealthy, "no /usr; no network")
    );
    assert!(
        tail.ends_with("hullwright-health: unhealthy: no /usr; no network"),
        "{tail}"
    );
}

#[test]
fn nothing_to_boot() {
    if !tools() {
        return;
    }
    let (kind, detail, _) = unhealthy(&vec![0; 1 << 20], PATIENCE);
    assert_eq!(kind, FailureKind::NothingToBoot);
    assert!(
        detail.starts_with("BdsDxe: ") && detail.contains("Not Found"),
        "{detail}"
    );
}

#[test]
fn a_machine_that_ends_too_early() {
    if !tools() {
        return;
    }
    for (then, expected) in [
        (
            Then::PowerOff,
            "the guest switched itself off before it was healthy",
        ),
        (Then::Restart, "the guest restarted before it was healthy"),
    ] {
        let (kind, detail, tail) = unhealthy(&efi::disk("bye\r\n", then), PATIENCE);
        assert_eq!((kind, detail.as_str()), (FailureKind::Ended, expected));
        assert!(tail.contains("bye"), "{tail}");
    }
}

#[test]
fn health_is_heard_even_from_a_machine_that_is_gone() {
    if !tools() {
        return;
    }
    let (_dir, _, machine) = machine("os.raw", &efi::disk(HEALTHY, Then::PowerOff));
    let mut vm = machine.start().unwrap();
    assert_eq!(vm.wait(Some(PATIENCE)).unwrap(), Some(End::PoweredOff));
    vm.wait_healthy(Duration::ZERO).unwrap();
    assert!(vm.power_off(PATIENCE).unwrap(), "it went by itself");
}

#[test]
fn silence_times_out() {
    if !tools() {
        return;
    }
    let start = Instant::now();
    let (kind, detail, _) = unhealthy(&efi::disk("", Then::Halt), Duration::from_secs(4));
    assert_eq!(kind, FailureKind::TimedOut);
    assert_eq!(detail, "the guest said neither healthy nor unhealthy within 4 s");
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_request_to_stop_is_heard() {
    if !tools() {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (_dir, image, machine) = machine("os.raw", &efi::disk("", Then::Halt));
    let mut vm = machine.stopped_by(Arc::clone(&stop)).start().unwrap();
    let asker = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(matches!(vm.wait_healthy(PATIENCE), Err(VmError::Interrupted)));
    asker.join().unwrap();
    drop::<Running>(vm);
    assert_eq!(processes_on(&image), 0, "no QEMU may be left");
}

#[test]
fn kept_state_is_used_again() {
    if !tools() {
        return;
    }
    let disk = efi::disk(HEALTHY, Then::PowerOff);
    let (dir, image, first) = machine("os.raw", &disk);
    let kept = dir.path().join("os.raw.kept");
    let mut vm = first.keep(true).start().unwrap();
    assert_eq!(
        vm.kept().map(Path::to_path_buf),
        Some(fs::canonicalize(dir.path()).unwrap().join("os.raw.kept"))
    );
    vm.wait_healthy(PATIENCE).unwrap();
    drop(vm);
    // Firmware stores its boot options in the variables on the first start.
    let template = fs::read(Ovmf::find(false).unwrap().vars).unwrap();
    let variables = fs::read(kept.join("variables")).unwrap();
    assert!(variables != template, "the firmware wrote to its kept variables");
    let again = Machine::new(&image)
        .acceleration(Acceleration::Tcg)
        .memory_mib(256)
        .keep(true);
    again.start().unwrap().wait_healthy(PATIENCE).unwrap();
    assert!(fs::read(&image).unwrap() == disk);

    fs::write(&image, efi::disk("another\r\n", Then::PowerOff)).unwrap();
    match Machine::new(&image).keep(true).start() {
        Err(VmError::KeptFromAnother { .. }) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_tpm_is_there_and_its_state_is_kept() {
    if !tools() {
        return;
    }
    let (dir, _, machine) = machine("os.raw", &efi::disk(HEALTHY, Then::Halt));
    let mut vm = match machine.tpm(true).keep(true).start() {
        Err(VmError::ProgramMissing { program, .. }) => {
            testing::skip(&format!("{program} is missing"));
            return;
        }
        vm => vm.unwrap(),
    };
    vm.wait_healthy(PATIENCE).unwrap();
    drop(vm);
    assert!(
        dir.path()
            .join("os.raw.kept/tpm/tpm2-00.permall")
            .metadata()
            .unwrap()
            .len()
            > 1000
    );
}

#[test]
fn qemus_refusal_is_told() {
    if !tools() {
        return;
    }
    let (_dir, _, machine) = machine("os.raw", &[0; 1 << 20]);
    match machine.cpus(100_000).start() {
        Err(VmError::Qemu { message, .. } | VmError::Contradiction { what: message, .. }) => {
            assert!(message.contains("100000"), "{message}");
        }
        other => panic!("{:?}", other.err()),
    }
}
