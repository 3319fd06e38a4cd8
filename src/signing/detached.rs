//! Signatures that are made elsewhere: what is wanted, and what has come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{PublicKey, Scheme, Signer, SigningError};
use crate::store::{Digest, hex};

/// A message that is to be signed elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it stands for: a file, `usr-root-hash`, a policy, `commit`, `SHA256SUMS`.
    pub of: String,
    pub scheme: Scheme,
    pub key: PublicKey,
    /// The bytes to be signed; the scheme hashes them.
    pub message: Vec<u8>,
}

impl Wanted {
    /// What an answer is kept under: key, scheme and message.
    pub fn id(&self) -> Digest {
        id(&self.key, self.scheme, &self.message)
    }

    /// Whether `signature` is this message's, by this key.
    pub fn is_answered_by(&self, signature: &[u8]) -> bool {
        self.key.verify(self.scheme, &self.message, signature).is_ok()
    }
}

fn id(key: &PublicKey, scheme: Scheme, message: &[u8]) -> Digest {
    let parts = [&key.fingerprint()[..], scheme.as_str().as_bytes(), b"\0", message];
    Digest::of(&parts.concat())
}

/// The signatures that have come back, and those that were asked for and have not.
#[derive(Debug, Default)]
pub struct Answers {
    given: BTreeMap<Digest, Vec<u8>>,
    wanted: Mutex<Vec<Wanted>>,
}

impl Answers {
    /// Those that have come back, by [`Wanted::id`].
    pub fn new(given: BTreeMap<Digest, Vec<u8>>) -> Self {
        Self {
            given,
            wanted: Mutex::default(),
        }
    }

    pub fn given(&self) -> &BTreeMap<Digest, Vec<u8>> {
        &self.given
    }

    /// What was asked for and is not there, in the order of the asking; nothing twice.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, wanted: Wanted) -> SigningError {
        let mut list = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let error = SigningError::Awaited {
            of: wanted.of.clone(),
        };
        if !list.contains(&wanted) {
            list.push(wanted);
        }
        error
    }
}

/// A key whose private half is elsewhere.
pub struct Elsewhere {
    key: PublicKey,
    answers: Arc<Answers>,
}

impl Elsewhere {
    pub fn new(key: PublicKey, answers: &Arc<Answers>) -> Self {
        Self {
            key,
            answers: Arc::clone(answers),
        }
    }
}

impl Signer for Elsewhere {
    fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.sign_for(&hex(&Digest::of(message).0), self.scheme(), message)
    }

    /// Gives the signature that has come back.
    ///
    /// # Errors
    /// [`SigningError::Awaited`] where it has not; it has been asked for then.
    fn sign_for(&self, of: &str, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let wanted = Wanted {
            of: of.to_owned(),
            scheme,
            key: self.key.clone(),
            message: message.to_owned(),
        };
        match self.answers.given.get(&wanted.id()) {
            Some(signature) => Ok(signature.clone()),
            None => Err(self.answers.ask(wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::{Algorithm, generate};

    #[test]
    fn what_has_come_back_is_given_and_the_rest_asked_for_once() {
        let key = generate(Algorithm::P256).unwrap();
        let (public, signer) = (key.key.public_key().clone(), key.key);
        let signature = signer.sign(b"loader").unwrap();
        let wanted = Wanted {
            of: "loader".to_owned(),
            scheme: public.scheme(),
            key: public.clone(),
            message: b"loader".to_vec(),
        };
        assert!(wanted.is_answered_by(&signature));
        assert!(!wanted.is_answered_by(&signer.sign(b"other").unwrap()));
        let given = BTreeMap::from([(wanted.id(), signature.clone())]);
        let answers = Arc::new(Answers::new(given));
        let elsewhere = Elsewhere::new(public.clone(), &answers);
        let scheme = elsewhere.scheme();
        assert_eq!(
            elsewhere.sign_for("a file", scheme, b"loader").unwrap(),
            signature
        );
        assert_eq!(answers.wanted(), []);
        for _ in 0..2 {
            let error = elsewhere.sign_for("a file", scheme, b"uki").unwrap_err();
            assert!(
                matches!(&error, SigningError::Awaited { of } if of == "a file"),
                "{error}"
            );
        }
        let asked: Vec<_> = answers.wanted().into_iter().map(|one| one.message).collect();
        assert_eq!(asked, [b"uki"]);
    }
}
