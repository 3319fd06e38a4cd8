//! Variables of UEFI firmware, and the signed updates of authenticated ones: `EFI_VARIABLE_AUTHENTICATION_2`, the header of
//! `.auth` files (UEFI 2.10, 8.2.2 and 8.2.6).

use uuid::Uuid;

use super::bytes::{array, guid_at, size_at, u16_at};
use super::guid;
use super::time::Time;

/// Attributes of variables.
pub mod attribute {
    /// It survives a restart.
    pub const NON_VOLATILE: u32 = 1;
    /// It can be read before an operating system has taken over.
    pub const BOOT_SERVICES: u32 = 2;
    /// It can be read by the operating system.
    pub const RUNTIME: u32 = 4;
    /// Only signed updates with a later time are taken.
    pub const TIME_BASED_AUTHENTICATION: u32 = 0x20;
    /// The update adds to the value; no attribute of what is stored.
    pub const APPEND: u32 = 0x40;

    /// Of `PK`, `KEK`, `db` and `dbx`.
    pub const SECURE_BOOT: u32 = NON_VOLATILE | BOOT_SERVICES | RUNTIME | TIME_BASED_AUTHENTICATION;
}

/// A variable as firmware stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// Names belong to their vendor.
    pub vendor: Uuid,
    /// See [`attribute`].
    pub attributes: u32,
    /// Of a kind of authentication that is out of use; 0.
    pub monotonic_count: u64,
    /// Of the last update, where the variable is authenticated by time.
    pub time: Time,
    /// Of a kind of authentication that is out of use; 0.
    pub public_key_index: u32,
    pub data: Vec<u8>,
}

impl Variable {
    /// A variable that needs no authentication.
    pub fn new(vendor: Uuid, name: &str, attributes: u32, data: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            vendor,
            attributes,
            monotonic_count: 0,
            time: Time::ZERO,
            public_key_index: 0,
            data,
        }
    }
}

/// Bytes are no signed update of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signed update of a variable: {0}")]
pub struct AuthenticationError(&'static str);

/// A signed new value of a variable, as an `.auth` file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatedUpdate {
    /// Firmware takes it only if this is later than the time of the stored value.
    pub time: Time,
    /// A detached PKCS #7 `SignedData` in DER over [`AuthenticatedUpdate::signed_bytes`]: digest SHA-256, no signed
    /// attributes, the signer's certificate within. With or without a `ContentInfo` around it.
    pub signature: Vec<u8>,
    /// The new value.
    pub data: Vec<u8>,
}

/// `WIN_CERTIFICATE_UEFI_GUID`: length, revision, type, and the GUID of the signature's kind.
const CERTIFICATE_HEADER: usize = 24;
const REVISION: u16 = 0x0200;
const TYPE_EFI_GUID: u16 = 0x0ef1;
const TIME: usize = 16;

impl AuthenticatedUpdate {
    /// What is signed so that firmware takes `data` as the value of the variable: the name without its end, vendor,
    /// attributes ([`attribute::APPEND`] among them where the update is to add to the value), time, and value.
    pub fn signed_bytes(name: &str, vendor: Uuid, attributes: u32, time: Time, data: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.extend(vendor.to_bytes_le());
        bytes.extend(attributes.to_le_bytes());
        bytes.extend(time.0);
        bytes.extend(data);
        bytes
    }

    /// Reads an `.auth` file.
    ///
    /// # Errors
    /// It is cut off, or signed in another way than by PKCS #7.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthenticationError> {
        const CUT: AuthenticationError = AuthenticationError("it is cut off");
        let time = Time(array(bytes, 0).ok_or(CUT)?);
        let length = size_at(bytes, TIME).ok_or(CUT)?;
        let form = (u16_at(bytes, TIME + 4), u16_at(bytes, TIME + 6));
        if form != (Some(REVISION), Some(TYPE_EFI_GUID)) {
            return Err(AuthenticationError(
                "what follows the time is no WIN_CERTIFICATE of UEFI",
            ));
        }
        if guid_at(bytes, TIME + 8).ok_or(CUT)? != guid::CERT_PKCS7 {
            return Err(AuthenticationError("its signature is not PKCS #7"));
        }
        let rest = bytes.get(TIME..).ok_or(CUT)?;
        let (certificate, data) = rest.split_at_checked(length).ok_or(CUT)?;
        let signature = certificate.get(CERTIFICATE_HEADER..).ok_or(AuthenticationError(
            "its signature is shorter than the header of one",
        ))?;
        Ok(Self {
            time,
            signature: signature.to_vec(),
            data: data.to_vec(),
        })
    }

    /// The `.auth` file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = CERTIFICATE_HEADER + self.signature.len();
        let mut bytes = self.time.0.to_vec();
        // A signature of 4 GiB fits into no firmware.
        bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(REVISION.to_le_bytes());
        bytes.extend(TYPE_EFI_GUID.to_le_bytes());
        bytes.extend(guid::CERT_PKCS7.to_bytes_le());
        bytes.extend(&self.signature);
        bytes.extend(&self.data);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_stand_as_the_specification_says() {
        let update = AuthenticatedUpdate {
            time: Time::from_unix(1_262_304_000),
            signature: vec![0x30, 0],
            data: b"new value".to_vec(),
        };
        let bytes = update.to_bytes();
        assert_eq!(bytes[..8], [0xda, 7, 1, 1, 0, 0, 0, 0]);
        assert_eq!(bytes[16..24], [26, 0, 0, 0, 0, 2, 0xf1, 0x0e]);
        assert_eq!(bytes[24..40], guid::CERT_PKCS7.to_bytes_le());
        assert_eq!(bytes[40..42], [0x30, 0]);
        assert_eq!(&bytes[42..], b"new value");
        assert_eq!(AuthenticatedUpdate::parse(&bytes), Ok(update));

        let signed =
            AuthenticatedUpdate::signed_bytes("db", Uuid::nil(), 0x27, Time::from_unix(1_262_304_000), b"v");
        let mut expected = b"d\0b\0".to_vec();
        expected.extend([0; 16]);
        expected.extend([0x27, 0, 0, 0]);
        expected.extend(&bytes[..16]);
        expected.push(b'v');
        assert_eq!(signed, expected);
    }

    #[test]
    fn broken_updates_are_refused() {
        let update = AuthenticatedUpdate {
            time: Time::ZERO,
            signature: vec![1, 2, 3],
            data: vec![],
        };
        let good = update.to_bytes();
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let table = [
            (good[..10].to_vec(), "cut off"),
            (good[..39].to_vec(), "cut off"),
            (good[..42].to_vec(), "cut off"),
            (with(16, 23), "shorter than the header"),
            (with(19, 0xff), "cut off"),
            (with(20, 1), "no WIN_CERTIFICATE"),
            (with(22, 2), "no WIN_CERTIFICATE"),
            (with(24, 0), "not PKCS #7"),
        ];
        for (bytes, part) in table {
            let error = AuthenticatedUpdate::parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
