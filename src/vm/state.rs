//! Where a machine's changing parts lie: the disk overlay, the firmware's variables, the TPM.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use super::image::DiskImage;
use super::{VmError, overlay};

/// Sockets live here, and a socket's path may have no more than 107 bytes.
const MAX_RUN_DIR: usize = 80;

/// The changing parts of one machine.
#[derive(Debug)]
pub(super) struct State {
    /// Sockets and throw-away keys; gone when this is dropped.
    pub(super) run: TempDir,
    /// The qcow2 overlay over the image.
    pub(super) overlay: PathBuf,
    /// The variable store, writable.
    pub(super) vars: PathBuf,
    /// The TPM's state directory (made when a TPM is wanted).
    pub(super) tpm: PathBuf,
    /// Where all of this stays after the end, if it does.
    pub(super) kept: Option<PathBuf>,
}

impl State {
    /// Removes the state kept beside the image, if there is any.
    pub(super) fn forget(image: &DiskImage) -> Result<(), VmError> {
        let kept = kept_dir(&image.path);
        match fs::remove_dir_all(&kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(VmError::io("remove", kept)(error)),
            _ => Ok(()),
        }
    }

    /// Makes throw-away state, or takes up (else begins) the state kept beside the image, see [`kept_dir`].
    /// `disk_size` is the disk's size for the guest; `template` the variable store to begin from.
    pub(super) fn prepare(
        image: &DiskImage,
        disk_size: u64,
        template: &Path,
        keep: bool,
    ) -> Result<Self, VmError> {
        let run = run_dir()?;
        let dir = if keep {
            let kept = kept_dir(&image.path);
            if kept.exists() {
                check_same_image(image, &kept)?;
            } else {
                begin(image, disk_size, template, &kept)?;
            }
            let overlay = kept.join(OVERLAY);
            overlay::grow(&overlay, disk_size).map_err(VmError::io("grow", overlay))?;
            kept
        } else {
            fill(run.path(), image, disk_size, path_text(&image.path)?, template)?;
            run.path().to_path_buf()
        };
        Ok(Self {
            overlay: dir.join(OVERLAY),
            vars: dir.join(VARS),
            tpm: dir.join("tpm"),
            kept: keep.then_some(dir),
            run,
        })
    }
}

const OVERLAY: &str = "disk.qcow2";
const VARS: &str = "variables";
const BASE: &str = "base";

/// The state kept for `image`: the directory `<image>.kept` beside it.
pub(super) fn kept_dir(image: &Path) -> PathBuf {
    let mut name = OsString::from(image);
    name.push(".kept");
    name.into()
}

/// Makes the kept directory under another name first, so that a half-made one is never taken up.
fn begin(image: &DiskImage, disk_size: u64, template: &Path, kept: &Path) -> Result<(), VmError> {
    let parent = kept.parent().unwrap_or(Path::new("/"));
    let making = tempfile::Builder::new()
        .prefix(".hullwright-kept-")
        .tempdir_in(parent)
        .map_err(VmError::io("create a directory in", parent))?;
    let name = image.path.file_name().map(Path::new).unwrap_or(&image.path);
    let backing = format!("../{}", path_text(name)?);
    fill(making.path(), image, disk_size, &backing, template)?;
    let base = making.path().join(BASE);
    fs::write(&base, identity(image)).map_err(VmError::io("write", &base))?;
    fs::rename(making.path(), kept).map_err(VmError::io("create", kept))?;
    // Renamed away: there is nothing left to delete.
    let _ = making.keep();
    Ok(())
}

fn fill(dir: &Path, image: &DiskImage, size: u64, backing: &str, template: &Path) -> Result<(), VmError> {
    let disk = dir.join(OVERLAY);
    overlay::create(&disk, size, backing, image.format.driver()).map_err(VmError::io("create", &disk))?;
    let vars = dir.join(VARS);
    fs::copy(template, &vars).map_err(VmError::io("copy", template))?;
    // A template belongs to root and may be read-only: the copy must not be.
    let mut mode = fs::metadata(&vars)
        .map_err(VmError::io("examine", &vars))?
        .permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    fs::set_permissions(&vars, mode).map_err(VmError::io("set the mode of", &vars))
}

/// An overlay over another base than its own is garbage, so the base is recognised by size and time.
fn identity(image: &DiskImage) -> String {
    let time = image.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!(
        "{} bytes, modified {}.{:09}\n",
        image.size,
        time.as_secs(),
        time.subsec_nanos()
    )
}

fn check_same_image(image: &DiskImage, kept: &Path) -> Result<(), VmError> {
    let base = kept.join(BASE);
    let known = match fs::read_to_string(&base) {
        Ok(known) => known,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(VmError::io("read", base)(error)),
    };
    if known == identity(image) {
        return Ok(());
    }
    Err(VmError::KeptFromAnother {
        image: image.path.clone(),
        kept: kept.into(),
    })
}

/// `$TMPDIR`, else `/var/tmp` (an overlay can grow to gigabytes, and `/tmp` may be memory).
fn run_dir() -> Result<TempDir, VmError> {
    let chosen = env::var_os("TMPDIR").map(PathBuf::from);
    let chosen = chosen.filter(|dir| dir.is_absolute() && dir.as_os_str().as_bytes().len() <= MAX_RUN_DIR);
    let base = chosen.unwrap_or_else(|| PathBuf::from("/var/tmp"));
    tempfile::Builder::new()
        .prefix("hullwright-")
        .tempdir_in(&base)
        .map_err(VmError::io("create a directory in", base))
}

/// QEMU takes paths in JSON, which is UTF-8.
pub(super) fn path_text(path: &Path) -> Result<&str, VmError> {
    path.to_str().ok_or_else(|| VmError::Image {
        path: path.into(),
        what: "has a name that is not UTF-8, which QEMU cannot be told".into(),
        help: "rename the file or the directory".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_state_is_taken_up_and_guarded() {
        let dir = tempfile::tempdir().unwrap();
        let template = dir.path().join("template");
        fs::write(&template, "vars").unwrap();
        let disk = dir.path().join("os.raw");
        fs::write(&disk, [0; 4096]).unwrap();
        let image = DiskImage::inspect(&disk).unwrap();

        let first = State::prepare(&image, 4096, &template, true).unwrap();
        let run = first.run.path().to_path_buf();
        assert_eq!(
            first.overlay,
            image.path.with_file_name("os.raw.kept").join("disk.qcow2")
        );
        fs::write(&first.vars, "changed").unwrap();
        drop(first);
        assert!(!run.exists(), "the run directory goes");

        let second = State::prepare(&image, 8192, &template, true).unwrap();
        assert_eq!(fs::read(&second.vars).unwrap(), b"changed");
        assert_eq!(overlay::size(&second.overlay).unwrap(), 8192);

        fs::write(&disk, [0; 8192]).unwrap();
        let rebuilt = DiskImage::inspect(&disk).unwrap();
        let error = State::prepare(&rebuilt, 8192, &template, true).unwrap_err();
        assert!(matches!(error, VmError::KeptFromAnother { .. }), "{error}");
        for _ in 0..2 {
            State::forget(&rebuilt).unwrap();
        }
        let anew = State::prepare(&rebuilt, 8192, &template, true).unwrap();
        assert_eq!(fs::read(&anew.vars).unwrap(), b"vars");
    }

    #[test]
    fn throw_away_state_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let template = dir.path().join("template");
        fs::write(&template, "vars").unwrap();
        let disk = dir.path().join("os.raw");
        fs::write(&disk, [0; 4096]).unwrap();
        let image = DiskImage::inspect(&disk).unwrap();
        let state = State::prepare(&image, 4096, &template, false).unwrap();
        let run = state.run.path().to_path_buf();
        assert!(
            state.overlay.starts_with(&run) && state.vars.starts_with(&run) && state.tpm.starts_with(&run)
        );
        drop(state);
        assert!(!run.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
