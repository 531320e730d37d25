//! The address of a relay: `qpc://HOST:PORT/#FINGERPRINT`.

use crate::id::Fingerprint;
use std::fmt;

/// UDP port of a relay.
pub const DEFAULT_PORT: u16 = 7000;

/// Where a relay is and by which key it is known: everything a client needs, short enough for a QR code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayAddress {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// The relay's CA.
    pub fingerprint: Fingerprint,
}

/// Why a text is not a relay's address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme or none.
    #[error("a relay address begins with qpc://")]
    Scheme,
    /// No host, or one with characters a host does not have.
    #[error("the relay address has no valid host")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("the relay address has no valid port")]
    Port,
    /// Not 64 hexadecimal digits after `/#`.
    #[error("the relay address must end in /# and the 64 hexadecimal digits that `qpc-relay address` prints")]
    Fingerprint,
}

impl std::str::FromStr for RelayAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = text.trim().strip_prefix("qpc://").ok_or(AddressError::Scheme)?;
        let (authority, fingerprint) = rest.split_once('#').ok_or(AddressError::Fingerprint)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let fingerprint =
            Fingerprint::from_hex(&fingerprint.to_ascii_lowercase()).ok_or(AddressError::Fingerprint)?;
        let (host, port) = split_host_port(authority).ok_or(AddressError::Host)?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or(AddressError::Port)?,
        };
        Ok(Self { host: host.to_owned(), port, fingerprint })
    }
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`; `None` where the host is none.
pub fn split_host_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':')?)),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    (!host.is_empty() && host.bytes().all(valid)).then_some((host, port))
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, fingerprint } = self;
        if host.contains(':') {
            write!(f, "qpc://[{host}]:{port}/#{fingerprint}")
        } else {
            write!(f, "qpc://{host}:{port}/#{fingerprint}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FP: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn addresses_read_back() {
        for (text, host, port) in [
            ("qpc://127.0.0.1:7000/#", "127.0.0.1", 7000),
            ("qpc://router.lan:65535/#", "router.lan", 65535),
            ("qpc://[fe80::1]:7000/#", "fe80::1", 7000),
        ] {
            let address: RelayAddress = format!("{text}{FP}").parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), format!("{text}{FP}"));
        }
        let short: RelayAddress = format!("qpc://router#{}", FP.to_uppercase()).parse().unwrap();
        assert_eq!(short.port, DEFAULT_PORT);
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, error) in [
            (format!("http://router/#{FP}"), AddressError::Scheme),
            (format!("qpc:///#{FP}"), AddressError::Host),
            (format!("qpc://[::g]:1/#{FP}"), AddressError::Host),
            (format!("qpc://ro uter/#{FP}"), AddressError::Host),
            (format!("qpc://router:0/#{FP}"), AddressError::Port),
            (format!("qpc://router:70000/#{FP}"), AddressError::Port),
            ("qpc://router:7000/".to_owned(), AddressError::Fingerprint),
            (format!("qpc://router:7000/#{}", &FP[1..]), AddressError::Fingerprint),
            (format!("qpc://router:7000/#+{}", &FP[1..]), AddressError::Fingerprint),
        ] {
            assert_eq!(text.parse::<RelayAddress>(), Err(error), "{text}");
        }
    }
}
