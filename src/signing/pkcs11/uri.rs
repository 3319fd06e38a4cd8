//! `pkcs11:` URIs, which name a key on a token.
//!
//! Specification: RFC 7512.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// A key on a token, by what it is called. What is not given matches anything.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenUri {
    text: String,
    pub token: Option<String>,
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    /// `CKA_LABEL`.
    pub object: Option<String>,
    /// `CKA_ID`.
    pub id: Option<Vec<u8>>,
    /// The library to be loaded.
    pub module: Option<PathBuf>,
    pub pin: Option<Pin>,
}

/// Where the PIN is.
#[derive(Clone, PartialEq, Eq)]
pub enum Pin {
    Value(Zeroizing<String>),
    File(PathBuf),
}

/// A URI is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("it does not begin with `pkcs11:`")]
    Scheme,
    #[error("its part `{0}` has no `=`")]
    NoValue(String),
    #[error("it says `{0}` twice")]
    Twice(String),
    #[error("its attribute `{0}` is not known")]
    Unknown(String),
    #[error("its attribute `{0}` holds a `%` without two hexadecimal digits, or no UTF-8 text")]
    Encoding(String),
    #[error("its `type` is `{0}`: only private keys sign")]
    Type(String),
    #[error("its `pin-source` is no file: write `pin-source=/path` or `pin-source=file:/path`")]
    PinSource,
    #[error("it names neither the key (`object`, `id`) nor a token")]
    Anything,
}

impl TokenUri {
    /// Reads a URI.
    ///
    /// # Errors
    /// Where it is malformed, or says something that is not understood, which would name another key.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix("pkcs11:").ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self {
            text: text.to_owned(),
            token: None,
            serial: None,
            manufacturer: None,
            model: None,
            object: None,
            id: None,
            module: None,
            pin: None,
        };
        let mut seen = Vec::new();
        let attributes = path
            .split(';')
            .chain(query.split('&'))
            .filter(|part| !part.is_empty());
        for part in attributes {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| UriError::NoValue(part.to_owned()))?;
            if seen.contains(&name) {
                return Err(UriError::Twice(name.to_owned()));
            }
            seen.push(name);
            let wrong = || UriError::Encoding(name.to_owned());
            let bytes = decode(value).ok_or_else(wrong)?;
            let text = || String::from_utf8(bytes.clone()).map_err(|_| wrong());
            match name {
                "token" => uri.token = Some(text()?),
                "serial" => uri.serial = Some(text()?),
                "manufacturer" => uri.manufacturer = Some(text()?),
                "model" => uri.model = Some(text()?),
                "object" => uri.object = Some(text()?),
                "id" => uri.id = Some(bytes),
                "type" if bytes == b"private" => {}
                "type" => return Err(UriError::Type(text()?)),
                "module-path" => uri.module = Some(text()?.into()),
                "pin-value" => uri.pin = Some(Pin::Value(text()?.into())),
                "pin-source" => uri.pin = Some(pin_file(&text()?)?),
                _ => return Err(UriError::Unknown(name.to_owned())),
            }
        }
        if uri.object.is_none() && uri.id.is_none() && uri.token.is_none() {
            return Err(UriError::Anything);
        }
        Ok(uri)
    }
}

impl fmt::Display for TokenUri {
    /// As written, without the PIN.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.find("pin-value=") {
            None => f.write_str(&self.text),
            Some(at) => {
                let (before, pin) = self.text.split_at(at);
                let after = pin.find('&').map_or("", |end| &pin[end..]);
                write!(f, "{before}pin-value=…{after}")
            }
        }
    }
}

impl fmt::Debug for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn pin_file(text: &str) -> Result<Pin, UriError> {
    let path = text.strip_prefix("file:").unwrap_or(text);
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') {
        return Err(UriError::PinSource);
    }
    Ok(Pin::File(path.into()))
}

/// Takes `%XX` apart.
fn decode(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high << 4 | low) as u8);
    }
    Some(out)
}
