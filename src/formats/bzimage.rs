//! The x86 boot protocol's header of a Linux kernel image.
//!
//! Specification: the kernel's `Documentation/arch/x86/boot.rst`; integers are little-endian.

use std::io;

use super::at::ReadAt;

const MAGIC_AT: u64 = 0x202;
const VERSION_POINTER_AT: u64 = 0x20e;
/// The pointer counts from here: the end of the boot sector.
const POINTER_BASE: u64 = 0x200;
const LONGEST: usize = 256;

/// The kernel's release (`uname -r`), as its header tells; `None` where the image has no such
/// header (other architectures) or it names none.
///
/// # Errors
/// Whatever reading gives.
pub fn kernel_release(kernel: &impl ReadAt, size: u64) -> io::Result<Option<String>> {
    if size < VERSION_POINTER_AT + 2 {
        return Ok(None);
    }
    let (mut magic, mut pointer) = ([0; 4], [0; 2]);
    kernel.read_exact_at(&mut magic, MAGIC_AT)?;
    kernel.read_exact_at(&mut pointer, VERSION_POINTER_AT)?;
    let at = POINTER_BASE + u64::from(u16::from_le_bytes(pointer));
    if magic != *b"HdrS" || at == POINTER_BASE || at >= size {
        return Ok(None);
    }
    let count = usize::try_from(size - at).unwrap_or(LONGEST).min(LONGEST);
    let mut text = vec![0; count];
    kernel.read_exact_at(&mut text, at)?;
    let release = text
        .split(|&byte| byte == 0 || byte == b' ')
        .next()
        .unwrap_or_default();
    let sound = !release.is_empty() && release.len() < count && release.iter().all(u8::is_ascii_graphic);
    Ok(sound.then(|| String::from_utf8_lossy(release).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(pointer: u16, text: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&pointer.to_le_bytes());
        image[0x300..0x300 + text.len()].copy_from_slice(text);
        image
    }

    fn release(image: &Vec<u8>) -> Option<String> {
        kernel_release(image, image.len() as u64).unwrap()
    }

    #[test]
    fn the_release_is_the_first_word() {
        let image = kernel(0x100, b"6.12.9-cloud (b@c) #1 SMP\0");
        assert_eq!(release(&image).as_deref(), Some("6.12.9-cloud"));
    }

    #[test]
    fn other_images_have_none() {
        assert_eq!(release(&vec![0; 0x1000]), None);
        assert_eq!(release(&vec![0; 16]), None);
        assert_eq!(release(&kernel(0, b"")), None);
        assert_eq!(release(&kernel(0xffff, b"")), None);
        assert_eq!(release(&kernel(0x100, b"\0")), None);
        assert_eq!(release(&kernel(0x100, &[b'a'; 300])), None);
        assert_eq!(release(&kernel(0x100, b"6.\x1b[1m \0")), None);
    }
}
