//! `hullwright boot`: an image in QEMU, its console here.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hullwright::compose::detached;
use hullwright::firmware::{Enrolment, OWNER, SECURE_BOOT_DIRECTORY, enroll, read_directory};
use hullwright::vm::{
    Acceleration, Accelerator, DiskBus, DiskFormat, End, Machine, Network, Ovmf, Running, VmError,
};
use miette::{IntoDiagnostic, WrapErr, miette};
use nix::sys::termios::{self, SetArg, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::NamedTempFile;

/// Boot an image in QEMU with UEFI firmware and show its serial console
///
/// The image is never changed: what the guest writes goes to an overlay that is thrown away, or, with
/// --keep, stays in <image>.kept beside the image and is taken up by the next boot with --keep.
/// KVM is used if it really works, else QEMU's TCG, which is some ten times slower.
#[derive(Debug, clap::Args)]
pub struct BootArgs {
    /// A build's output directory, or a disk image (raw, VHD, qcow2)
    #[arg(value_name = "OUTDIR|IMAGE")]
    image: PathBuf,

    /// Wait until the guest says that it is healthy, then power it off: exit status 0; 1 when it is not,
    /// crashes, or says nothing in time
    #[arg(long)]
    until_healthy: bool,

    /// Seconds to wait for health or for ssh [default: 600 under TCG, 180 with KVM]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Write the console's raw bytes to FILE
    #[arg(long, value_name = "FILE")]
    serial: Option<PathBuf>,

    /// Keep what the guest writes (disk, firmware variables, TPM, key for --ssh) in <image>.kept, and take up what is there
    #[arg(long)]
    keep: bool,

    /// Forget what was kept of earlier boots, and begin anew
    #[arg(long)]
    fresh: bool,

    /// Log in as root by ssh with a throw-away key: a shell, or the command after `--`, whose exit status is
    /// passed on; the console goes to standard error
    #[arg(long)]
    ssh: bool,

    /// Attach the disk 2 GiB larger than the image
    #[arg(long)]
    grow: bool,

    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u64,

    /// Processors [default: 2, or 1 with a QEMU before version 8 without KVM]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,

    /// Let the guest reach whatever this host reaches; without it the guest's network leads nowhere
    #[arg(long)]
    open_network: bool,

    /// What the disk is attached to
    #[arg(long, value_enum, default_value_t = Bus::Virtio)]
    bus: Bus,

    /// Which of an output directory's disks to boot [default: raw, else qcow2, else vhd]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// How to run the guest's instructions
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,

    /// Use firmware that enforces Secure Boot with the image's keys: those of --keys or --firmware-vars, else those that the
    /// build left beside the image in secure-boot/
    #[arg(long)]
    secure_boot: bool,

    /// Use the same firmware without keys, as a new machine is: the image's boot loader may enrol its own
    #[arg(long, conflicts_with_all = ["secure_boot", "firmware_vars"])]
    setup_mode: bool,

    /// With --secure-boot: enrol PK, KEK, db and dbx of this directory, as `keys init` or a build makes it
    #[arg(
        long,
        value_name = "DIR",
        requires = "secure_boot",
        conflicts_with = "firmware_vars"
    )]
    keys: Option<PathBuf>,

    /// Begin with a copy of this OVMF variable store instead of an empty one
    #[arg(long, value_name = "FILE")]
    firmware_vars: Option<PathBuf>,

    /// Give the machine a TPM 2.0 (swtpm). Implies --keep: what is sealed to a TPM is lost without it
    #[arg(long)]
    tpm: bool,

    /// Give the machine the key of a root partition that was encrypted at build, as the credential
    /// cryptsetup.passphrase [default: the one file *.root.key of an output directory]
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,

    /// With --ssh: a command to run in the guest; one word is a line for its shell, several arrive as they are
    #[arg(last = true, value_name = "CMD", requires = "ssh")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Bus {
    /// virtio-blk
    Virtio,
    /// NVMe, as on newer Azure machines
    Nvme,
    /// SCSI, as on older Azure machines
    Scsi,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The plain disk
    Raw,
    /// What Azure takes
    Vhd,
    /// QEMU's format
    Qcow2,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Accel {
    /// KVM if it really works, else TCG
    Auto,
    /// KVM or nothing
    Kvm,
    /// Always TCG
    Tcg,
}

const GROW: u64 = 2 << 30;
const POWER_OFF_PATIENCE: Duration = Duration::from_secs(120);
/// How often a machine that runs is looked at.
const LOOK: Duration = Duration::from_millis(200);
const INTERRUPTED: u8 = 130;
/// Ctrl-A, the first half of the console's own commands, as in QEMU and screen.
const PREFIX: u8 = 0x01;

/// Boots as the arguments say. The exit code is the remote command's with `-- CMD`, 130 after Ctrl-C.
pub fn run(args: BootArgs) -> miette::Result<ExitCode> {
    let stop = stop_on_signals()
        .into_diagnostic()
        .wrap_err("cannot catch signals")?;
    match boot(&args, &stop) {
        Err(error) if matches!(error.downcast_ref(), Some(VmError::Interrupted)) => {
            eprintln!("interrupted: the machine was stopped");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) => {
            // Before the error and not in it: these lines must not be wrapped.
            if let Some(tail) = error.downcast_ref().and_then(VmError::console_tail) {
                eprintln!("\nThe last lines of the console:\n{tail}\n");
            }
            Err(error)
        }
        done => done,
    }
}

fn boot(args: &BootArgs, stop: &Arc<AtomicBool>) -> miette::Result<ExitCode> {
    detached::refuse_waiting(&args.image)?;
    let attached =
        !args.until_healthy && !args.ssh && io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut machine = machine(args, attached)?.stopped_by(Arc::clone(stop));
    let variables = enrolled(args)?;
    if let Some(store) = &variables {
        machine = machine.variables(store.path());
    }
    let mut vm = machine.start()?;
    // Copied by now.
    drop(variables);
    announce(&vm);
    let timeout = Duration::from_secs(args.timeout.unwrap_or_else(|| patience(vm.accelerator().0)));

    let mut code = ExitCode::SUCCESS;
    if args.until_healthy {
        match vm.wait_healthy(timeout) {
            Ok(after) => eprintln!("\nhealthy after {:.1} s", after.as_secs_f64()),
            Err(error @ VmError::NotHealthy { .. }) if vm.kept().is_some() => {
                vm.power_off(POWER_OFF_PATIENCE)?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    if args.ssh {
        let after = vm.wait_ssh(timeout)?;
        eprintln!("\nlogged in by ssh after {:.1} s", after.as_secs_f64());
        vm.silence();
        code = remote(&vm, &args.command)?;
    } else if attached {
        return attach(vm);
    } else if !args.until_healthy {
        return unattended(vm, args.timeout.map(Duration::from_secs));
    }
    finish(vm)?;
    Ok(code)
}

/// TCG on a loaded host has taken minutes.
fn patience(accelerator: Accelerator) -> u64 {
    match accelerator {
        Accelerator::Tcg => 600,
        Accelerator::Kvm => 180,
    }
}

/// The key that the image's root partition wants, where one is named or lies in the output directory.
fn root_key(args: &BootArgs) -> miette::Result<Option<PathBuf>> {
    if args.root_key.is_some() || !args.image.is_dir() {
        return Ok(args.root_key.clone());
    }
    let entries = std::fs::read_dir(&args.image).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut found: Vec<PathBuf> = entries
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot list {}", args.image.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".root.key"))
        .collect();
    Ok(if found.len() == 1 { found.pop() } else { None })
}

fn machine(args: &BootArgs, attached: bool) -> miette::Result<Machine> {
    let mut machine = Machine::new(&args.image)
        .keep(args.keep || args.tpm)
        .fresh(args.fresh)
        .ssh(args.ssh)
        .grow(if args.grow { GROW } else { 0 })
        .memory_mib(args.memory)
        .network(if args.open_network {
            Network::Open
        } else {
            Network::Restricted
        })
        .secure_boot(args.secure_boot)
        .setup_mode(args.setup_mode)
        .tpm(args.tpm)
        // Whatever enrols keys restarts the machine.
        .reboots(attached || args.setup_mode)
        .bus(match args.bus {
            Bus::Virtio => DiskBus::VirtioBlk,
            Bus::Nvme => DiskBus::Nvme,
            Bus::Scsi => DiskBus::Scsi,
        })
        .acceleration(match args.accel {
            Accel::Auto => Acceleration::Auto,
            Accel::Kvm => Acceleration::Kvm,
            Accel::Tcg => Acceleration::Tcg,
        });
    if let Some(cpus) = args.cpus {
        machine = machine.cpus(cpus);
    }
    if let Some(store) = &args.firmware_vars {
        machine = machine.variables(store);
    }
    if let Some(format) = args.format {
        machine = machine.format(match format {
            Format::Raw => DiskFormat::Raw,
            Format::Vhd => DiskFormat::Vhd,
            Format::Qcow2 => DiskFormat::Qcow2,
        });
    }
    if let Some(path) = root_key(args)? {
        let key = std::fs::read(&path).into_diagnostic();
        let key =
            key.wrap_err_with(|| format!("cannot read the key of the root partition, {}", path.display()))?;
        machine = machine.secret("cryptsetup.passphrase", &key);
    }
    if let Some(path) = &args.serial {
        let file = File::create(path).into_diagnostic();
        machine = machine
            .console_to(file.wrap_err_with(|| format!("cannot write the console to {}", path.display()))?);
    }
    // With ssh, standard output belongs to the remote command.
    Ok(
        match (args.ssh, io::stderr().is_terminal(), io::stdout().is_terminal()) {
            (true, true, _) => machine.console_to(io::stderr()),
            (true, false, _) => machine.console_lines_to(io::stderr()),
            (false, _, true) => machine.console_to(io::stdout()),
            (false, _, false) => machine.console_lines_to(io::stdout()),
        },
    )
}

/// A variable store with the image's keys, for --secure-boot without --firmware-vars.
fn enrolled(args: &BootArgs) -> miette::Result<Option<NamedTempFile>> {
    if !args.secure_boot || args.firmware_vars.is_some() {
        return Ok(None);
    }
    let directory = match &args.keys {
        Some(keys) => keys.clone(),
        None => {
            let beside = if args.image.is_dir() {
                Some(args.image.as_path())
            } else {
                args.image.parent()
            };
            let keys = beside.unwrap_or(Path::new("")).join(SECURE_BOOT_DIRECTORY);
            if !keys.is_dir() {
                return Err(miette!(
                    help = "build with `[secure-boot]` in the definition, or name keys by --keys DIR or a store by --firmware-vars FILE",
                    "{} is not there: the build left no Secure Boot keys beside the image",
                    keys.display()
                ));
            }
            keys
        }
    };
    let enrolment = Enrolment {
        databases: read_directory(&directory, OWNER)?,
        ..Enrolment::default()
    };
    let store = enroll(&Ovmf::find(true)?.vars, &enrolment)?;
    let made = NamedTempFile::new().and_then(|mut file| {
        file.write_all(&store)?;
        Ok(file)
    });
    eprintln!("Secure Boot with the keys in {}", directory.display());
    Ok(Some(
        made.into_diagnostic().wrap_err("cannot write a temporary file")?,
    ))
}

fn announce(vm: &Running) {
    let (accelerator, note) = vm.accelerator();
    eprintln!(
        "QEMU {} ({}), {}",
        vm.qemu().version,
        vm.qemu().path.display(),
        accelerator.name().to_uppercase()
    );
    if let Some(note) = note {
        eprintln!("note: {note}; TCG is used instead, which is slower");
    }
    if let Some(kept) = vm.kept() {
        eprintln!("what the guest writes stays in {}", kept.display());
    }
}

fn finish(vm: Running) -> miette::Result<()> {
    if vm.power_off(POWER_OFF_PATIENCE)? {
        eprintln!("\npowered off");
    } else {
        eprintln!(
            "\nthe guest did not power off within {} s and was stopped",
            POWER_OFF_PATIENCE.as_secs()
        );
    }
    Ok(())
}

/// Runs ssh on this terminal and passes its exit status on.
fn remote(vm: &Running, command: &[String]) -> miette::Result<ExitCode> {
    let status = vm
        .ssh_command(command)?
        .status()
        .into_diagnostic()
        .wrap_err("cannot run ssh")?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(255),
    ))
}

/// No terminal to attach and nothing to wait for but the end.
fn unattended(mut vm: Running, timeout: Option<Duration>) -> miette::Result<ExitCode> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        if let Some(end) = vm.wait(Some(LOOK))? {
            eprintln!("\n{}", describe(&end));
            return Ok(ExitCode::SUCCESS);
        }
        vm.check_alive()?;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            finish(vm)?;
            let waited = timeout.unwrap_or_default().as_secs();
            return Err(miette!("the guest still ran after {waited} s"));
        }
    }
}

/// Connects this terminal with the console until the machine ends or Ctrl-A X is typed.
fn attach(mut vm: Running) -> miette::Result<ExitCode> {
    eprintln!("the console is attached: Ctrl-A X ends the machine, Ctrl-A Ctrl-A sends Ctrl-A");
    let left = Arc::new(AtomicBool::new(false));
    if let Some(input) = vm.take_input() {
        let left = Arc::clone(&left);
        // It ends with the process: a read from a terminal cannot be called off.
        thread::spawn(move || type_in(io::stdin(), input, &left));
    }
    let raw = RawTerminal::enter()
        .into_diagnostic()
        .wrap_err("cannot switch the terminal to raw mode")?;
    let end = loop {
        match vm.wait(Some(LOOK))? {
            Some(end) => break end,
            None if left.load(Ordering::Relaxed) => {
                vm.power_off(Duration::ZERO)?;
                break End::Stopped;
            }
            None => {}
        }
    };
    drop(raw);
    eprintln!("\n{}", describe(&end));
    Ok(ExitCode::SUCCESS)
}

fn describe(end: &End) -> &'static str {
    match end {
        End::PoweredOff => "the guest powered itself off",
        End::Restarted => "the guest restarted, which ends a machine that nobody attends",
        End::Stopped => "the machine was stopped",
    }
}

/// Copies keys to the console; Ctrl-A X sets `left` and ends.
fn type_in(mut keys: impl Read, mut console: impl Write, left: &AtomicBool) {
    let mut buffer = [0; 256];
    let mut prefixed = false;
    while let Ok(count @ 1..) = keys.read(&mut buffer) {
        let mut typed = Vec::with_capacity(count);
        for &key in &buffer[..count] {
            match (prefixed, key) {
                (false, PREFIX) => prefixed = true,
                (false, key) => typed.push(key),
                (true, b'x' | b'X') => {
                    left.store(true, Ordering::Relaxed);
                    return;
                }
                (true, PREFIX) => {
                    prefixed = false;
                    typed.push(PREFIX);
                }
                (true, _) => prefixed = false,
            }
        }
        if console.write_all(&typed).and_then(|()| console.flush()).is_err() {
            return;
        }
    }
}

/// The terminal passes every key through; as it was again when dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> nix::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that has gone away needs no mode.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// The first Ctrl-C (or TERM, HUP) asks for an orderly end, the second ends at once.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests;
