//! Values that are one of a few words: each with the words that definitions write.

use serde::Serialize;

macro_rules! choices {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every choice as definitions write it.
            pub const CHOICES: &[(&str, Self)] = &[$(($text, Self::$variant)),+];

            /// As definitions write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

choices! {
    /// The machine that the image is for.
    Arch { X86_64 = "x86_64", Aarch64 = "aarch64" }
}
choices! {
    /// How the image lies on the disk.
    Layout {
        /// `/usr` in slots under dm-verity, UKIs on the ESP.
        VerityUsr = "verity-usr",
        /// Deployments on the root partition.
        Ostree = "ostree",
    }
}
choices! {
    /// Where changes to `/etc` live: an overlay over `/usr/etc` on the root partition, or in memory.
    EtcMode { Persistent = "persistent", Transient = "transient" }
}
choices! {
    /// The directory of `rpmdb.sqlite`.
    RpmDatabase {
        /// Where RPM of Fedora and Azure Linux has it.
        Sysimage = "/usr/lib/sysimage/rpm",
        /// Where images made by rpm-ostree have it.
        Share = "/usr/share/rpm",
        None = "none",
    }
}
choices! {
    /// IMA's signatures of files.
    ImaSignatures {
        Drop = "drop",
        /// As the extended attribute `security.ima`.
        Keep = "keep",
    }
}
choices! {
    RootFormat { Ext4 = "ext4", Xfs = "xfs", Btrfs = "btrfs" }
}
choices! {
    EncryptionMode {
        /// Plain: said aloud at every build.
        None = "none",
        /// LUKS2 made by the machine at its first boot, bound to its TPM.
        FirstBoot = "first-boot",
        /// LUKS2 made by the composer.
        Build = "build",
    }
}
choices! {
    /// What becomes, at a machine's first boot, of the key that its image was built with.
    Rekey {
        /// It is replaced by one of the machine's own, which the TPM keeps.
        Tpm = "tpm",
    }
}
choices! {
    /// A bank of PCRs that policies are signed for.
    PcrBank { Sha256 = "sha256", Sha384 = "sha384", Sha512 = "sha512" }
}
choices! {
    /// Whom an add-on is for.
    AddonKind {
        /// Any machine: signed as the image is.
        Ordinary = "ordinary",
        /// Machines that trust a key of its own.
        Debug = "debug",
    }
}
choices! {
    /// Where an add-on lies.
    AddonPlace {
        /// In the output directory: whoever wants it puts it on the ESP.
        Beside = "beside",
        /// On the ESP, for this image alone.
        Uki = "uki",
        /// On the ESP, for every image of the machine.
        Loader = "loader",
    }
}
choices! {
    /// From a secret to the key of a keyslot.
    KeyDerivation {
        /// Slow and large in memory: for what a person may remember.
        Argon2id = "argon2id",
        /// Fast: for keys of full entropy only.
        Pbkdf2 = "pbkdf2",
    }
}
choices! {
    /// The hash function of `/usr`'s hash tree.
    VerityAlgorithm { Sha256 = "sha256", Sha512 = "sha512" }
}
choices! {
    /// What the kernel does when a block of `/usr` is not as sealed.
    VerityCorruption {
        /// Reading it fails.
        Error = "error",
        Restart = "restart",
        Panic = "panic",
    }
}
choices! {
    /// Where the signature of the root hash goes.
    VeritySignature {
        None = "none",
        /// Into a partition beside the hash tree, for programs that look at images from outside.
        Partition = "partition",
        /// There, and onto the command line: the kernel refuses a `/usr` without it.
        Kernel = "kernel",
    }
}
choices! {
    DiskFormat { Raw = "raw", Vhd = "vhd" }
}
choices! {
    /// Mode of the ostree repository.
    RepoMode { Archive = "archive", BareUser = "bare-user" }
}
choices! {
    InitrdCodec { Zstd = "zstd", None = "none" }
}
choices! {
    ErofsCodec { None = "none", Lz4 = "lz4", Lz4hc = "lz4hc", Deflate = "deflate", Zstd = "zstd" }
}
choices! {
    PathAction { Drop = "drop", Move = "move" }
}
choices! {
    /// What is done about a scriptlet.
    ScriptletAction { Skip = "skip", Run = "run", MayFail = "may-fail" }
}
