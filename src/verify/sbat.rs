//! SBAT: the generations by which programs that firmware starts are revoked.

use std::collections::BTreeMap;

use super::kernel::{MAX_PROGRAM, PROGRAMS};
use super::{Notes, Place, Subject, esp, walk};
use crate::disk::Arch;
use crate::formats::at::ReadAt;
use crate::formats::erofs;
use crate::formats::pe::Image;
use crate::formats::uki::sbat_entry;

const MAX_TEXT: u32 = 64 << 10;

/// Generations by component.
type Generations = BTreeMap<String, u32>;

/// Check `sbat`.
pub fn sbat(subject: &Subject, notes: &mut Notes) {
    let (Some(medium), Some((entry, Ok(volume)))) = (subject.medium(), &subject.esp) else {
        return notes.not_checked("there is no EFI system partition that can be read (see check `esp`)");
    };
    let part = medium.partition(entry);
    let mut found = BTreeMap::new();
    for file in volume.files.iter().filter(|file| esp::is_program(&file.path)) {
        match read(&file.content(part), file.size) {
            Ok(generations) => {
                found.insert(file.path.as_str(), generations);
            }
            Err(problem) => {
                let place = Place::file(&medium.name).partition(entry.number);
                notes.fail(place.path(file.path.clone()), problem);
            }
        }
    }
    let suffix = match subject.arch.unwrap_or(Arch::X86_64) {
        Arch::X86_64 => "x64",
        Arch::Aarch64 => "aa64",
    };
    let path = format!("{PROGRAMS}/linux{suffix}.efi.stub");
    for (kernel, root_hash) in subject.root_hashes() {
        let ([Some(usr), _], Some(own)) = (subject.sealed(root_hash), found.get(kernel.path.as_str())) else {
            continue;
        };
        let Ok(usr) = erofs::Image::open(medium.partition(usr)) else {
            continue;
        };
        let place = || {
            Place::file(&medium.name)
                .partition(entry.number)
                .path(kernel.path.clone())
        };
        let stub = walk::read(&usr, &path, MAX_PROGRAM).map_err(|error| error.to_string());
        let stub = stub.and_then(|stub| read(stub.as_slice(), stub.len() as u64));
        let stub = match stub {
            Ok(stub) => stub,
            Err(problem) => {
                notes.fail(place(), format!("its stub in /usr has no SBAT data: {problem}"));
                continue;
            }
        };
        for (component, generation) in stub {
            match own.get(&component) {
                Some(own) if *own >= generation => {}
                Some(own) => notes.fail(
                    place(),
                    format!("its `{component}` is of generation {own}, that of its stub of {generation}"),
                ),
                None => notes.fail(
                    place(),
                    format!("its SBAT data have no `{component}`, which its stub has"),
                ),
            }
        }
        let listed = own
            .iter()
            .map(|(component, generation)| format!("{component} {generation}"));
        notes.held(listed.collect::<Vec<_>>().join(", "));
    }
    notes.held(format!("{} programs with generations", found.len()));
}

/// The generations in a program; in words why it has none.
fn read(content: &(impl ReadAt + ?Sized), size: u64) -> Result<Generations, String> {
    let image = Image::read(content, size).map_err(|error| error.to_string())?;
    let bytes = image
        .content(content, ".sbat", MAX_TEXT)
        .map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("it has no section `.sbat`: no generation of it can be revoked")?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "its section `.sbat` is not UTF-8 text")?;
    let mut lines = text
        .trim_end_matches('\0')
        .lines()
        .filter(|line| !line.is_empty());
    if !lines.next().is_some_and(|line| line.starts_with("sbat,")) {
        return Err("its section `.sbat` does not begin with a line `sbat,…`".to_owned());
    }
    let mut generations = Generations::new();
    for line in lines {
        let (component, generation) = sbat_entry(line)
            .ok_or_else(|| format!("its section `.sbat` has the line `{}`", line.escape_debug()))?;
        // Whichever is revoked revokes the program: the lowest counts.
        let known = generations.entry(component.to_owned()).or_insert(generation);
        *known = generation.min(*known);
    }
    Ok(generations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::pe::tests::sample_stub;

    #[test]
    fn generations_are_read_and_the_lowest_counts() {
        let program = sample_stub("sbat,1,SBAT Version\nstub,3,x\nstub,2,x\nimage,1\n");
        let found = read(program.as_slice(), program.len() as u64).unwrap();
        assert_eq!(found, [("image".to_owned(), 1), ("stub".to_owned(), 2)].into());
        for (text, words) in [
            ("stub,1\n", "does not begin"),
            ("sbat,1\nstub\n", "has the line `stub`"),
            ("sbat,1\nstub,0\n", "has the line `stub,0`"),
            ("sbat,1\n,1\n", "has the line `,1`"),
        ] {
            let program = sample_stub(text);
            let problem = read(program.as_slice(), program.len() as u64).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
