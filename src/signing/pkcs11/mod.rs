//! Keys on tokens, through PKCS #11: smart cards, HSMs, SoftHSM.

mod token;
mod uri;

pub use token::TokenKey;
pub use uri::{Pin, TokenUri, UriError};

#[cfg(test)]
mod tests;
