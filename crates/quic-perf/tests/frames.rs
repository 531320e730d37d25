//! A client that knows nothing of this crate, but bytes: what servers of both backends answer.

#![allow(clippy::unwrap_used, missing_docs)]

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const V1: &str = "01 0000004e 00000001 01 01 0000000000000003 0000000000000005 0000000000000000 0000000000000001 \
                  0000000000000000 0000000000000001 0000000000000001 0000000000000001 0000000000000001";
const V2: &str = "01 0000004f 00000002 01 01 0000000000000003 0000000000000005 02 0000000000000000 0000000000000001 \
                  0000000000000000 0000000000000001 0000000000000001 0000000000000001 0000000000000001";
const V3: &str = "01 0000004f 00000003 01 01 0000000000000003 0000000000000005 02 0000000000000000 0000000000000001 \
                  0000000000000000 0000000000000001 0000000000000001 0000000000000001 0000000000000001";
const V3_NO_STREAMS: &str = "01 0000004f 00000003 01 01 0000000000000003 0000000000000005 00 0000000000000000 \
                             0000000000000000 0000000000000000 0000000000000001 0000000000000000 0000000000000001 \
                             0000000000000001";
const V3_BULK_UPLOAD: &str = "01 0000004f 00000003 00 00 0000000000000003 0000000000000005 00 0000000000000000 \
                              0000000000000000 0000000000000000 0000000000000001 0000000000000001 0000000000000001 \
                              0000000000000001";
const READY: &str = "02 00000004 00000003";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn error(reason: &str) -> Vec<u8> {
    let length = reason.len() as u8;
    [&[3, 0, 0, 0, length + 4, 0, 0, 0, length], reason.as_bytes()].concat()
}

/// Runs a conversation with a server of each backend.
fn with_servers(talk: impl AsyncFn(&Endpoint, std::net::SocketAddr)) {
    let folder = tempfile::tempdir().unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| folder.path().join(name));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&chain).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"coquic-perf/1".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    for backend in ["coquic", "quinn"] {
        let mut process = Command::new(env!("CARGO_BIN_EXE_coquic-perf"))
            .args(["server", "--port", "0", "--backend", backend, "--certificate-chain"])
            .args([chain.as_os_str(), "--private-key".as_ref(), key.as_os_str()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let _server = Server(process);
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            endpoint.set_default_client_config(config.clone());
            talk(&endpoint, address).await;
        });
    }
}

/// What is answered until the end of the stream.
async fn exchange(connection: &Connection, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    for piece in pieces {
        send.write_all(piece).await.unwrap();
    }
    send.finish().unwrap();
    receive.read_to_end(100_000).await.unwrap()
}

#[test]
fn what_is_refused_is_refused_in_words() {
    with_servers(async |endpoint, address| {
        for (frame, reason) in [
            (hex(""), "expected session_start"),
            (hex(READY), "expected session_start"),
            (hex(&V3[..V3.len() - 2]), "expected session_start"),
            (hex(&format!("{V3} 00")), "expected session_start"),
            (hex(V2), "unsupported protocol version"),
            (hex(V3_NO_STREAMS), "streams must be greater than zero"),
        ] {
            let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
            assert_eq!(exchange(&connection, &[&frame]).await, error(reason));
        }
    });
}

#[test]
fn a_session_byte_by_byte() {
    with_servers(async |endpoint, address| {
        for frame in [V1, V3] {
            let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            send.write_all(&hex(frame)).await.unwrap();
            send.finish().unwrap();
            let mut ready = [0; 9];
            receive.read_exact(&mut ready).await.unwrap();
            assert_eq!(ready[..], hex(READY));
            assert_eq!(exchange(&connection, &[b"a", b"bc"]).await, [0x5a; 5]);
            let complete = receive.read_to_end(1000).await.unwrap();
            assert_eq!(complete, hex("04 00000018 0000000000000005 0000000000000003 0000000000000001"));
        }
    });
}

#[test]
fn timed_uploads_are_answered_by_an_end() {
    with_servers(async |endpoint, address| {
        let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&hex(V3_BULK_UPLOAD)).await.unwrap();
        send.finish().unwrap();
        receive.read_exact(&mut [0; 9]).await.unwrap();
        for _ in 0..3 {
            assert_eq!(exchange(&connection, &[&[1; 70_000]]).await, []);
        }
    });
}
