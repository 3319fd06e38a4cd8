//! Booting an image in QEMU, watching it come up, and talking to it.
//!
//! [`Machine`] says what is wanted (the image, memory, network, firmware, TPM …); [`Machine::start`]
//! looks for QEMU and OVMF, settles whether KVM really works, and gives a [`Running`] machine that can
//! be waited for, logged in to by ssh, and powered off. The image itself is never written to: what the
//! guest writes goes to a qcow2 overlay, thrown away at the end or kept beside the image.
//!
//! ```no_run
//! # fn main() -> Result<(), hullwright::vm::VmError> {
//! use hullwright::vm::Machine;
//! use std::time::Duration;
//!
//! let mut vm = Machine::new("build/os_1.0/os_1.0.raw").grow(2 << 30).ssh(true).start()?;
//! vm.wait_healthy(Duration::from_secs(600))?;
//! let output = vm.ssh(&["findmnt", "-no", "FSTYPE", "/usr"])?;
//! assert_eq!(output.stdout, b"erofs\n");
//! vm.power_off(Duration::from_secs(90))?;
//! # Ok(()) }
//! ```

mod accel;
mod arguments;
mod console;
mod error;
mod firmware;
mod health;
mod image;
mod machine;
mod overlay;
mod process;
mod qemu;
mod qmp;
mod running;
mod ssh;
mod state;
mod tpm;

pub use accel::{Acceleration, Accelerator};
pub use console::{Console, Lines};
pub use error::VmError;
pub use firmware::Ovmf;
pub use health::{Failure, FailureKind, Verdict, Watch};
pub use image::{DiskFormat, DiskImage};
pub use machine::{DiskBus, Machine, Network};
pub use qemu::{Qemu, Version};
pub use running::{End, Running};
pub use ssh::remote_command;
