//! With SoftHSM, which keeps its tokens in files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::formats::testing::{run, tool};
use crate::signing::{Algorithm, KeySource, Opened, Scheme, SigningError, open_signer};

const LIBRARY: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Where the outer test has made tokens for the inner one.
const TOKENS: &str = "HULLWRIGHT_TEST_TOKENS";

#[test]
fn keys_on_a_token_sign_what_openssl_verifies() {
    if let Some(tokens) = std::env::var_os(TOKENS) {
        return sign_with(&PathBuf::from(tokens));
    }
    if !["softhsm2-util", "pkcs11-tool", "openssl"]
        .iter()
        .all(|name| tool(name))
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let configuration = make_tokens(dir.path());
    // SoftHSM finds its tokens through the environment, which only a process without threads may change.
    let inner = Command::new(std::env::current_exe().unwrap())
        .args([
            "signing::pkcs11::tests::keys_on_a_token_sign_what_openssl_verifies",
            "--exact",
        ])
        .env("SOFTHSM2_CONF", configuration)
        .env(TOKENS, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&inner.stdout).into_owned();
    assert!(inner.status.success() && text.contains("1 passed"), "{text}");
}

fn make_tokens(dir: &Path) -> PathBuf {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    fs::create_dir(at("tokens")).unwrap();
    let configuration = at("softhsm2.conf");
    fs::write(
        &configuration,
        format!("directories.tokendir = {}\n", at("tokens")),
    )
    .unwrap();
    let variable = format!("SOFTHSM2_CONF={configuration}");
    let with = |words: &[&str]| run("env", [&[variable.as_str()][..], words].concat());
    for label in ["images", "other"] {
        let init = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--so-pin",
            "87654321",
            "--pin",
            "1234",
            "--label",
        ];
        with(&[&init[..], &[label]].concat());
    }
    for (token, kind, label, id) in [
        ("images", "rsa:2048", "db", "01"),
        ("images", "EC:prime256v1", "p256", "02"),
        ("images", "EC:secp384r1", "p384", "03"),
        ("images", "EC:prime256v1", "twice", "04"),
        ("images", "EC:prime256v1", "twice", "05"),
        ("other", "EC:prime256v1", "p256", "02"),
    ] {
        let login = [
            "pkcs11-tool",
            "--module",
            LIBRARY,
            "--login",
            "--pin",
            "1234",
            "--token-label",
            token,
        ];
        let make = [
            "--keypairgen",
            "--key-type",
            kind,
            "--label",
            label,
            "--id",
            id,
            "--usage-sign",
        ];
        with(&[&login[..], &make].concat());
    }
    for (name, text) in [("pin", "1234\n"), ("wrong", "9999\n")] {
        fs::write(at(name), text).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    configuration.into()
}

fn sign_with(dir: &Path) {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let open = |key: &str, pin: &str| {
        let uri = format!("pkcs11:{key}?module-path={LIBRARY}&pin-source=file:{}", at(pin));
        open_signer(&KeySource::token(&uri)?)
    };
    let message = b"what is to be signed";
    fs::write(at("message"), message).unwrap();
    for (key, algorithm, hash) in [
        (
            "token=images;object=db;type=private",
            Algorithm::Rsa(2048),
            "sha256",
        ),
        ("token=images;object=p256", Algorithm::P256, "sha256"),
        ("token=images;id=%03", Algorithm::P384, "sha384"),
        ("token=other;object=p256;id=%02", Algorithm::P256, "sha256"),
    ] {
        let Opened { signer, warnings } = open(key, "pin").unwrap_or_else(|error| panic!("{key}: {error}"));
        let public = signer.public_key();
        assert_eq!((public.algorithm(), warnings), (algorithm, vec![]), "{key}");
        let signature = signer.sign(message).unwrap();
        public.verify(signer.scheme(), message, &signature).unwrap();
        fs::write(at("public"), public.to_pem()).unwrap();
        fs::write(at("signature"), signature).unwrap();
        let (public, signature, message) = (at("public"), at("signature"), at("message"));
        let hash = format!("-{hash}");
        run(
            "openssl",
            [
                "dgst",
                &hash,
                "-verify",
                &public,
                "-signature",
                &signature,
                &message,
            ],
        );
    }
    // PCR policies are signed by an RSA key with the hash of each bank.
    let signer = open("token=images;object=db;type=private", "pin").unwrap().signer;
    for scheme in [
        Scheme::RsaPkcs1Sha256,
        Scheme::RsaPkcs1Sha384,
        Scheme::RsaPkcs1Sha512,
    ] {
        let signature = signer.sign_by(scheme, message).unwrap();
        signer.public_key().verify(scheme, message, &signature).unwrap();
    }
    let refused = signer.sign_by(Scheme::Ed25519, message).unwrap_err().to_string();
    assert!(refused.contains("not by ed25519"), "{refused}");
    // Who is logged in stays so for all of a program's sessions: what follows is not to be.
    drop(signer);
    for (key, pin, says) in [
        (
            "token=images;object=absent",
            "pin",
            "no private key that signs has these names",
        ),
        ("token=absent;object=db", "pin", "no token has these names"),
        (
            "token=images;object=twice",
            "pin",
            "several private keys have these names",
        ),
        ("object=p256", "pin", "several tokens have such a key"),
        ("token=images;object=db", "wrong", "logging in"),
        ("token=images;object=db", "nowhere", "cannot be read"),
    ] {
        let error = open(key, pin).err().unwrap().to_string();
        assert!(error.contains(says), "{key}: {error}");
    }
    let value = format!("pkcs11:token=images;object=db?pin-value=1234&module-path={LIBRARY}");
    let source = KeySource::token(&value).unwrap();
    assert!(open_signer(&source).is_ok());
    assert!(!source.to_string().contains("1234") && source.to_string().contains(LIBRARY));
    let none = KeySource::token("pkcs11:token=images;object=db?module-path=/nowhere.so").unwrap();
    let error = open_signer(&none).err().unwrap();
    assert!(
        matches!(&error, SigningError::Token { why, .. } if why.starts_with("loading /nowhere.so")),
        "{error}"
    );
}

#[test]
fn uris_are_read_as_rfc_7512_has_them() {
    let uri = TokenUri::parse(
        "pkcs11:token=My%20Token;manufacturer=A;model=B;serial=00%41;object=db;id=%01%ff;type=private\
         ?module-path=/usr/lib/x.so&pin-source=file:///run/pin",
    )
    .unwrap();
    assert_eq!(uri.token.as_deref(), Some("My Token"));
    assert_eq!(uri.serial.as_deref(), Some("00A"));
    assert_eq!(uri.id.as_deref(), Some(&[1, 0xff][..]));
    assert_eq!(uri.module.as_deref(), Some(Path::new("/usr/lib/x.so")));
    assert!(uri.pin == Some(Pin::File("/run/pin".into())));
    for (text, error) in [
        ("file:x", UriError::Scheme),
        ("pkcs11:", UriError::Anything),
        ("pkcs11:object", UriError::NoValue("object".into())),
        ("pkcs11:object=a;object=b", UriError::Twice("object".into())),
        ("pkcs11:object=a;slot-id=1", UriError::Unknown("slot-id".into())),
        ("pkcs11:object=%4", UriError::Encoding("object".into())),
        ("pkcs11:object=%ff", UriError::Encoding("object".into())),
        ("pkcs11:object=a;type=cert", UriError::Type("cert".into())),
        ("pkcs11:object=a?pin-source=|cat", UriError::PinSource),
    ] {
        assert_eq!(TokenUri::parse(text), Err(error), "{text}");
    }
}
