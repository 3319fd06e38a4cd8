//! Files of trust: the p11-kit object format, PEM, and bare certificates.
//!
//! The object format: sections `[p11-kit-object-v1]`, each with `name: value` lines (strings in quotes with `%XX`,
//! booleans, numbers, names of constants, object identifiers) and at most one PEM block, a certificate or a public key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::x509::{self, Certificate, oid};
use super::{Class, Object, Place, RESERVED_PURPOSE, Remark, TrustError, der};

const HEADER: &str = "p11-kit-object-v1";
/// "All of these purposes are rejected", as p11-kit keeps what OpenSSL's trusted certificates say.
pub(super) const REJECT: &[u8] = &[0x2b, 6, 1, 4, 1, 0x99, 0x77, 6, 10, 1];

/// The objects of the file `text`, called `file` in messages.
///
/// # Errors
/// A damaged file in the object format: p11-kit would leave out all of its objects.
pub fn parse(
    file: &str,
    text: &[u8],
    place: Place,
    remarks: &mut Vec<Remark>,
) -> Result<Vec<Object>, TrustError> {
    let mut told = |line, what| {
        remarks.push(Remark {
            file: file.to_owned(),
            line,
            what,
        });
    };
    let mut objects = if find(text, format!("[{HEADER}]").as_bytes()).is_some() {
        sections(text).map_err(|(line, what)| TrustError {
            file: file.to_owned(),
            line,
            what,
        })?
    } else if find(text, b"-----BEGIN ").is_some() {
        let mut objects = Vec::new();
        let (mut at, mut line) = (0, 1);
        while let Some(block) = next_block(&text[at..]) {
            let passed = |len: usize| lines(&text[at..at + len]);
            let (begins, ends) = (line + passed(block.start), line + passed(block.end));
            (at, line) = (at + block.end, ends);
            let found = match (block.kind, block.der) {
                (b"CERTIFICATE", Some(der)) => certificate(&der).map(|object| vec![object]),
                (b"TRUSTED CERTIFICATE", Some(der)) => trusted_certificate(&der),
                (b"CERTIFICATE" | b"TRUSTED CERTIFICATE", None) => None,
                _ => continue,
            };
            match found {
                Some(found) => objects.extend(found),
                None => told(begins, "not a certificate: left out"),
            }
        }
        objects
    } else {
        certificate(text).into_iter().collect()
    };
    for object in objects
        .iter_mut()
        .filter(|object| object.class == Some(Class::Certificate))
    {
        match place {
            Place::Anchors if object.distrusted == Some(true) => {
                told(
                    object.line,
                    "a distrusted certificate in a place for anchors: still distrusted",
                );
            }
            Place::Anchors => (object.trusted, object.distrusted) = (Some(true), Some(false)),
            Place::Blocklist => (object.trusted, object.distrusted) = (Some(false), Some(true)),
            Place::Neutral => {}
        }
    }
    Ok(objects)
}

fn certificate(der: &[u8]) -> Option<Object> {
    Certificate::parse(der)?;
    Some(Object {
        class: Some(Class::Certificate),
        x509: true,
        value: Some(der.to_vec()),
        ..Object::default()
    })
}

/// OpenSSL's `TRUSTED CERTIFICATE`: a certificate and behind it what it is trusted for.
fn trusted_certificate(bytes: &[u8]) -> Option<Vec<Object>> {
    let (first, rest) = der::next(bytes)?;
    let parsed = Certificate::parse(first.whole)?;
    let mut object = certificate(first.whole)?;
    let fields = match rest {
        [] => return Some(vec![object]),
        _ => der::elements(der::only(rest, der::SEQUENCE)?)?,
    };
    let list = |tag| {
        let field = fields.iter().find(|field| field.tag == tag);
        field.map(|field| x509::purposes(&der::encode(der::SEQUENCE, field.content)))
    };
    let rejected = match list(0xa0) {
        Some(list) => list?,
        None => Vec::new(),
    };
    // No list means: trusted for nothing, unlike an absent extended key usage.
    let mut trusted = match list(der::SEQUENCE) {
        Some(list) => list?,
        None => Vec::new(),
    };
    trusted.retain(|purpose| !rejected.contains(purpose));
    let extension = |id: &[u8], value: &[u8]| Object {
        class: Some(Class::Extension),
        value: Some(der::encode(
            der::SEQUENCE,
            &[der::encode(der::OID, id), der::encode(der::OCTET_STRING, value)].concat(),
        )),
        public_key: Some(parsed.public_key.to_vec()),
        ..Object::default()
    };
    let usage = |purposes: &[Vec<u8>]| {
        let purposes = purposes.iter().map(|purpose| der::encode(der::OID, purpose));
        der::encode(der::SEQUENCE, &purposes.collect::<Vec<_>>().concat())
    };
    let reserved = [RESERVED_PURPOSE.to_vec()];
    let listed = if trusted.is_empty() {
        &reserved[..]
    } else {
        &trusted
    };
    let mut objects = vec![extension(oid::EXTENDED_KEY_USAGE, &usage(listed))];
    if !rejected.is_empty() {
        objects.push(extension(REJECT, &usage(&rejected)));
    }
    if let Some(key_id) = fields.iter().find(|field| field.tag == der::OCTET_STRING) {
        objects.push(extension(oid::SUBJECT_KEY_ID, key_id.whole));
    }
    let alias = fields.iter().find(|field| field.tag == der::UTF8_STRING);
    object.label = alias.map(|alias| alias.content.to_vec());
    object.trusted = Some(!trusted.is_empty());
    object.distrusted = Some(trusted.is_empty());
    objects.push(object);
    Some(objects)
}

/// A PEM block: where it begins and ends in the text that was searched.
struct Block<'a> {
    start: usize,
    end: usize,
    kind: &'a [u8],
    /// `None` where it is not base64.
    der: Option<Vec<u8>>,
}

/// The first whole block of `text`.
fn next_block(text: &[u8]) -> Option<Block<'_>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const END: &[u8] = b"-----END ";
    let start = find(text, BEGIN)?;
    let kind_at = start + BEGIN.len();
    let kind = &text[kind_at..kind_at + find(&text[kind_at..], b"-----")?];
    if kind.contains(&b'\n') {
        return None;
    }
    let body = kind_at + kind.len() + 5;
    let close = body + find(&text[body..], END)?;
    let end = close + END.len();
    let rest = text[end..].strip_prefix(kind)?.strip_prefix(b"-----")?;
    let digits: Vec<u8> = text[body..close]
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    Some(Block {
        start,
        end: text.len() - rest.len(),
        kind,
        der: STANDARD.decode(digits).ok(),
    })
}

type Fault = (usize, String);

fn sections(text: &[u8]) -> Result<Vec<Object>, Fault> {
    let mut objects: Vec<Object> = Vec::new();
    // Sections of another name are passed over.
    let mut skip = false;
    let mut at = 0;
    let mut line = 0;
    while at < text.len() {
        line += 1;
        let fault = |what: &str| (line, what.to_owned());
        let rest = &text[at..];
        if rest.starts_with(b"-----BEGIN ") {
            let block = next_block(rest).ok_or_else(|| fault("a PEM block without its end"))?;
            if !skip {
                let object = objects
                    .last_mut()
                    .ok_or_else(|| fault("a PEM block outside of any section"))?;
                let der = block.der.ok_or_else(|| fault("a PEM block that is not base64"))?;
                match block.kind {
                    b"CERTIFICATE" => {
                        object.class.get_or_insert(Class::Certificate);
                        object.x509 = true;
                        if Certificate::parse(&der).is_none() {
                            return Err(fault("the block is not a certificate"));
                        }
                        object.value.get_or_insert(der);
                    }
                    b"PUBLIC KEY" => {
                        object.public_key.get_or_insert(der);
                    }
                    _ => return Err(fault("neither a certificate nor a public key")),
                }
            }
            let end = rest[block.end..].iter().position(|&byte| byte == b'\n');
            let len = end.map_or(rest.len(), |end| block.end + end + 1);
            line += rest[..len]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count()
                .saturating_sub(1);
            at += len;
            continue;
        }
        let len = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        at += len + 1;
        let words = rest[..len].trim_ascii();
        if words.is_empty() || words.starts_with(b"#") {
            continue;
        }
        if let Some(name) = words.strip_prefix(b"[") {
            let name = name
                .strip_suffix(b"]")
                .ok_or_else(|| fault("a section's name is not closed by `]`"))?;
            skip = name != HEADER.as_bytes();
            if !skip {
                objects.push(Object {
                    line,
                    ..Object::default()
                });
            }
            continue;
        }
        let colon = words
            .iter()
            .position(|&byte| byte == b':')
            .ok_or_else(|| fault("neither a section nor `name: value`"))?;
        if skip {
            continue;
        }
        let object = objects
            .last_mut()
            .ok_or_else(|| fault("an attribute outside of any section"))?;
        let (name, value) = (words[..colon].trim_ascii(), words[colon + 1..].trim_ascii());
        attribute(object, name, value).map_err(fault)?;
    }
    if let Some(object) = objects.iter().find(|object| object.class.is_none()) {
        return Err((
            object.line,
            "the section says no class and holds no certificate".to_owned(),
        ));
    }
    Ok(objects)
}

/// Takes what matters for certificates; other attributes pass unread.
fn attribute(object: &mut Object, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let string = || string(value).ok_or("the value is not a quoted string");
    let boolean = || match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err("the value is neither true nor false"),
    };
    match name {
        b"class" | b"CKA_CLASS" => {
            object.class = Some(match value {
                b"certificate" | b"CKO_CERTIFICATE" | b"1" => Class::Certificate,
                b"x-certificate-extension" | b"CKO_X_CERTIFICATE_EXTENSION" => Class::Extension,
                _ => Class::Other,
            });
        }
        b"certificate-type" | b"CKA_CERTIFICATE_TYPE" => {
            object.x509 = matches!(value, b"x-509" | b"CKC_X_509" | b"0");
        }
        b"certificate-category" | b"CKA_CERTIFICATE_CATEGORY" => {
            object.authority = Some(matches!(
                value,
                b"authority" | b"CK_CERTIFICATE_CATEGORY_AUTHORITY" | b"2"
            ));
        }
        b"trusted" | b"CKA_TRUSTED" => object.trusted = Some(boolean()?),
        b"x-distrusted" | b"CKA_X_DISTRUSTED" => object.distrusted = Some(boolean()?),
        b"label" | b"CKA_LABEL" => object.label = Some(string()?),
        b"value" | b"CKA_VALUE" => object.value = Some(string()?),
        b"issuer" | b"CKA_ISSUER" => object.issuer = Some(string()?),
        b"subject" | b"CKA_SUBJECT" => object.subject = Some(string()?),
        b"serial-number" | b"CKA_SERIAL_NUMBER" => object.serial = Some(string()?),
        b"public-key-info" | b"CKA_PUBLIC_KEY_INFO" => object.public_key = Some(string()?),
        _ => {}
    }
    Ok(())
}

/// `"text"`, with `%XX` for any byte.
fn string(value: &[u8]) -> Option<Vec<u8>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            b'%' => (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8,
            _ => byte,
        });
    }
    Some(out)
}

/// Ends of lines in `text`.
fn lines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    // Every needle begins with a byte that is rare in such files.
    while let Some(at) = text[from..].iter().position(|byte| Some(byte) == wanted.first()) {
        if text[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}
