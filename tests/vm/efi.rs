//! The smallest guests: UEFI programs that print a line and then halt, switch off or restart, written byte by byte.

use std::io::{Cursor, Write};

/// What the program does after its line.
#[derive(Clone, Copy)]
pub enum Then {
    Halt,
    PowerOff,
    Restart,
}

/// A FAT volume whose removable-media boot path holds the program.
pub fn disk(line: &str, then: Then) -> Vec<u8> {
    disk_of(&[("EFI/BOOT/BOOTX64.EFI", &program(line, then))])
}

/// A FAT volume with these files.
pub fn disk_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; 8 << 20]);
    fatfs::format_volume(&mut disk, fatfs::FormatVolumeOptions::new()).unwrap();
    {
        let volume = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new()).unwrap();
        for (path, bytes) in files {
            let mut directory = volume.root_dir();
            let (parents, name) = path.rsplit_once('/').unwrap();
            for parent in parents.split('/') {
                directory = directory.create_dir(parent).unwrap();
            }
            directory.create_file(name).unwrap().write_all(bytes).unwrap();
        }
    }
    disk.into_inner()
}

/// The same disk as a fixed VHD.
pub fn vhd(line: &str, then: Then) -> Vec<u8> {
    let mut bytes = disk(line, then);
    let size = bytes.len() as u64;
    let mut footer = [0_u8; 512];
    footer[..8].copy_from_slice(b"conectix");
    footer[8..12].copy_from_slice(&2_u32.to_be_bytes());
    footer[12..16].copy_from_slice(&0x0001_0000_u32.to_be_bytes());
    footer[16..24].fill(0xff);
    footer[28..32].copy_from_slice(b"win ");
    footer[40..48].copy_from_slice(&size.to_be_bytes());
    footer[48..56].copy_from_slice(&size.to_be_bytes());
    footer[56..60].copy_from_slice(&[0, 240, 4, 17]);
    footer[60..64].copy_from_slice(&2_u32.to_be_bytes());
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    bytes.extend_from_slice(&footer);
    bytes
}

/// x86-64 code at the program's entry: rdx is the EFI system table.
fn code(line: &str, then: Then) -> Vec<u8> {
    let mut code = vec![
        0x53, // push rbx
        0x48, 0x83, 0xec, 0x20, // sub rsp, 32
        0x48, 0x89, 0xd3, // mov rbx, rdx
        0x48, 0x8b, 0x4a, 0x40, // mov rcx, [rdx + 0x40]: ConOut
    ];
    code.extend([0x48, 0x8d, 0x15]); // lea rdx, [rip + text]
    let text_offset = code.len();
    code.extend([0; 4]);
    code.extend([0xff, 0x51, 0x08]); // call [rcx + 8]: OutputString
    let reset: Option<u32> = match then {
        Then::Halt => None,
        Then::Restart => Some(0),
        Then::PowerOff => Some(2),
    };
    if let Some(kind) = reset {
        code.extend([0x48, 0x8b, 0x43, 0x58]); // mov rax, [rbx + 0x58]: RuntimeServices
        code.push(0xb9); // mov ecx, kind
        code.extend(kind.to_le_bytes());
        code.extend([0x31, 0xd2, 0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9]); // edx, r8d, r9d = 0
        code.extend([0xff, 0x50, 0x68]); // call [rax + 0x68]: ResetSystem
    }
    code.extend([0xf4, 0xeb, 0xfd]); // hlt, for ever
    let distance = (code.len() - text_offset - 4) as u32;
    code[text_offset..text_offset + 4].copy_from_slice(&distance.to_le_bytes());
    for unit in line.encode_utf16().chain([0]) {
        code.extend(unit.to_le_bytes());
    }
    code
}

/// A PE32+ file with one section.
pub fn program(line: &str, then: Then) -> Vec<u8> {
    let code = code(line, then);
    assert!(code.len() <= 0x1000);
    let mut file = b"MZ".to_vec();
    file.resize(0x3c, 0);
    file.extend(0x40_u32.to_le_bytes());
    file.extend(b"PE\0\0");
    file.extend(0x8664_u16.to_le_bytes());
    file.extend(1_u16.to_le_bytes()); // sections
    file.extend([0; 12]);
    file.extend(240_u16.to_le_bytes()); // optional header
    file.extend(0x0022_u16.to_le_bytes()); // executable, large addresses
    file.extend(0x020b_u16.to_le_bytes()); // PE32+
    file.extend([0; 2]);
    file.extend(0x1000_u32.to_le_bytes()); // size of code
    file.extend([0; 8]);
    file.extend(0x1000_u32.to_le_bytes()); // entry
    file.extend(0x1000_u32.to_le_bytes()); // base of code
    file.extend(0_u64.to_le_bytes()); // image base
    file.extend(0x1000_u32.to_le_bytes()); // section alignment
    file.extend(0x200_u32.to_le_bytes()); // file alignment
    file.extend([0; 16]);
    file.extend(0x2000_u32.to_le_bytes()); // size of image
    file.extend(0x200_u32.to_le_bytes()); // size of headers
    file.extend([0; 4]);
    file.extend(10_u16.to_le_bytes()); // EFI application
    file.extend([0; 2 + 32 + 4]);
    file.extend(16_u32.to_le_bytes());
    file.extend([0; 16 * 8]);
    file.extend(b".text\0\0\0");
    file.extend(0x1000_u32.to_le_bytes()); // size in memory
    file.extend(0x1000_u32.to_le_bytes()); // address
    file.extend(0x1000_u32.to_le_bytes()); // size in the file
    file.extend(0x200_u32.to_le_bytes()); // offset in the file
    file.extend([0; 12]);
    file.extend(0x6000_0020_u32.to_le_bytes()); // code, executable, readable
    file.resize(0x200, 0);
    file.extend(code);
    file.resize(0x1200, 0);
    file
}
