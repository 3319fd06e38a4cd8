//! EFI programs, signed as the composer signs boot loader and UKI.

use std::fs;
use std::io::Write as _;

use hullwright::formats::authenticode;
use hullwright::signing::Credential;

/// `program` with a signature by `signer`.
pub fn signed_program(program: &[u8], signer: &Credential) -> Vec<u8> {
    let scanned = authenticode::scan(program, program.len() as u64).unwrap();
    let prepared = authenticode::prepare(&scanned.sha256, signer.certificate(), signer.chain());
    let message = prepared.attach(&signer.sign(prepared.to_sign()).unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    (&mut file.as_file()).write_all(program).unwrap();
    authenticode::append(&scanned, &message, file.as_file()).unwrap();
    fs::read(file.path()).unwrap()
}
