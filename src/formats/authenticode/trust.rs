//! Whether firmware would start an image: `db` and `dbx`.

use super::image::{digest, signatures};
use super::{AuthenticodeError, Signature};
use crate::formats::at::ReadAt;
use crate::formats::cms::{CmsError, Hash};
use crate::formats::x509::Certificate;

/// What `db` allows and `dbx` forbids.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// `db`: certificates whose signatures, and whose issued certificates' signatures, count.
    pub certificates: Vec<Certificate>,
    /// `db`: images by their Authenticode digest.
    pub images: Vec<[u8; 32]>,
    /// `dbx`: certificates.
    pub forbidden_certificates: Vec<Certificate>,
    /// `dbx`: images by their Authenticode digest.
    pub forbidden_images: Vec<[u8; 32]>,
    /// `dbx`: certificates by the SHA-256 of their to-be-signed part.
    pub forbidden_hashes: Vec<[u8; 32]>,
}

/// Why firmware would refuse an image.
#[derive(Debug, thiserror::Error)]
pub enum TrustFault {
    #[error(transparent)]
    Image(#[from] AuthenticodeError),
    #[error("it is not signed, and db does not hold its digest")]
    Unsigned,
    #[error("dbx forbids this image by its digest")]
    ForbiddenImage,
    #[error("dbx forbids the certificate `{0}`, which a signature of the image relies on")]
    ForbiddenCertificate(String),
    #[error("its signature was made for other bytes: the image was changed after it was signed")]
    Changed,
    #[error("none of its signatures counts: {0}")]
    NoneCounts(CmsError),
}

/// Whether firmware with `trust` starts the image in the first `size` bytes of `source`. Returns
/// the certificate that signed it; `None` where `db` holds its digest.
///
/// As firmware does, times of certificates are not looked at; what `dbx` forbids in any
/// signature forbids the image.
///
/// # Errors
/// Why not.
pub fn verify(
    source: &(impl ReadAt + ?Sized),
    size: u64,
    trust: &Trust,
) -> Result<Option<Certificate>, TrustFault> {
    let found = digest(source, size)?;
    if trust.forbidden_images.contains(&found) {
        return Err(TrustFault::ForbiddenImage);
    }
    let signatures = signatures(source, size)?;
    for signature in &signatures {
        check_forbidden(signature, trust)?;
    }
    if trust.images.contains(&found) {
        return Ok(None);
    }
    let mut fault = TrustFault::Unsigned;
    for signature in &signatures {
        if signature.hash != Hash::Sha256 || signature.digest != found {
            fault = TrustFault::Changed;
            continue;
        }
        match signature.message.verify(None, &trust.certificates) {
            Ok(mut signers) => return Ok(signers.pop()),
            Err(error) => fault = TrustFault::NoneCounts(error),
        }
    }
    Err(fault)
}

fn check_forbidden(signature: &Signature, trust: &Trust) -> Result<(), TrustFault> {
    let message = &signature.message;
    for signer in &message.signers {
        let Ok(leaf) = message.check_signer(signer, None, &trust.certificates) else {
            continue;
        };
        // Up to db where it leads there, else up to dbx.
        let chains = [&trust.certificates, &trust.forbidden_certificates]
            .map(|known| message.chain(&leaf, known).unwrap_or_else(|_| vec![leaf.clone()]));
        for certificate in chains.iter().flatten() {
            let hash: [u8; 32] = sha256(certificate.to_be_signed());
            if trust.forbidden_certificates.contains(certificate) || trust.forbidden_hashes.contains(&hash) {
                let subject = certificate.subject().to_owned();
                return Err(TrustFault::ForbiddenCertificate(subject));
            }
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}
