//! Which of the records on a disk is the one.

use std::path::Path;

use super::{DIRECTORY, RecoveryError};

/// A file on the ESP: its path, and its bytes.
pub type File = (String, Vec<u8>);

/// Among `records` of the disk `path`: that of the volume `wanted`; else that of one of `volumes`, the encrypted ones that
/// the disk has; else the only one.
///
/// # Errors
/// There is none, or it cannot be told which.
pub fn choose<'r>(
    path: &Path,
    records: &'r [File],
    wanted: Option<&str>,
    volumes: &[String],
) -> Result<&'r File, RecoveryError> {
    let is_of = |(path, _): &&File, volume: &str| {
        let name = path
            .strip_prefix(DIRECTORY)
            .unwrap_or(path)
            .trim_start_matches('/');
        let name = name.strip_suffix(".json").unwrap_or(name);
        name.eq_ignore_ascii_case(volume)
    };
    let none = |why: String| RecoveryError::Image {
        path: path.to_owned(),
        why,
    };
    if let Some(wanted) = wanted {
        let mut records = records.iter();
        let found = records.find(|record| is_of(record, wanted));
        return found.ok_or_else(|| none(format!("there is none of the volume `{wanted}` in {DIRECTORY}")));
    }
    let mut fitting = records
        .iter()
        .filter(|record| volumes.iter().any(|volume| is_of(record, volume)));
    match (fitting.next(), fitting.next(), records) {
        (Some(one), None, _) => Ok(one),
        // A machine that was stopped in its first boot has not named it yet.
        (None, _, [one]) => Ok(one),
        (None, _, []) => Err(none(format!("there is none in {DIRECTORY}"))),
        _ => Err(RecoveryError::Several {
            path: path.to_owned(),
            found: records.iter().map(|(path, _)| path.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_the_disks_volume_is_taken() {
        let record = |name: &str| (format!("{DIRECTORY}/{name}.json"), name.as_bytes().to_vec());
        let (a, b, new) = (record("aa-1"), record("bb-2"), record("new"));
        let both = [a.clone(), b.clone()];
        let volumes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let choose = |records: &[File], wanted, names: &[&str]| {
            let chosen = choose(Path::new("disk"), records, wanted, &volumes(names));
            chosen.cloned().map_err(|error| error.to_string())
        };
        assert_eq!(choose(&both, None, &["bb-2"]), Ok(b.clone()));
        assert_eq!(choose(&both, None, &["cc", "AA-1"]), Ok(a.clone()));
        assert_eq!(choose(&both, Some("BB-2"), &["aa-1"]), Ok(b));
        assert_eq!(
            choose(std::slice::from_ref(&new), None, &["aa-1"]),
            Ok(new.clone())
        );
        let cases = [
            (choose(&[], None, &["aa-1"]), "there is none in EFI/"),
            (choose(&both, None, &[]), "several recovery keys"),
            (
                choose(&both, None, &["aa-1", "bb-2"]),
                "aa-1.json, EFI/hullwright/recovery/bb-2.json",
            ),
            (
                choose(&[new], Some("aa-1"), &["aa-1"]),
                "none of the volume `aa-1`",
            ),
        ];
        for (found, words) in cases {
            let error = found.unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
