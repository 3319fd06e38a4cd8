//! Reading the headers of an rpmdb.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::Error;
use crate::formats::rpm::{Header, Limits};

/// The headers of the sqlite rpmdb at `path`, in the order of installation. It is not written to, and must not change
/// meanwhile.
///
/// # Errors
/// Where it is no such database, or a header is malformed.
pub fn headers(path: &Path) -> Result<Vec<Header>, Error> {
    let database = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    // `immutable` keeps sqlite from making -wal and -shm files beside a database in WAL mode.
    let mut uri = String::from("file:");
    let absolute = std::path::absolute(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(*byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).map_err(database)?;
    let mut statement = connection
        .prepare("SELECT hnum, blob FROM Packages ORDER BY hnum")
        .map_err(database)?;
    let mut rows = statement.query([]).map_err(database)?;
    let mut headers = Vec::new();
    while let Some(row) = rows.next().map_err(database)? {
        let number: i64 = row.get(0).map_err(database)?;
        let blob = row.get_ref(1).map_err(database)?.as_blob();
        let blob = blob.map_err(|error| database(error.into()))?;
        let header = Header::from_database(blob, &Limits::DATABASE);
        headers.push(header.map_err(|source| Error::Header {
            path: path.to_owned(),
            number,
            source,
        })?);
    }
    Ok(headers)
}
