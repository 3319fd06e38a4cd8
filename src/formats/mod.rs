//! On-disk formats, one file (or folder) each. A format takes readers, writers and plain
//! values; it knows nothing of images and opens no path of its own.

pub mod asn1;
pub mod at;
pub mod authenticode;
pub mod bzimage;
pub mod catalog;
pub mod cms;
pub mod cpio;
pub mod elf;
pub mod erofs;
pub mod event_log;
pub mod ext4;
pub mod fat;
mod fat_mend;
mod fat_volume;
pub mod file_contexts;
mod glib_table;
pub mod gvariant;
pub mod hwdb;
pub mod icon_cache;
pub mod jks;
pub mod kconfig;
pub mod kmod;
pub mod kmodindex;
pub mod ldcache;
pub mod luks2;
pub mod mime;
pub mod p11kit;
pub mod pcr;
pub mod pe;
pub mod pe_append;
pub mod pem;
pub mod qcow2;
pub mod rpm;
mod strbuf;
#[cfg(test)]
pub mod testing;
pub mod uki;
pub mod uki_addon;
pub mod verity;
pub mod vhd;
pub mod x509;
