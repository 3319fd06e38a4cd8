//! Booting an image in QEMU.
