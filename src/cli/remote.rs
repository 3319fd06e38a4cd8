//! What builders share: arguments of commands that build.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use hullwright::remote::{Options, Remote};
use hullwright::signing::KeySource;
use miette::IntoDiagnostic as _;

#[derive(Debug, Args)]
pub struct RemoteArgs {
    /// Share what is costly to make with other builders: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIR;
    /// credentials come from the usual variables (AWS_*, AZURE_STORAGE_*)
    /// [default: the variable HULLWRIGHT_REMOTE_STORE]
    #[arg(long = "remote-store", value_name = "URL")]
    remote_store: Option<String>,

    /// Public key (PEM) of a builder whose entries in the remote store are relied on (may be repeated)
    #[arg(long = "remote-key", value_name = "FILE")]
    remote_keys: Vec<PathBuf>,

    /// Private key (PEM file or pkcs11: URI) to add to the remote store with; without it, it is only read
    #[arg(long = "remote-sign", value_name = "KEY")]
    remote_sign: Option<String>,
}

impl RemoteArgs {
    /// The remote store, where one is named; `ignored`: whether this build uses none all the same.
    pub fn open(&self, ignored: bool) -> miette::Result<Option<Arc<Remote>>> {
        let url = match &self.remote_store {
            Some(url) => Some(url.clone()),
            None => std::env::var("HULLWRIGHT_REMOTE_STORE").ok(),
        };
        let Some(url) = url.filter(|url| !url.is_empty() && !ignored) else {
            return Ok(None);
        };
        let sign = match &self.remote_sign {
            Some(uri) if uri.starts_with("pkcs11:") => Some(KeySource::token(uri)?),
            Some(path) => Some(KeySource::File(PathBuf::from(path))),
            None => None,
        };
        let options = Options {
            url,
            keys: self.remote_keys.clone(),
            sign,
            program: std::env::current_exe().into_diagnostic()?,
        };
        Ok(Some(Arc::new(Remote::new(&options)?)))
    }
}
