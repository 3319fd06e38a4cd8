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
    SIGSIZE = 257;
    SIGPGP = 259;
    SIGMD5 = 261;
    SIGGPG = 262;
    DSAHEADER = 267;
    RSAHEADER = 268;
    SHA1HEADER = 269;
    LONGSIGSIZE = 270;
    LONGARCHIVESIZE = 271;
    SHA256HEADER = 273;
    VERITYSIGNATURES = 276;
    VERITYSIGNATUREALGO = 277;
    OPENPGP = 278;
    SHA3_256HEADER = 279;
    NAME = 1000;
    VERSION = 1001;
    RELEASE = 1002;
    EPOCH = 1003;
    SUMMARY = 1004;
    DESCRIPTION = 1005;
    BUILDTIME = 1006;
    BUILDHOST = 1007;
    INSTALLTIME = 1008;
    SIZE = 1009;
    DISTRIBUTION = 1010;
    VENDOR = 1011;
    LICENSE = 1014;
    PACKAGER = 1015;
    GROUP = 1016;
    URL = 1020;
    OS = 1021;
    ARCH = 1022;
    PREIN = 1023;
    POSTIN = 1024;
    PREUN = 1025;
    POSTUN = 1026;
    OLDFILENAMES = 1027;
    FILESIZES = 1028;
    FILESTATES = 1029;
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
    TRIGGERNAME = 1066;
    TRIGGERVERSION = 1067;
    TRIGGERFLAGS = 1068;
    TRIGGERINDEX = 1069;
    VERIFYSCRIPT = 1079;
    CHANGELOGTIME = 1080;
    CHANGELOGNAME = 1081;
    CHANGELOGTEXT = 1082;
    PREINPROG = 1085;
    POSTINPROG = 1086;
    PREUNPROG = 1087;
    POSTUNPROG = 1088;
    OBSOLETENAME = 1090;
    VERIFYSCRIPTPROG = 1091;
    TRIGGERSCRIPTPROG = 1092;
    FILEDEVICES = 1095;
    FILEINODES = 1096;
    FILELANGS = 1097;
    PREFIXES = 1098;
    INSTPREFIXES = 1099;
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
    PAYLOADFLAGS = 1126;
    INSTALLCOLOR = 1127;
    INSTALLTID = 1128;
    FILECOLORS = 1140;
    FILEDEPENDSX = 1143;
    FILEDEPENDSN = 1144;
    DEPENDSDICT = 1145;
    PRETRANS = 1151;
    POSTTRANS = 1152;
    PRETRANSPROG = 1153;
    POSTTRANSPROG = 1154;
    LONGFILESIZES = 5008;
    LONGSIZE = 5009;
    FILECAPS = 5010;
    FILEDIGESTALGO = 5011;
    BUGURL = 5012;
    PREINFLAGS = 5020;
    POSTINFLAGS = 5021;
    PREUNFLAGS = 5022;
    POSTUNFLAGS = 5023;
    PRETRANSFLAGS = 5024;
    POSTTRANSFLAGS = 5025;
    VERIFYSCRIPTFLAGS = 5026;
    TRIGGERSCRIPTFLAGS = 5027;
    ORDERNAME = 5035;
    ORDERVERSION = 5036;
    ORDERFLAGS = 5037;
    RECOMMENDNAME = 5046;
    RECOMMENDVERSION = 5047;
    RECOMMENDFLAGS = 5048;
    SUGGESTNAME = 5049;
    SUGGESTVERSION = 5050;
    SUGGESTFLAGS = 5051;
    SUPPLEMENTNAME = 5052;
    SUPPLEMENTVERSION = 5053;
    SUPPLEMENTFLAGS = 5054;
    ENHANCENAME = 5055;
    ENHANCEVERSION = 5056;
    ENHANCEFLAGS = 5057;
    FILETRIGGERSCRIPTS = 5066;
    FILETRIGGERSCRIPTPROG = 5067;
    FILETRIGGERSCRIPTFLAGS = 5068;
    FILETRIGGERNAME = 5069;
    FILETRIGGERINDEX = 5070;
    FILETRIGGERVERSION = 5071;
    FILETRIGGERFLAGS = 5072;
    TRANSFILETRIGGERSCRIPTS = 5076;
    TRANSFILETRIGGERSCRIPTPROG = 5077;
    TRANSFILETRIGGERSCRIPTFLAGS = 5078;
    TRANSFILETRIGGERNAME = 5079;
    TRANSFILETRIGGERINDEX = 5080;
    TRANSFILETRIGGERVERSION = 5081;
    TRANSFILETRIGGERFLAGS = 5082;
    FILETRIGGERPRIORITIES = 5084;
    TRANSFILETRIGGERPRIORITIES = 5085;
    FILESIGNATURES = 5090;
    FILESIGNATURELENGTH = 5091;
    PAYLOADDIGEST = 5092;
    PAYLOADDIGESTALGO = 5093;
    MODULARITYLABEL = 5096;
    PAYLOADDIGESTALT = 5097;
    PREUNTRANS = 5103;
    POSTUNTRANS = 5104;
    PREUNTRANSPROG = 5105;
    POSTUNTRANSPROG = 5106;
    PREUNTRANSFLAGS = 5107;
    POSTUNTRANSFLAGS = 5108;

    RPMFORMAT = 5114;
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
    pub const FILESIGNATURES: u32 = 274;
    pub const FILESIGNATURELENGTH: u32 = 275;
    pub const VERITYSIGNATURES: u32 = 276;
    pub const VERITYSIGNATUREALGO: u32 = 277;
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
    /// Length of the unpacked payload in bytes.
    pub const PAYLOADSIZE: u32 = 1007;
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

/// Bits of [`FILEVERIFYFLAGS`]: what `rpm -V` compares.
pub mod verifyflag {
    pub const DIGEST: u32 = 1 << 0;
    pub const SIZE: u32 = 1 << 1;
    pub const LINKTO: u32 = 1 << 2;
    pub const USER: u32 = 1 << 3;
    pub const GROUP: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const MODE: u32 = 1 << 6;
    pub const RDEV: u32 = 1 << 7;
    pub const CAPS: u32 = 1 << 8;
}

/// Bits of dependency flags ([`REQUIREFLAGS`] and its like).
pub mod sense {
    pub const LESS: u32 = 1 << 1;
    pub const GREATER: u32 = 1 << 2;
    pub const EQUAL: u32 = 1 << 3;
    /// The three that compare versions.
    pub const COMPARISON: u32 = LESS | GREATER | EQUAL;
    pub const POSTTRANS: u32 = 1 << 5;
    /// Of packages older than RPM 4.4: a prerequisite of scriptlets.
    pub const PREREQ: u32 = 1 << 6;
    pub const PRETRANS: u32 = 1 << 7;
    /// The interpreter of a scriptlet.
    pub const INTERP: u32 = 1 << 8;
    pub const SCRIPT_PRE: u32 = 1 << 9;
    pub const SCRIPT_POST: u32 = 1 << 10;
    pub const SCRIPT_PREUN: u32 = 1 << 11;
    pub const SCRIPT_POSTUN: u32 = 1 << 12;
    pub const SCRIPT_VERIFY: u32 = 1 << 13;
    pub const TRIGGERIN: u32 = 1 << 16;
    pub const TRIGGERUN: u32 = 1 << 17;
    pub const TRIGGERPOSTUN: u32 = 1 << 18;
    /// Wanted, not needed.
    pub const MISSINGOK: u32 = 1 << 19;
    pub const PREUNTRANS: u32 = 1 << 20;
    pub const POSTUNTRANS: u32 = 1 << 21;
    /// Provided by RPM itself (`rpmlib(…)`).
    pub const RPMLIB: u32 = 1 << 24;
    pub const TRIGGERPREIN: u32 = 1 << 25;
    pub const KEYRING: u32 = 1 << 26;
    /// `config(…)`.
    pub const CONFIG: u32 = 1 << 28;
    /// Of no weight in the order of installation.
    pub const META: u32 = 1 << 29;
}
