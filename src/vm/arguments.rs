//! QEMU's command line: a pure function of everything that was settled before.

use serde_json::json;

use super::accel::Accelerator;
use super::machine::{DiskBus, Network};

/// Everything that the command line depends on; paths as text, since QEMU takes them in JSON.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) accelerator: Accelerator,
    pub(super) cpus: u32,
    pub(super) memory_mib: u64,
    /// Path and QEMU driver.
    pub(super) code: (String, &'static str),
    /// Path and QEMU driver.
    pub(super) vars: (String, &'static str),
    /// Code with system management mode, variables writable from there only.
    pub(super) secure_boot: bool,
    /// The overlay.
    pub(super) disk: String,
    /// The image below it and its QEMU driver.
    pub(super) image: (String, &'static str),
    /// Whether what reaches the overlay must survive a crash of the host.
    pub(super) durable: bool,
    pub(super) bus: DiskBus,
    pub(super) network: Network,
    /// Forward a loopback port to the guest's port 22.
    pub(super) ssh: bool,
    /// Name and base64 content.
    pub(super) credentials: Vec<(String, String)>,
    /// Files with a line for SMBIOS each.
    pub(super) secrets: Vec<String>,
    pub(super) oem_strings: Vec<String>,
    /// Path and QEMU driver of another disk, which is only read.
    pub(super) second: Option<(String, &'static str)>,
    pub(super) control_socket: String,
    pub(super) tpm_socket: Option<String>,
    pub(super) reboots: bool,
}

impl Settled {
    /// The arguments after the program's name.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut line = Line::default();
        line.flags(&["-nodefaults", "-no-user-config"]);
        line.option("-display", "none");
        let smm = if self.secure_boot { ",smm=on" } else { "" };
        line.option("-machine", format!("q35{smm},pflash0=code,pflash1=vars"));
        line.option("-accel", self.accelerator.name());
        line.option(
            "-cpu",
            if self.accelerator == Accelerator::Kvm {
                "host"
            } else {
                "max"
            },
        );
        line.option("-smp", self.cpus.to_string());
        line.option("-m", self.memory_mib.to_string());
        if !self.reboots {
            line.flags(&["-no-reboot"]);
        }
        self.firmware(&mut line);
        self.disk(&mut line);
        if let Some((path, driver)) = &self.second {
            let disk = json!({
                "driver": driver, "node-name": "second", "read-only": true,
                "file": { "driver": "file", "filename": path, "read-only": true },
            });
            line.option("-blockdev", disk.to_string());
            line.option("-device", "virtio-blk-pci,drive=second");
        }
        self.network(&mut line);
        line.option("-device", "virtio-rng-pci");
        line.option("-chardev", "stdio,id=console,signal=off");
        line.option("-serial", "chardev:console");
        line.option(
            "-chardev",
            format!(
                "socket,id=control,path={},server=on,wait=off",
                escape(&self.control_socket)
            ),
        );
        line.option("-mon", "chardev=control,mode=control");
        if let Some(socket) = &self.tpm_socket {
            line.option("-chardev", format!("socket,id=tpm,path={}", escape(socket)));
            line.option("-tpmdev", "emulator,id=tpm,chardev=tpm");
            line.option("-device", "tpm-crb,tpmdev=tpm");
        }
        for (name, base64) in &self.credentials {
            let value = escape(&format!("io.systemd.credential.binary:{name}={base64}"));
            line.option("-smbios", format!("type=11,value={value}"));
        }
        for path in &self.secrets {
            line.option("-smbios", format!("type=11,path={}", escape(path)));
        }
        for text in &self.oem_strings {
            line.option("-smbios", format!("type=11,value={}", escape(text)));
        }
        line.0
    }

    fn firmware(&self, line: &mut Line) {
        for (node, (path, driver), read_only) in [("code", &self.code, true), ("vars", &self.vars, false)] {
            let flash = json!({
                "driver": driver, "node-name": node, "read-only": read_only,
                "file": { "driver": "file", "filename": path, "read-only": read_only },
            });
            line.option("-blockdev", flash.to_string());
        }
        if self.secure_boot {
            // Without this the guest's kernel could rewrite the keys in the variable store.
            line.option("-global", "driver=cfi.pflash01,property=secure,value=on");
            // Firmware in system management mode hangs at a restart where it also has to offer suspend to memory.
            line.option("-global", "driver=ICH9-LPC,property=disable_s3,value=1");
        }
    }

    fn disk(&self, line: &mut Line) {
        let (image, driver) = &self.image;
        let disk = json!({
            "driver": "qcow2", "node-name": "disk", "discard": "unmap", "detect-zeroes": "unmap",
            "cache": { "no-flush": !self.durable },
            "file": { "driver": "file", "filename": self.disk, "discard": "unmap",
                      "cache": { "no-flush": !self.durable } },
            "backing": { "driver": driver, "read-only": true,
                         "file": { "driver": "file", "filename": image, "read-only": true } },
        });
        line.option("-blockdev", disk.to_string());
        match self.bus {
            DiskBus::VirtioBlk => line.option("-device", "virtio-blk-pci,drive=disk,bootindex=0"),
            DiskBus::Nvme => line.option("-device", "nvme,drive=disk,serial=hullwright,bootindex=0"),
            DiskBus::Scsi => {
                line.option("-device", "virtio-scsi-pci,id=scsi");
                line.option("-device", "scsi-hd,drive=disk,bus=scsi.0,bootindex=0");
            }
        }
    }

    fn network(&self, line: &mut Line) {
        let restrict = if self.network == Network::Open {
            "off"
        } else {
            "on"
        };
        // Port 0: the system picks a free one, which is asked for afterwards.
        let forward = if self.ssh {
            ",hostfwd=tcp:127.0.0.1:0-:22"
        } else {
            ""
        };
        line.option("-netdev", format!("user,id=net,restrict={restrict}{forward}"));
        // Without the ROM, firmware has nothing to boot from the network with.
        line.option("-device", "virtio-net-pci,netdev=net,romfile=");
    }
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(name.to_owned());
        self.0.push(value.into());
    }
}

/// A comma in a value of QEMU's `key=value,…` syntax is doubled.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> Settled {
        Settled {
            accelerator: Accelerator::Tcg,
            cpus: 1,
            memory_mib: 2048,
            code: ("/fw/code.fd".into(), "raw"),
            vars: ("/run/v".into(), "raw"),
            secure_boot: false,
            disk: "/run/d.qcow2".into(),
            image: ("/out/a, \"b\".vhd".into(), "vpc"),
            durable: false,
            bus: DiskBus::VirtioBlk,
            network: Network::Restricted,
            ssh: false,
            credentials: vec![],
            secrets: vec![],
            oem_strings: vec![],
            second: None,
            control_socket: "/run/a,b/q".into(),
            tpm_socket: None,
            reboots: false,
        }
    }

    fn values<'a>(line: &'a [String], name: &str) -> Vec<&'a str> {
        line.windows(2)
            .filter(|pair| pair[0] == name)
            .map(|pair| pair[1].as_str())
            .collect()
    }

    fn block(line: &[String], node: &str) -> serde_json::Value {
        let blocks = values(line, "-blockdev")
            .into_iter()
            .map(|text| serde_json::from_str(text).unwrap());
        blocks
            .into_iter()
            .find(|block: &serde_json::Value| block["node-name"] == node)
            .unwrap()
    }

    #[test]
    fn plain_machine() {
        let line = settled().arguments();
        assert_eq!(values(&line, "-machine"), ["q35,pflash0=code,pflash1=vars"]);
        assert_eq!(values(&line, "-accel"), ["tcg"]);
        assert_eq!(values(&line, "-cpu"), ["max"]);
        assert_eq!(values(&line, "-smp"), ["1"]);
        assert_eq!(values(&line, "-netdev"), ["user,id=net,restrict=on"]);
        assert_eq!(values(&line, "-smbios"), [""; 0]);
        assert_eq!(values(&line, "-global"), [""; 0]);
        assert!(line.contains(&"-no-reboot".to_owned()));
        assert_eq!(
            values(&line, "-chardev"),
            [
                "stdio,id=console,signal=off",
                "socket,id=control,path=/run/a,,b/q,server=on,wait=off"
            ]
        );
    }

    #[test]
    fn the_image_is_only_read() {
        let line = settled().arguments();
        let disk = block(&line, "disk");
        assert_eq!(disk["file"]["filename"], "/run/d.qcow2");
        assert_eq!(disk["backing"]["driver"], "vpc");
        assert_eq!(disk["backing"]["read-only"], true);
        assert_eq!(disk["backing"]["file"]["read-only"], true);
        assert_eq!(disk["backing"]["file"]["filename"], "/out/a, \"b\".vhd");
        assert_eq!(disk["cache"]["no-flush"], true);
        assert_eq!(block(&line, "code")["read-only"], true);
        let kept = Settled {
            durable: true,
            ..settled()
        }
        .arguments();
        assert_eq!(block(&kept, "disk")["cache"]["no-flush"], false);
    }

    #[test]
    fn choices() {
        let change = |change: fn(&mut Settled)| {
            let mut machine = settled();
            change(&mut machine);
            machine.arguments()
        };
        let kvm = change(|m| m.accelerator = Accelerator::Kvm);
        assert_eq!(
            (values(&kvm, "-accel"), values(&kvm, "-cpu")),
            (vec!["kvm"], vec!["host"])
        );
        let nvme = change(|m| m.bus = DiskBus::Nvme);
        assert!(values(&nvme, "-device").contains(&"nvme,drive=disk,serial=hullwright,bootindex=0"));
        let scsi = change(|m| m.bus = DiskBus::Scsi);
        assert!(values(&scsi, "-device").contains(&"scsi-hd,drive=disk,bus=scsi.0,bootindex=0"));
        let open = change(|m| {
            m.network = Network::Open;
            m.ssh = true;
        });
        assert_eq!(
            values(&open, "-netdev"),
            ["user,id=net,restrict=off,hostfwd=tcp:127.0.0.1:0-:22"]
        );
        let credentials =
            change(|m| m.credentials = vec![("a".into(), "Zm9v".into()), ("b".into(), "YQ==".into())]);
        assert_eq!(
            values(&credentials, "-smbios"),
            [
                "type=11,value=io.systemd.credential.binary:a=Zm9v",
                "type=11,value=io.systemd.credential.binary:b=YQ=="
            ]
        );
        let secret = change(|m| m.secrets = vec!["/run/a,b".into()]);
        assert_eq!(values(&secret, "-smbios"), ["type=11,path=/run/a,,b"]);
        let more = change(|m| {
            m.oem_strings = vec!["io.systemd.stub.kernel-cmdline-extra=a,b".into()];
            m.second = Some(("/clone.raw".into(), "raw"));
        });
        assert_eq!(
            values(&more, "-smbios"),
            ["type=11,value=io.systemd.stub.kernel-cmdline-extra=a,,b"]
        );
        assert_eq!(block(&more, "second")["read-only"], true);
        assert!(values(&more, "-device").contains(&"virtio-blk-pci,drive=second"));
        let sealed = change(|m| {
            m.secure_boot = true;
            m.tpm_socket = Some("/run/t".into());
        });
        assert_eq!(
            values(&sealed, "-machine"),
            ["q35,smm=on,pflash0=code,pflash1=vars"]
        );
        assert_eq!(
            values(&sealed, "-global"),
            [
                "driver=cfi.pflash01,property=secure,value=on",
                "driver=ICH9-LPC,property=disable_s3,value=1"
            ]
        );
        assert!(values(&sealed, "-device").contains(&"tpm-crb,tpmdev=tpm"));
        assert!(!change(|m| m.reboots = true).contains(&"-no-reboot".to_owned()));
    }
}
