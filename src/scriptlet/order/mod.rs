//! In which order RPM installs the packages of a transaction, as `rpmtsOrder` of RPM 4.20 finds it.

mod relations;
mod sort;

pub use relations::OrderError;

use crate::rpmset::Package;

/// Indexes into `packages`, in the order in which `rpm -i` with the packages in their order here installs them.
///
/// # Errors
/// Where the dependencies of a package cannot be read.
pub fn installation(packages: &[Package]) -> Result<Vec<usize>, OrderError> {
    let graph = relations::graph(packages)?;
    Ok(sort::sort(graph))
}

#[cfg(test)]
mod tests;
