//! The rpmdb: RPM's database of installed packages, in its sqlite format (RPM 4.16 and later).
//!
//! A table `Packages` holds one header a package; a table an index, with rows of key, header and the number of the
//! value in the header, says where to find what. RPM writes it in WAL mode; a database in an image is read-only, where
//! WAL cannot be opened, so this one is in rollback-journal mode.

mod index;
mod installed;
mod read;
mod rich;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use rayon::prelude::*;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, MAIN_DB, params};

use self::index::{INDEXES, Index};
use super::{Package, RpmSet, States};
use crate::formats::rpm::header_writer::TooLarge;
use crate::formats::rpm::{Header, HeaderError, Limits};

pub use read::headers;

/// Name of the database in its directory.
pub const FILE_NAME: &str = "rpmdb.sqlite";

/// What RPM notes about an installation.
pub struct Options<'a> {
    /// Seconds since the epoch: time and number of the transaction.
    pub time: u32,
    /// ELF classes that the system takes: bit 0 for 32-bit, bit 1 for 64-bit. RPM's macro `_transaction_color`: 3 on x86-64
    /// and aarch64.
    pub color: u32,
    /// What became of each file of the set.
    pub states: &'a States,
}

/// The rpmdb cannot be written or read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("{package} cannot be entered into the rpmdb: {problem}")]
    #[diagnostic(help("have the package rebuilt, or set `database = \"none\"` under `[rpms]`"))]
    Package {
        package: String,
        #[source]
        problem: Problem,
    },
    #[error("the rpmdb cannot be written: {0}")]
    Write(#[source] rusqlite::Error),
    #[error("`{}` is no sqlite rpmdb: {source}", path.display())]
    #[diagnostic(help("name the file rpmdb.sqlite itself, in rollback-journal mode or with its WAL merged"))]
    Read { path: PathBuf, source: rusqlite::Error },
    #[error("`{}` cannot be read: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("header {number} of rpmdb `{}` is broken: {source}", path.display())]
    #[diagnostic(help("rebuild the database with `rpmdb --rebuilddb`"))]
    Header {
        path: PathBuf,
        number: i64,
        source: HeaderError,
    },
}

/// Why a package cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("it is of format 3, whose headers RPM no longer keeps as they are")]
    Legacy,
    #[error("its main header has tag {0}, whose place is the signature header or the rpmdb")]
    Foreign(u32),
    #[error("the states given do not match its files")]
    States,
    #[error("tag {0} of its signature header has the wrong type or count")]
    Signature(u32),
    #[error("its header is broken: {0}")]
    Header(#[from] HeaderError),
    #[error("{0}")]
    TooLarge(#[from] TooLarge),
}

type Rows = Vec<(Vec<u8>, u32)>;

/// The bytes of the database in which all packages of `set` are installed. They depend on the arguments only.
///
/// # Errors
/// Where a package's headers are not such that RPM would install them.
pub fn write(set: &RpmSet, options: &Options<'_>) -> Result<Vec<u8>, Error> {
    let enter = |number: usize, package: &Package| -> Result<(Vec<u8>, Vec<Rows>), Problem> {
        let states = options.states.get(number).ok_or(Problem::States)?;
        if states.len() != package.files.len() {
            return Err(Problem::States);
        }
        let states = states.iter().map(|&state| state as u8).collect();
        let record = installed::record(package, states, options)?;
        let header = Header::from_database(&record, &Limits::DATABASE)?;
        let rows: Result<_, _> = INDEXES.iter().map(|index| index.rows(&header)).collect();
        Ok((record, rows?))
    };
    let records: Result<Vec<_>, Error> = set
        .packages()
        .par_iter()
        .enumerate()
        .map(|(number, package)| {
            enter(number, package).map_err(|problem| Error::Package {
                package: package.nevra.to_string(),
                problem,
            })
        })
        .collect();
    store(&records?).map_err(Error::Write)
}

fn store(records: &[(Vec<u8>, Vec<Rows>)]) -> rusqlite::Result<Vec<u8>> {
    let mut connection = Connection::open_in_memory()?;
    // Keys hold by construction; sqlite would look every one up.
    connection.execute_batch("PRAGMA page_size = 4096; PRAGMA foreign_keys = OFF;")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)",
    )?;
    let mut insert = transaction.prepare("INSERT INTO 'Packages' VALUES(?, ?)")?;
    for (number, (record, _)) in (1i64..).zip(records) {
        insert.execute(params![number, record])?;
    }
    drop(insert);
    for (position, index) in INDEXES.iter().enumerate() {
        let rows = (1i64..).zip(records.iter().map(|(_, rows)| &rows[position]));
        fill(&transaction, index, rows)?;
    }
    transaction.commit()?;
    Ok(connection.serialize(MAIN_DB)?.to_vec())
}

/// Makes the table of `index`. Its sqlite indexes come last: built at once, they have no holes.
fn fill<'a>(
    connection: &Connection,
    index: &Index,
    rows: impl Iterator<Item = (i64, &'a Rows)>,
) -> rusqlite::Result<()> {
    let Index {
        name, text, array, ..
    } = index;
    let kind = if *text { "TEXT" } else { "BLOB" };
    connection.execute_batch(&format!(
        "CREATE TABLE '{name}' (key '{kind}' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL, \
         FOREIGN KEY (hnum) REFERENCES 'Packages'(hnum))"
    ))?;
    let mut insert = connection.prepare(&format!("INSERT INTO '{name}' VALUES(?, ?, ?)"))?;
    for (header, rows) in rows {
        for (key, number) in rows {
            // File names need not be UTF-8, and sqlite does not ask.
            let key = if *text {
                ValueRef::Text(key)
            } else {
                ValueRef::Blob(key)
            };
            insert.execute(params![ToSqlOutput::Borrowed(key), header, number])?;
        }
    }
    for (column, wanted) in [("key", *text), ("hnum", *array)] {
        if wanted {
            connection.execute_batch(&format!(
                "CREATE INDEX '{name}_{column}_idx' ON '{name}'({column} ASC)"
            ))?;
        }
    }
    Ok(())
}
