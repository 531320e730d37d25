//! The two certificates of a relay (RFC 5280, RFC 8410), written by hand: they are always the same but for key and names,
//! and a library that can write any certificate is thirty times as long.

use qpc_curve::{LENGTH, SigningKey};
use ring::digest;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The certificate of a relay's CA.
pub(crate) fn authority(key: &SigningKey) -> Vec<u8> {
    let identifier = tlv(OCTET_STRING, &[&key_identifier(key)]);
    certificate(
        AUTHORITY,
        key,
        &[
            extension(&[0x55, 0x1d, 19], true, &tlv(SEQUENCE, &[&[BOOLEAN, 1, 0xff, INTEGER, 1, 0]])), // a CA, of leaves only
            extension(&[0x55, 0x1d, 15], true, &[BIT_STRING, 2, 2, 0x04]), // keyCertSign
            extension(&[0x55, 0x1d, 14], false, &identifier),
        ],
    )
}

/// The same relay's own certificate for these host names and IP addresses. It has the CA's key: who holds one would hold the other, as
/// neither is ever revoked, and a client that knows the key by its fingerprint has one signature less to verify.
pub(crate) fn relay(key: &SigningKey, names: &BTreeSet<String>) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| alternative_name(name)).collect();
    let issued_with = tlv(SEQUENCE, &[&tlv(CONTEXT, &[&key_identifier(key)])]);
    let server_auth = [0x2b, 6, 1, 5, 5, 7, 3, 1];
    certificate(
        "quicprochat relay",
        key,
        &[
            extension(&[0x55, 0x1d, 15], true, &[BIT_STRING, 2, 7, 0x80]), // digitalSignature
            extension(&[0x55, 0x1d, 17], false, &tlv(SEQUENCE, &[&names])),
            extension(&[0x55, 0x1d, 35], false, &issued_with),
            extension(&[0x55, 0x1d, 37], false, &tlv(SEQUENCE, &[&tlv(OBJECT, &[&server_auth])])),
        ],
    )
}

/// The public key as certificates carry it; its hash is what a relay is known by.
fn public_key_info(key: &SigningKey) -> Vec<u8> {
    [&PUBLIC_KEY_INFO[..], &key.public()].concat()
}

/// The same, out of one of these certificates.
pub(crate) fn public_key_info_in(certificate: &[u8]) -> Option<&[u8]> {
    let [SEQUENCE, 0x82, high, low, content @ ..] = certificate else { return None };
    if content.len() != usize::from(u16::from_be_bytes([*high, *low])) {
        return None;
    }
    let at = content.windows(PUBLIC_KEY_INFO.len()).position(|window| window == PUBLIC_KEY_INFO)?;
    content.get(at..at + PUBLIC_KEY_INFO.len() + LENGTH)
}

/// The same certificate as text.
pub(crate) fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for digit in 0..4 {
                let value = (bits >> (18 - 6 * digit) & 0x3f) as usize;
                text.push(if digit <= group.len() { DIGITS[value].into() } else { '=' });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

const AUTHORITY: &str = "quicprochat relay CA";

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Tag 0 of whatever it is in.
const CONTEXT: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;

/// id-Ed25519 as an algorithm.
const ED25519: [u8; 7] = [SEQUENCE, 5, OBJECT, 3, 0x2b, 0x65, 0x70];
/// What stands before the 32 bytes of a key (RFC 8410 section 4).
const PUBLIC_KEY_INFO: [u8; 12] = [SEQUENCE, 42, SEQUENCE, 5, OBJECT, 3, 0x2b, 0x65, 0x70, BIT_STRING, 33, 0];

fn certificate(subject: &str, key: &SigningKey, extensions: &[Vec<u8>]) -> Vec<u8> {
    // A router may make its certificate before it knows the date, and lives longer than anybody renews by hand.
    let for_ever = [tlv(UTC_TIME, &[b"200101000000Z"]), tlv(GENERALIZED_TIME, &[b"40000101000000Z"])];
    let extensions = extensions.concat();
    // Another for each certificate of the CA (RFC 5280 section 4.1.2.2).
    let mut serial = identifier(&[&key.public(), subject.as_bytes(), &extensions]);
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and no byte too long
    let signed = tlv(
        SEQUENCE,
        &[
            &tlv(CONTEXT | CONSTRUCTED, &[&[INTEGER, 1, 2]]), // X.509 v3
            &tlv(INTEGER, &[&serial]),
            &ED25519,
            &common_name(AUTHORITY),
            &tlv(SEQUENCE, &[&for_ever.concat()]),
            &common_name(subject),
            &public_key_info(key),
            &tlv(CONTEXT | CONSTRUCTED | 3, &[&tlv(SEQUENCE, &[&extensions])]),
        ],
    );
    let signature = key.sign(&signed);
    tlv(SEQUENCE, &[&signed, &ED25519, &tlv(BIT_STRING, &[&[0], &signature])])
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[BOOLEAN, 1, 0xff] } else { &[] };
    tlv(SEQUENCE, &[&tlv(OBJECT, &[id]), critical, &tlv(OCTET_STRING, &[value])])
}

fn common_name(name: &str) -> Vec<u8> {
    let attribute = tlv(SEQUENCE, &[&[OBJECT, 3, 0x55, 4, 3], &tlv(UTF8_STRING, &[name.as_bytes()])]);
    tlv(SEQUENCE, &[&tlv(SET, &[&attribute])])
}

fn alternative_name(name: &str) -> Vec<u8> {
    match name.parse() {
        Ok(IpAddr::V4(ip)) => tlv(CONTEXT | 7, &[&ip.octets()]),
        Ok(IpAddr::V6(ip)) => tlv(CONTEXT | 7, &[&ip.octets()]),
        Err(_) => tlv(CONTEXT | 2, &[name.as_bytes()]),
    }
}

/// Any unique value will do (RFC 5280 section 4.2.1.2).
fn key_identifier(key: &SigningKey) -> [u8; 20] {
    identifier(&[&key.public()])
}

fn identifier(of: &[&[u8]]) -> [u8; 20] {
    let hash = digest::digest(&digest::SHA256, &of.concat());
    std::array::from_fn(|i| hash.as_ref()[i])
}

/// A DER value of the given parts.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = value.len().to_be_bytes();
    let digits = &length[value.len().leading_zeros() as usize / 8..];
    let mut out = vec![tag];
    if value.len() >= 0x80 {
        out.push(0x80 | digits.len() as u8);
    }
    match digits {
        [] => out.push(0),
        digits => out.extend_from_slice(digits),
    }
    out.extend_from_slice(&value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use std::process::Command;
    use std::time::Duration;
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    fn key() -> SigningKey {
        SigningKey::from_seed(&ring::rand::generate(&SystemRandom::new()).unwrap().expose())
    }

    /// So many that lengths take one, two and three bytes.
    fn names() -> BTreeSet<String> {
        let many = (0..40).map(|n| format!("name-number-{n}.example"));
        many.chain(["relay.lan", "192.168.1.1", "fd00::1"].map(str::to_owned)).collect()
    }

    #[test]
    fn webpki_takes_what_is_right_and_nothing_else() {
        let (key, other) = (key(), key());
        let ca = CertificateDer::from(authority(&key));
        let leaf = CertificateDer::from(relay(&key, &names()));
        let anchor = anchor_from_trusted_cert(&ca).unwrap();
        let leaf = EndEntityCert::try_from(&leaf).unwrap();
        assert_eq!(*leaf.subject_public_key_info(), *public_key_info(&key));
        let verify = |leaf: &EndEntityCert<'_>, years_since_1970: u64| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(years_since_1970 * 365 * 24 * 60 * 60));
            let usage = KeyUsage::server_auth();
            let algorithms = qpc_transport::tls::SIGNATURES.all;
            leaf.verify_for_usage(algorithms, std::slice::from_ref(&anchor), &[], time, usage, None, None)
                .map(drop)
        };
        assert_eq!((verify(&leaf, 51), verify(&leaf, 2000)), (Ok(()), Ok(())));
        assert!(matches!(verify(&leaf, 49), Err(webpki::Error::CertNotValidYet { .. })));
        for name in names() {
            leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name.as_str()).unwrap()).unwrap();
        }
        for name in ["other.lan", "192.168.1.2", "fd00::2"] {
            leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).unwrap_err();
        }
        let forged = CertificateDer::from(relay(&other, &names()));
        assert!(verify(&EndEntityCert::try_from(&forged).unwrap(), 51).is_err());
    }

    #[test]
    fn the_public_key_is_found() {
        let key = key();
        let (ca, leaf) = (authority(&key), relay(&key, &names()));
        assert_eq!(public_key_info_in(&ca), Some(&*public_key_info(&key)));
        assert_eq!(public_key_info_in(&leaf), Some(&*public_key_info(&key)));
        let (cut, not_ours) = (&ca[..ca.len() - 1], [&[SEQUENCE, 0x82, 0, 40][..], &[0; 40]].concat());
        assert_eq!((public_key_info_in(cut), public_key_info_in(&not_ours)), (None, None));
    }

    #[test]
    fn openssl_finds_nothing_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, leaf) = (dir.path().join("ca.pem"), dir.path().join("relay.pem"));
        let key = key();
        std::fs::write(&ca, pem(&authority(&key))).unwrap();
        std::fs::write(&leaf, pem(&relay(&key, &names()))).unwrap();
        let verified = |name: &[&str]| {
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]).arg(&ca);
            openssl.args(name).arg(&leaf).output().unwrap().status.success()
        };
        assert!(verified(&["-verify_hostname", "relay.lan"]));
        assert!(verified(&["-verify_ip", "fd00::1"]));
        assert!(!verified(&["-verify_hostname", "other.lan"]));
    }
}
