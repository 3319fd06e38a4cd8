//! What a definition says of the initrd: the table `[initrd]`.

use serde::{Deserialize, Serialize};

/// What the initrd takes from the image's tree. In lists whose name ends with `optional` an entry
/// that the tree does not have is passed over; in the others it is an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// zstd's level, 1 to 22; 0 for none of it.
    pub compression_level: i32,
    /// Kernel modules by name or alias. One that is built into the kernel is there.
    pub modules: Vec<String>,
    pub modules_optional: Vec<String>,
    /// Units of `/usr/lib/systemd/system` by name, with their drop-ins and the programs that they
    /// start. `.wants` and `.requires` are kept among the chosen ones.
    pub units: Vec<String>,
    pub units_optional: Vec<String>,
    /// Programs by path, with the libraries that they need.
    pub binaries: Vec<String>,
    pub binaries_optional: Vec<String>,
    /// Features of `.note.dlopen` (`tpm`, `cryptsetup`) whose libraries are needed; those of
    /// recommended and required ones come anyway, where the image has them.
    pub dlopen_features: Vec<String>,
    /// Names of files in `/usr/lib/udev/rules.d`.
    pub udev_rules: Vec<String>,
    pub udev_rules_optional: Vec<String>,
    /// Files, or directories with all that is in them, by path. `/etc` is found in `/usr/etc` too.
    pub files: Vec<String>,
    pub files_optional: Vec<String>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            compression_level: 12,
            modules: Vec::new(),
            modules_optional: Vec::new(),
            units: Vec::new(),
            units_optional: Vec::new(),
            binaries: Vec::new(),
            binaries_optional: Vec::new(),
            dlopen_features: Vec::new(),
            udev_rules: Vec::new(),
            udev_rules_optional: Vec::new(),
            files: Vec::new(),
            files_optional: Vec::new(),
        }
    }
}
