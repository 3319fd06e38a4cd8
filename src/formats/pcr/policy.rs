//! Policies over PCR 11, signed: the file that systemd-measure(1) writes and the `.pcrsig` section holds.
//!
//! A policy is the digest that TPM2_PolicyPCR gives for one PCR of one bank with one value (TPM 2.0 Library, part 3,
//! 23.7), always as SHA-256. What is signed is that digest; the signature's hash is the *bank's* algorithm, as
//! systemd-measure has it. Keys are named by the SHA-256 of the public key, an RSA key in the form of PKCS#1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Bank, Value};

const POLICY_PCR: u32 = 0x0000_017f;
/// The register that the stub measures into.
pub const STUB_PCR: u8 = 11;

/// A policy that is yet to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Of the PCR, and whose algorithm hashes the digest when it is signed.
    pub bank: Bank,
    /// Words joined by colons; for people.
    pub phase: String,
    /// What PCR 11 holds then.
    pub value: Value,
    /// What is signed.
    pub digest: [u8; 32],
}

/// A policy with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub policy: Policy,
    /// RSA: PKCS#1 v1.5, big-endian.
    pub signature: Vec<u8>,
}

impl Policy {
    pub fn new(value: Value, phase: &str) -> Self {
        Self {
            bank: value.bank(),
            phase: phase.to_owned(),
            value,
            digest: policy_pcr(&[(STUB_PCR, value)]),
        }
    }

    /// A policy for every phase and bank, in systemd-measure's order. `values` are of before any phase, a bank each.
    pub fn all(values: &[Value], phases: &[String]) -> Vec<Self> {
        let mut phases: Vec<&String> = phases.iter().collect();
        phases.sort();
        phases.dedup();
        let mut values = values.to_vec();
        values.sort_by_key(Value::bank);
        let policies = phases.iter().flat_map(|phase| {
            let at = |&value: &Value| Self::new(super::uki::at_phase(value, phase), phase);
            values.iter().map(at)
        });
        policies.collect()
    }
}

/// The policy digest (SHA-256) of a session that has run TPM2_PolicyPCR once, over `pcrs` of one bank: numbers below
/// 24, rising.
pub fn policy_pcr(pcrs: &[(u8, Value)]) -> [u8; 32] {
    let mut selected = [0; 3];
    let mut values = Vec::new();
    for (number, value) in pcrs {
        if let Some(byte) = selected.get_mut(usize::from(number / 8)) {
            *byte |= 1 << (number % 8);
        }
        values.extend_from_slice(value.as_bytes());
    }
    let mut message = vec![0; 32];
    message.extend_from_slice(&POLICY_PCR.to_be_bytes());
    // TPML_PCR_SELECTION with one entry: bank, bytes of the bit map, the bit map.
    message.extend_from_slice(&1u32.to_be_bytes());
    let bank = pcrs.first().map_or(Bank::Sha256, |(_, value)| value.bank());
    message.extend_from_slice(&bank.algorithm().to_be_bytes());
    message.push(3);
    message.extend_from_slice(&selected);
    message.extend_from_slice(Bank::Sha256.digest(&values).as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(Bank::Sha256.digest(&message).as_bytes());
    digest
}

/// The file, byte for byte as `systemd-measure sign` writes it. `public_key` is DER: `RSAPublicKey` of PKCS#1.
pub fn to_json(signed: &[Signed], public_key: &[u8]) -> String {
    let fingerprint = Bank::Sha256.digest(public_key);
    let mut banks: Vec<(Bank, Vec<String>)> = Vec::new();
    for Signed { policy, signature } in signed {
        let hex: String = policy.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = format!(
            r#"{{"pcrs":[{STUB_PCR}],"pkfp":"{fingerprint}","pol":"{hex}","sig":"{}"}}"#,
            BASE64.encode(signature)
        );
        match banks.iter_mut().find(|(bank, _)| *bank == policy.bank) {
            Some((_, entries)) if entries.contains(&entry) => {}
            Some((_, entries)) => entries.push(entry),
            None => banks.push((policy.bank, vec![entry])),
        }
    }
    let banks: Vec<String> = banks
        .iter()
        .map(|(bank, entries)| format!(r#""{bank}":[{}]"#, entries.join(",")))
        .collect();
    format!("{{{}}}\n", banks.join(","))
}
