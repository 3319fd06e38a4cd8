//! Finding a key on a token and signing with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use der::Decode as _;
use der::asn1::{ObjectIdentifier, OctetStringRef};
use zeroize::Zeroizing;

use super::uri::{Pin, TokenUri};
use crate::formats::asn1::{NULL, OCTET_STRING, element, oid, sequence, unsigned};
use crate::formats::cms::Hash;
use crate::signing::read::read_secret;
use crate::signing::{Algorithm, PublicKey, Scheme, Signer, SigningError};

/// Names the library where the URI does not.
const MODULE: &str = "HULLWRIGHT_PKCS11_MODULE";
/// The PIN where the URI does not say where it is.
const PIN: &str = "HULLWRIGHT_PKCS11_PIN";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// Libraries are loaded once and stay: ending one would end the sessions of all who use it.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// A private key that stays on its token.
pub struct TokenKey {
    session: Mutex<Session>,
    key: ObjectHandle,
    public: PublicKey,
}

impl TokenKey {
    /// Finds the one key that `uri` names and logs in; also gives what people should know.
    ///
    /// # Errors
    /// Where library, token or key cannot be had, or more than one fits.
    pub fn open(uri: &TokenUri) -> Result<(Self, Vec<String>), SigningError> {
        let failed = |why: String| SigningError::Token {
            uri: uri.to_string(),
            why,
        };
        let told = |doing: &'static str| move |error: Error| failed(format!("{doing}: {error}"));
        let module = uri
            .module
            .clone()
            .or_else(|| std::env::var_os(MODULE).map(PathBuf::from))
            .ok_or_else(|| {
                failed(format!(
                    "it names no library: add `?module-path=/…`, or set {MODULE}"
                ))
            })?;
        let pkcs11 =
            load(&module).map_err(|error| failed(format!("loading {}: {error}", module.display())))?;
        let slots = pkcs11.get_slots_with_token().map_err(told("asking for tokens"))?;
        let slots: Vec<Slot> = slots
            .into_iter()
            .filter(|slot| fits(&pkcs11, *slot, uri))
            .collect();
        if slots.is_empty() {
            return Err(failed("no token has these names".to_owned()));
        }
        let (pin, warnings) = pin(uri)?;
        let mut found = Vec::new();
        for slot in slots {
            let session = pkcs11.open_ro_session(slot).map_err(told("opening a session"))?;
            if let Some(pin) = &pin {
                match session.login(UserType::User, Some(&AuthPin::new(pin.as_str().into()))) {
                    Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
                    Err(error) => return Err(failed(format!("logging in: {error}"))),
                }
            }
            let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Sign(true)];
            template.extend(
                uri.object
                    .as_ref()
                    .map(|label| Attribute::Label(label.clone().into_bytes())),
            );
            template.extend(uri.id.clone().map(Attribute::Id));
            let keys = session
                .find_objects(&template)
                .map_err(told("looking for the key"))?;
            let mut keys = keys.into_iter();
            if let Some(key) = keys.next() {
                if keys.next().is_some() {
                    return Err(failed(
                        "several private keys have these names: add `id` or `object`".to_owned(),
                    ));
                }
                found.push((session, key));
            }
        }
        let several = found.len() > 1;
        let Some((session, key)) = found.pop().filter(|_| !several) else {
            return Err(failed(match (several, &pin) {
                (true, _) => "several tokens have such a key: add `token` or `serial`".to_owned(),
                (false, Some(_)) => "no private key that signs has these names".to_owned(),
                (false, None) => format!(
                    "no private key is to be seen without a PIN: add `?pin-source=/path`, or set {PIN}"
                ),
            }));
        };
        let public = public_key(&session, key).map_err(failed)?;
        let key = Self {
            session: Mutex::new(session),
            key,
            public,
        };
        Ok((key, warnings))
    }
}

impl Signer for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.sign_by(self.scheme(), message)
    }

    fn sign_by(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let hash = Hash::of(scheme);
        let of_rsa = [
            Scheme::RsaPkcs1Sha256,
            Scheme::RsaPkcs1Sha384,
            Scheme::RsaPkcs1Sha512,
        ];
        let is_rsa = matches!(self.public.algorithm(), Algorithm::Rsa(_));
        if scheme != self.scheme() && !(is_rsa && of_rsa.contains(&scheme)) {
            let (own, other) = (self.scheme().as_str(), scheme.as_str());
            return Err(SigningError::Refused(format!(
                "it signs by {own}, not by {other}"
            )));
        }
        let digest = hash.digest(message);
        // Tokens need not hash by themselves; all know these two.
        let (mechanism, input) = match self.public.algorithm() {
            Algorithm::Rsa(_) => {
                let algorithm = sequence(&[&oid(hash.oid()), &NULL]);
                let info = sequence(&[&algorithm, &element(OCTET_STRING, &[&digest])]);
                (Mechanism::RsaPkcs, info)
            }
            _ => (Mechanism::Ecdsa, digest),
        };
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = session
            .sign(&mechanism, self.key, &input)
            .map_err(|error| SigningError::Refused(error.to_string()))?;
        drop(session);
        if let Mechanism::RsaPkcs = mechanism {
            return Ok(signature);
        }
        let (r, s) = signature.split_at(signature.len() / 2);
        Ok(sequence(&[&unsigned(r), &unsigned(s)]))
    }
}

fn load(module: &Path) -> Result<Pkcs11, Error> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = modules.get(module) {
        return Ok(loaded.clone());
    }
    let loaded = Pkcs11::new(module)?;
    match loaded.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another name of a library that is loaded already.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(error),
    }
    modules.insert(module.to_owned(), loaded.clone());
    Ok(loaded)
}

fn fits(pkcs11: &Pkcs11, slot: Slot, uri: &TokenUri) -> bool {
    let Ok(token) = pkcs11.get_token_info(slot) else {
        return false;
    };
    let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    token.token_initialized()
        && same(&uri.token, token.label())
        && same(&uri.serial, token.serial_number())
        && same(&uri.manufacturer, token.manufacturer_id())
        && same(&uri.model, token.model())
}

/// The PIN, and what people should know of how it is kept.
fn pin(uri: &TokenUri) -> Result<(Option<Zeroizing<String>>, Vec<String>), SigningError> {
    match &uri.pin {
        Some(Pin::Value(value)) => Ok((Some(value.clone()), Vec::new())),
        Some(Pin::File(path)) => {
            let (text, warning) = read_secret(path, "PIN")?;
            let pin = text.lines().next().unwrap_or_default().to_owned();
            Ok((Some(pin.into()), warning.into_iter().collect()))
        }
        None => Ok((std::env::var(PIN).ok().map(Zeroizing::new), Vec::new())),
    }
}

/// The public half of the private key `key`; in words what is wrong.
fn public_key(session: &Session, key: ObjectHandle) -> Result<PublicKey, String> {
    let words = |error: Error| format!("reading the key: {error}");
    let read = |object, wanted: &[AttributeType]| session.get_attributes(object, wanted).map_err(words);
    let (mut kind, mut id, mut label, mut modulus, mut exponent) = (None, None, None, None, None);
    let wanted = [
        AttributeType::KeyType,
        AttributeType::Id,
        AttributeType::Label,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    for attribute in read(key, &wanted)? {
        match attribute {
            Attribute::KeyType(found) => kind = Some(found),
            Attribute::Id(found) => id = Some(found),
            Attribute::Label(found) => label = Some(found),
            Attribute::Modulus(found) => modulus = Some(found),
            Attribute::PublicExponent(found) => exponent = Some(found),
            _ => {}
        }
    }
    let wrapped =
        |algorithm, bytes: &[u8]| PublicKey::from_key(algorithm, bytes).map_err(|error| error.to_string());
    match kind {
        Some(KeyType::RSA) => {
            let modulus = modulus.ok_or("the token does not tell the key's modulus")?;
            let exponent = exponent.ok_or("the token does not tell the key's exponent")?;
            wrapped(
                Algorithm::Rsa(0),
                &sequence(&[&unsigned(&modulus), &unsigned(&exponent)]),
            )
        }
        Some(KeyType::EC) => {
            // The point belongs to the public key, which is another object with the same names.
            let mut template = vec![
                Attribute::Class(ObjectClass::PUBLIC_KEY),
                Attribute::KeyType(KeyType::EC),
            ];
            template.extend(id.filter(|id| !id.is_empty()).map(Attribute::Id));
            template.extend(label.map(Attribute::Label));
            let halves = session.find_objects(&template).map_err(words)?;
            let [half] = halves[..] else {
                return Err(format!(
                    "the token holds {} public keys with the key's id and label, not one",
                    halves.len()
                ));
            };
            let (mut curve, mut point) = (None, None);
            for attribute in read(half, &[AttributeType::EcParams, AttributeType::EcPoint])? {
                match attribute {
                    Attribute::EcParams(found) => curve = ObjectIdentifier::from_der(&found).ok(),
                    Attribute::EcPoint(found) => point = Some(found),
                    _ => {}
                }
            }
            let algorithm = match curve.map(|curve| curve.to_string()).as_deref() {
                Some(P256) => Algorithm::P256,
                Some(P384) => Algorithm::P384,
                other => {
                    return Err(format!(
                        "the key lies on the curve {}",
                        other.unwrap_or("of no name")
                    ));
                }
            };
            let point = point.ok_or("the token does not tell the key's point")?;
            // Wrapped in an octet string, though some tokens leave that out.
            let bare = OctetStringRef::from_der(&point).map_or(point.as_slice(), |inner| inner.as_bytes());
            wrapped(algorithm, bare)
        }
        _ => Err("it is neither an RSA nor an ECDSA key".to_owned()),
    }
}
