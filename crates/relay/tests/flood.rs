//! A flood of handshakes that are begun and never finished: each packet is a first packet with a real ClientHello, from a
//! client of its own. The relay's memory stays where it was, and the port keeps serving.

#![allow(clippy::unwrap_used, missing_docs)]

use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, Endpoint, EndpointConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn unfinished_handshakes_cost_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut process = Command::new(env!("CARGO_BIN_EXE_qpc-relay"));
    process
        .arg("--data")
        .arg(&data)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut relay = Relay(process.spawn().unwrap());
    let mut address = String::new();
    BufReader::new(relay.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let port: u16 = address.split([':', '/']).find_map(|part| part.parse().ok()).unwrap();

    let hellos = client_hellos(2000);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flood = |rounds: usize| {
        for _ in 0..rounds {
            for (n, hello) in hellos.iter().enumerate() {
                socket.send_to(hello, ("127.0.0.1", port)).unwrap();
                if n % 64 == 0 {
                    // So that they arrive at all: the socket's buffer is small.
                    status(&data);
                }
            }
        }
    };
    flood(1);
    let before = status(&data)["memory_bytes"].as_u64().unwrap();
    flood(10);
    let after = status(&data);
    let after_bytes = after["memory_bytes"].as_u64().unwrap();
    println!("memory before the flood {before}, after 20,000 handshakes more {after_bytes}");
    assert!(after_bytes < before + 512 * 1024, "grew from {before} to {after_bytes}");
    assert_eq!(after["connections"], 0);
}

fn status(data: &std::path::Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_qpc-relay"))
        .arg("--data")
        .arg(data)
        .args(["status", "--json"])
        .output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

/// First packets of clients that will say nothing more.
fn client_hellos(count: usize) -> Vec<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAnybody))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"qpc/1".to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
    let now = Instant::now();
    let hello = |_| {
        let remote = ([127, 0, 0, 1], 1).into();
        let (_, mut connection) = endpoint.connect(now, config.clone(), remote, "localhost").unwrap();
        let mut packet = Vec::new();
        assert!(connection.poll_transmit(now, 1, &mut packet).is_some());
        packet
    };
    (0..count).map(hello).collect()
}

#[derive(Debug)]
struct TrustsAnybody;

impl ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
