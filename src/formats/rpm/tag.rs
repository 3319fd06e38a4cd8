//! Tag numbers of RPM headers, by their names in RPM's reference manual.

macro_rules! tags {
    ($($name:ident = $value:expr;)*) => {
        $(pub const $name: u32 = $value;)*

        /// The name of `tag` in RPM's reference manual, where this program knows it.
        pub fn name(tag: u32) -> Option<&'static str> {
            match tag {
                $($value => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

tags! {
    HEADER_IMAGE = 61;
    HEADER_SIGNATURES = 62;
    HEADER_IMMUTABLE = 63;
    NAME = 1000;
    VERSION = 1001;
    RELEASE = 1002;
    EPOCH = 1003;
    SUMMARY = 1004;
    DESCRIPTION = 1005;
    BUILDTIME = 1006;
    BUILDHOST = 1007;
    SIZE = 1009;
    VENDOR = 1011;
    LICENSE = 1014;
    PACKAGER = 1015;
    URL = 1020;
    OS = 1021;
    ARCH = 1022;
    PREIN = 1023;
    POSTIN = 1024;
    PREUN = 1025;
    POSTUN = 1026;
    OLDFILENAMES = 1027;
    FILESIZES = 1028;
    FILEMODES = 1030;
    FILERDEVS = 1033;
    FILEMTIMES = 1034;
    FILEDIGESTS = 1035;
    FILELINKTOS = 1036;
    FILEFLAGS = 1037;
    FILEUSERNAME = 1039;
    FILEGROUPNAME = 1040;
    SOURCERPM = 1044;
    FILEVERIFYFLAGS = 1045;
    ARCHIVESIZE = 1046;
    PROVIDENAME = 1047;
    REQUIREFLAGS = 1048;
    REQUIRENAME = 1049;
    REQUIREVERSION = 1050;
    CONFLICTFLAGS = 1053;
    CONFLICTNAME = 1054;
    CONFLICTVERSION = 1055;
    RPMVERSION = 1064;
    TRIGGERSCRIPTS = 1065;
    PREINPROG = 1085;
    POSTINPROG = 1086;
    OBSOLETENAME = 1090;
    FILEDEVICES = 1095;
    FILEINODES = 1096;
    FILELANGS = 1097;
    PREFIXES = 1098;
    SOURCEPACKAGE = 1106;
    PROVIDEFLAGS = 1112;
    PROVIDEVERSION = 1113;
    OBSOLETEFLAGS = 1114;
    OBSOLETEVERSION = 1115;
    DIRINDEXES = 1116;
    BASENAMES = 1117;
    DIRNAMES = 1118;
    PAYLOADFORMAT = 1124;
    PAYLOADCOMPRESSOR = 1125;
    FILECOLORS = 1140;
    PRETRANS = 1151;
    POSTTRANS = 1152;
    PRETRANSPROG = 1153;
    POSTTRANSPROG = 1154;
    LONGFILESIZES = 5008;
    LONGSIZE = 5009;
    FILECAPS = 5010;
    FILEDIGESTALGO = 5011;
    FILETRIGGERSCRIPTS = 5066;
    TRANSFILETRIGGERSCRIPTS = 5076;
    FILESIGNATURES = 5090;
    PAYLOADDIGEST = 5092;
    PAYLOADDIGESTALGO = 5093;
    MODULARITYLABEL = 5096;
    PAYLOADDIGESTALT = 5097;
    PAYLOADSHA512 = 5121;
    PAYLOADSHA3_256 = 5123;
}

/// Tags of the signature header. They share numbers with tags of the main header.
pub mod signature {
    pub const DSA: u32 = 267;
    pub const RSA: u32 = 268;
    /// SHA-1 of the header, hexadecimal.
    pub const SHA1: u32 = 269;
    pub const LONGSIZE: u32 = 270;
    pub const LONGARCHIVESIZE: u32 = 271;
    /// SHA-256 of the header, hexadecimal.
    pub const SHA256: u32 = 273;
    /// Any number of OpenPGP signatures of the header, base64 (RPM 6).
    pub const OPENPGP: u32 = 278;
    /// SHA3-256 of the header, hexadecimal (RPM 6).
    pub const SHA3_256: u32 = 279;
    /// Length of header and payload in bytes.
    pub const SIZE: u32 = 1000;
    pub const PGP: u32 = 1002;
    /// MD5 of header and payload, 16 raw bytes.
    pub const MD5: u32 = 1004;
    pub const GPG: u32 = 1005;
}

/// Bits of [`FILEFLAGS`].
pub mod fileflag {
    pub const CONFIG: u32 = 1 << 0;
    pub const DOC: u32 = 1 << 1;
    pub const MISSINGOK: u32 = 1 << 3;
    pub const NOREPLACE: u32 = 1 << 4;
    pub const GHOST: u32 = 1 << 6;
    pub const LICENSE: u32 = 1 << 7;
    pub const README: u32 = 1 << 8;
    pub const ARTIFACT: u32 = 1 << 12;
}

/// Bits of dependency flags ([`REQUIREFLAGS`] and its like).
pub mod sense {
    pub const LESS: u32 = 1 << 1;
    pub const GREATER: u32 = 1 << 2;
    pub const EQUAL: u32 = 1 << 3;
    /// Provided by RPM itself (`rpmlib(…)`).
    pub const RPMLIB: u32 = 1 << 24;
}
