//! What machine is wanted, and its start.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::VmError;
use super::accel::{self, Acceleration, Accelerator};
use super::arguments::Settled;
use super::console::{PlainLines, Sink};
use super::firmware::{Ovmf, check_enforced, flash_driver};
use super::image::{DiskFormat, DiskImage};
use super::overlay;
use super::qemu::Qemu;
use super::running::{Running, Started};
use super::ssh::Login;
use super::state::{State, path_text};
use super::tpm::Swtpm;

/// What the disk is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskBus {
    /// virtio-blk: `/dev/vda`.
    #[default]
    VirtioBlk,
    /// NVMe, as on Azure's newer machines: `/dev/nvme0n1`.
    Nvme,
    /// SCSI (on virtio), as on Azure's older machines: `/dev/sda`.
    Scsi,
}

/// What the guest's network reaches. In both cases it gets an address by DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Nothing but what is forwarded into the guest.
    #[default]
    Restricted,
    /// Whatever the host reaches.
    Open,
}

/// A virtual machine to be started: x86-64, UEFI, one disk, one network card, console on the first serial port.
pub struct Machine {
    image: PathBuf,
    format: Option<DiskFormat>,
    grow: u64,
    keep: bool,
    fresh: bool,
    bus: DiskBus,
    cpus: Option<u32>,
    memory_mib: u64,
    network: Network,
    ssh: bool,
    credentials: Vec<(String, Vec<u8>)>,
    secrets: Vec<(String, Vec<u8>)>,
    oem_strings: Vec<String>,
    second_disk: Option<PathBuf>,
    acceleration: Acceleration,
    secure_boot: bool,
    setup_mode: bool,
    variables: Option<PathBuf>,
    tpm: bool,
    reboots: bool,
    sinks: Vec<Sink>,
    stop: Arc<AtomicBool>,
}

const DEFAULT_MEMORY_MIB: u64 = 2048;
const DEFAULT_CPUS: usize = 2;

impl Machine {
    /// A machine that boots `image`: a disk image, or a build's output directory.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            format: None,
            grow: 0,
            keep: false,
            fresh: false,
            bus: DiskBus::default(),
            cpus: None,
            memory_mib: DEFAULT_MEMORY_MIB,
            network: Network::default(),
            ssh: false,
            credentials: Vec::new(),
            secrets: Vec::new(),
            oem_strings: Vec::new(),
            second_disk: None,
            acceleration: Acceleration::default(),
            secure_boot: false,
            setup_mode: false,
            variables: None,
            tpm: false,
            reboots: false,
            sinks: Vec::new(),
            stop: Arc::default(),
        }
    }

    /// Takes the disk of this format out of an output directory.
    pub fn format(mut self, format: DiskFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// Attaches the disk so many bytes larger than the image (a multiple of 512).
    pub fn grow(mut self, bytes: u64) -> Self {
        self.grow = bytes;
        self
    }

    /// Keeps disk, firmware variables and TPM in `<image>.kept` beside the image, and takes up what is there.
    pub fn keep(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Forgets what was kept of earlier machines, see [`Machine::keep`].
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Attaches the disk to this bus.
    pub fn bus(mut self, bus: DiskBus) -> Self {
        self.bus = bus;
        self
    }

    /// Processors; by default two where the host has them, one where QEMU's TCG cannot do more.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Memory in MiB; 2048 by default.
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    /// What the guest reaches.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Makes root's ssh login possible with a throw-away key, handed over as a systemd credential. The key
    /// of a kept disk is kept with it.
    pub fn ssh(mut self, ssh: bool) -> Self {
        self.ssh = ssh;
        self
    }

    /// Hands a systemd credential to the guest through SMBIOS (measured into PCR 12).
    pub fn credential(mut self, name: &str, value: &[u8]) -> Self {
        self.credentials.push((name.to_owned(), value.to_vec()));
        self
    }

    /// As [`Machine::credential`], by way of a file that only this user can read: QEMU's arguments are seen by all.
    pub fn secret(mut self, name: &str, value: &[u8]) -> Self {
        self.secrets.push((name.to_owned(), value.to_vec()));
        self
    }

    /// An OEM string of SMBIOS (type 11), from which systemd's parts take more than credentials.
    pub fn oem_string(mut self, text: &str) -> Self {
        self.oem_strings.push(text.to_owned());
        self
    }

    /// Attaches another disk, behind the first, which the guest can only read.
    pub fn second_disk(mut self, image: impl Into<PathBuf>) -> Self {
        self.second_disk = Some(image.into());
        self
    }

    /// KVM or TCG.
    pub fn acceleration(mut self, acceleration: Acceleration) -> Self {
        self.acceleration = acceleration;
        self
    }

    /// Firmware that enforces Secure Boot once its variables hold keys ([`Machine::variables`]).
    pub fn secure_boot(mut self, secure_boot: bool) -> Self {
        self.secure_boot = secure_boot;
        self
    }

    /// The same firmware without keys, as a new machine is: it starts everything, and takes keys from whatever it starts.
    pub fn setup_mode(mut self, setup_mode: bool) -> Self {
        self.setup_mode = setup_mode;
        self
    }

    /// An OVMF variable store to begin from, instead of the empty one that comes with the firmware; it is copied.
    pub fn variables(mut self, store: impl Into<PathBuf>) -> Self {
        self.variables = Some(store.into());
        self
    }

    /// A TPM 2.0 (swtpm); its state lives and dies with the disk, see [`Machine::keep`].
    pub fn tpm(mut self, tpm: bool) -> Self {
        self.tpm = tpm;
        self
    }

    /// Lets the guest restart. By default a restart ends the machine, so that a crash loop is seen.
    pub fn reboots(mut self, reboots: bool) -> Self {
        self.reboots = reboots;
        self
    }

    /// Copies the console's raw bytes to `sink`.
    pub fn console_to(mut self, sink: impl Write + Send + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Copies the console to `sink` as plain lines, without escape sequences.
    pub fn console_lines_to(self, sink: impl Write + Send + 'static) -> Self {
        self.console_to(PlainLines::new(sink))
    }

    /// Ends every wait with [`VmError::Interrupted`] once `stop` is true.
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = stop;
        self
    }

    /// Finds all that is needed and starts the machine.
    ///
    /// # Errors
    /// A missing program or firmware, an unusable image, contradicting wishes, or QEMU's refusal.
    pub fn start(self) -> Result<Running, VmError> {
        let qemu = Qemu::find()?;
        let ovmf = Ovmf::find(self.secure_boot || self.setup_mode)?;
        self.start_with(&qemu, &ovmf)
    }

    /// The same with a given emulator and firmware.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start_with(self, qemu: &Qemu, ovmf: &Ovmf) -> Result<Running, VmError> {
        self.check()?;
        let image = DiskImage::find(&self.image, self.format)?;
        let disk_size = self.disk_size(&image)?;
        let (accelerator, note) = accel::choose(self.acceleration, qemu, ovmf)?;
        let cpus = self.processors(qemu, accelerator)?;

        let template = self.variables.as_deref().unwrap_or(&ovmf.vars);
        if self.fresh {
            State::forget(&image)?;
        }
        let state = State::prepare(&image, disk_size, template, self.keep)?;
        if self.secure_boot {
            check_enforced(&state.vars, template, state.kept.as_deref())?;
        }
        let run = state.run.path().to_path_buf();
        let login = if self.ssh {
            Some(Login::prepare(state.kept.as_deref().unwrap_or(&run))?)
        } else {
            None
        };
        let tpm = if self.tpm {
            Some(Swtpm::start(&state.tpm, &run)?)
        } else {
            None
        };

        let mut credentials = self.credentials;
        credentials.extend(login.as_ref().map(Login::credential));
        let encoded = credentials
            .into_iter()
            .map(|(name, value)| (name, BASE64.encode(value)));
        let tpm_socket = match &tpm {
            Some(tpm) => Some(path_text(&tpm.socket)?.to_owned()),
            None => None,
        };
        let secrets = self.secrets.iter().enumerate().map(|(index, (name, value))| {
            let path = run.join(format!("secret-{index}"));
            let text = format!("io.systemd.credential.binary:{name}={}", BASE64.encode(value));
            let mut options = File::options();
            let made = options.write(true).create_new(true).mode(0o600).open(&path);
            made.and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(VmError::io("write", &path))?;
            Ok(path_text(&path)?.to_owned())
        });
        let secrets = secrets.collect::<Result<Vec<_>, VmError>>()?;
        let second = match &self.second_disk {
            Some(path) => {
                let second = DiskImage::inspect(path)?;
                Some((path_text(&second.path)?.to_owned(), second.format.driver()))
            }
            None => None,
        };
        let control = run.join("control.sock");
        let settled = Settled {
            accelerator,
            cpus,
            memory_mib: self.memory_mib,
            code: (path_text(&ovmf.code)?.to_owned(), flash_driver(&ovmf.code)?),
            vars: (path_text(&state.vars)?.to_owned(), flash_driver(&state.vars)?),
            secure_boot: self.secure_boot || self.setup_mode,
            disk: path_text(&state.overlay)?.to_owned(),
            image: (path_text(&image.path)?.to_owned(), image.format.driver()),
            durable: self.keep,
            bus: self.bus,
            network: self.network,
            ssh: self.ssh,
            credentials: encoded.collect(),
            secrets,
            oem_strings: self.oem_strings,
            second,
            control_socket: path_text(&control)?.to_owned(),
            tpm_socket,
            reboots: self.reboots,
        };
        Running::launch(Started {
            qemu: qemu.clone(),
            arguments: settled.arguments(),
            control,
            accelerator,
            note,
            login,
            tpm,
            state,
            sinks: self.sinks,
            stop: self.stop,
        })
    }

    fn check(&self) -> Result<(), VmError> {
        let wrong = |what: &str, help: &str| {
            Err(VmError::Contradiction {
                what: what.into(),
                help: help.into(),
            })
        };
        if self.secure_boot && self.variables.is_none() {
            return wrong(
                "Secure Boot was asked for without a variable store that holds keys",
                "an empty store enforces nothing: name an OVMF store in which PK, KEK and db are enrolled",
            );
        }
        if self.memory_mib < 64 {
            return wrong("less than 64 MiB of memory", "firmware alone needs as much");
        }
        if self.cpus == Some(0) {
            return wrong("a machine without a processor", "ask for at least one");
        }
        Ok(())
    }

    fn disk_size(&self, image: &DiskImage) -> Result<u64, VmError> {
        let size = image
            .size
            .checked_add(self.grow)
            .filter(|size| *size <= overlay::MAX_SIZE && size % 512 == 0);
        size.ok_or_else(|| VmError::Contradiction {
            what: format!(
                "a disk of {} bytes cannot be attached {} bytes larger",
                image.size, self.grow
            ),
            help: "whole sectors of 512 bytes, at most 4 TiB in all".into(),
        })
    }

    fn processors(&self, qemu: &Qemu, accelerator: Accelerator) -> Result<u32, VmError> {
        let one_only = accelerator == Accelerator::Tcg && !qemu.version.tcg_smp_works();
        match self.cpus {
            Some(cpus) if cpus > 1 && one_only => Err(VmError::Contradiction {
                what: format!(
                    "QEMU {} crashes guests that have {cpus} processors without KVM",
                    qemu.version
                ),
                help: "ask for one processor, or name QEMU 8 or newer in HULLWRIGHT_QEMU".into(),
            }),
            Some(cpus) => Ok(cpus),
            None if one_only => Ok(1),
            None => {
                let host = thread::available_parallelism().map_or(1, usize::from);
                Ok(u32::try_from(host.min(DEFAULT_CPUS)).unwrap_or(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::qemu::Version;
    use super::*;

    fn qemu(major: u32) -> Qemu {
        Qemu {
            path: "/bin/false".into(),
            version: Version {
                major,
                minor: 0,
                micro: 0,
            },
        }
    }

    #[test]
    fn processors_by_version() {
        let any = Machine::new("x");
        assert_eq!(any.processors(&qemu(7), Accelerator::Tcg).unwrap(), 1);
        let host = thread::available_parallelism().unwrap().get().min(2) as u32;
        assert_eq!(any.processors(&qemu(7), Accelerator::Kvm).unwrap(), host);
        assert_eq!(any.processors(&qemu(10), Accelerator::Tcg).unwrap(), host);
        let four = Machine::new("x").cpus(4);
        assert_eq!(four.processors(&qemu(10), Accelerator::Tcg).unwrap(), 4);
        let error = four.processors(&qemu(7), Accelerator::Tcg).unwrap_err();
        assert!(error.to_string().contains("4 processors"), "{error}");
    }

    #[test]
    fn contradictions_come_before_anything_is_made() {
        let cases = [
            (Machine::new("x").secure_boot(true), "Secure Boot"),
            (Machine::new("x").memory_mib(10), "64 MiB"),
            (Machine::new("x").cpus(0), "without a processor"),
        ];
        for (machine, part) in cases {
            let error = machine.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn grown_disk() {
        let image = DiskImage {
            path: "/x.raw".into(),
            format: DiskFormat::Raw,
            size: 1 << 20,
            modified: std::time::UNIX_EPOCH,
        };
        let size = |grow| Machine::new("x").grow(grow).disk_size(&image);
        assert_eq!(size(2 << 30).unwrap(), (2 << 30) + (1 << 20));
        assert!(size(1).is_err() && size(u64::MAX).is_err() && size(1 << 42).is_err());
    }
}
