//! Add-ons of the kernel image, on the ESP and beside the image: whom they let in, and who believes them.

use std::fs::{self, File};

use super::{Notes, Place, Subject};
use crate::definition::uki::opens_a_way_in;
use crate::formats::at::ReadAt;
use crate::formats::authenticode::{self, Trust};
use crate::formats::pe::Image;

const ENDING: &str = ".addon.efi";
const MAX_TEXT: u32 = 64 << 10;

/// Check `addons`.
pub fn addons(subject: &Subject, notes: &mut Notes) {
    let mut seen = 0;
    if let (Some(medium), Some((entry, Ok(volume)))) = (subject.medium(), &subject.esp) {
        let part = medium.partition(entry);
        for file in volume.files.iter().filter(|file| file.path.ends_with(ENDING)) {
            seen += 1;
            let place = Place::file(&medium.name)
                .partition(entry.number)
                .path(file.path.clone());
            match way_in(&file.content(part), file.size) {
                Ok(Some(argument)) => notes.fail(
                    place,
                    format!("it lies in the image, and `{argument}` opens a way into the machine"),
                ),
                Ok(None) => {}
                Err(problem) => notes.fail(place, problem),
            }
        }
    }
    let Some(directory) = &subject.directory else {
        return notes.held(format!("{seen} on the ESP"));
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return notes.not_checked(format!("the directory cannot be read: {error}")),
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ENDING)).collect();
    names.sort();
    for name in &names {
        let opened = File::open(directory.join(name)).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                notes.fail(Place::file(name), format!("it cannot be read: {error}"));
                continue;
            }
        };
        match way_in(&file, size) {
            Err(problem) => notes.fail(Place::file(name), problem),
            Ok(None) => {}
            Ok(Some(_)) if subject.certificates.is_empty() => notes.not_checked(format!(
                "whether machines believe the debug add-on {name}: give the certificates of db with `--cert FILE`"
            )),
            Ok(Some(argument)) => {
                let trust = Trust {
                    certificates: subject.certificates.clone(),
                    ..Trust::default()
                };
                if authenticode::verify(&file, size, &trust).is_ok() {
                    notes.fail(
                        Place::file(name),
                        format!("a certificate of db signed it, and `{argument}` opens a way into any machine"),
                    );
                }
            }
        }
    }
    notes.held(format!("{seen} on the ESP, {} beside the image", names.len()));
}

/// The first argument that lets someone in; in words why the file is no add-on.
fn way_in(content: &(impl ReadAt + ?Sized), size: u64) -> Result<Option<String>, String> {
    let image = Image::read(content, size).map_err(|error| error.to_string())?;
    let text = image
        .content(content, ".cmdline", MAX_TEXT)
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8(text.unwrap_or_default())
        .map_err(|_| "its section `.cmdline` is not UTF-8 text".to_owned())?;
    let mut words = text.trim_end_matches('\0').split_ascii_whitespace();
    Ok(words
        .find(|word| opens_a_way_in(word))
        .map(|word| word.escape_debug().to_string()))
}
