//! What the initrd of an image with `[measured-boot]` brings to reach the TPM: without it systemd-pcrphase measures nothing, and no
//! register later than that is what was told.

use crate::definition::plan::{Arch, Plan};

/// Feature of `.note.dlopen` by which systemd's programs name libtss2.
const FEATURE: &str = "tpm";
/// How libtss2 reaches the TPM: loaded by a name that no note of a program holds.
pub const DEVICE: &str = "libtss2-tcti-device.so.0";

/// Features whose libraries the initrd must have.
pub fn features(plan: &Plan) -> Vec<String> {
    let wanted = plan.measured_boot.iter();
    wanted.map(|_| FEATURE.to_owned()).collect()
}

/// Where the library may lie that no note names.
pub fn libraries(plan: &Plan) -> Vec<String> {
    if plan.measured_boot.is_none() {
        return Vec::new();
    }
    let debian = match plan.image.arch {
        Arch::X86_64 => "lib/x86_64-linux-gnu",
        Arch::Aarch64 => "lib/aarch64-linux-gnu",
    };
    ["lib64", debian]
        .map(|directory| format!("/usr/{directory}/{DEVICE}"))
        .into()
}
