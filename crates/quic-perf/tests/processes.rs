//! The program as it is used: servers and clients as processes, on loopback.

#![allow(clippy::unwrap_used, missing_docs)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_coquic-perf");
const BACKENDS: [&str; 2] = ["coquic", "quinn"];

/// A server that ends with the test.
struct Server {
    process: Child,
    port: u16,
    errors: BufReader<ChildStderr>,
}

impl Server {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["server", "--port", "0"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {line:?}"));
        Self { process, port, errors }
    }

    fn of(backend: &str) -> Self {
        Self::start(&["--backend", backend], &[])
    }

    fn client(&self, backend: &str, arguments: &str) -> Run {
        Run::new(self.port, backend, arguments)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a client said.
struct Run {
    code: i32,
    line: String,
    errors: String,
    json: Value,
}

impl Run {
    fn new(port: u16, backend: &str, arguments: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let Output { status, stdout, stderr } = Command::new(PROGRAM)
            .args(["client", "--port", &port.to_string(), "--backend", backend, "--json-out"])
            .arg(&path)
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let json = std::fs::read(&path).map_or(Value::Null, |json| serde_json::from_slice(&json).unwrap());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code().unwrap(), line: text(stdout), errors: text(stderr), json }
    }

    #[track_caller]
    fn ok(&self) -> &Self {
        assert_eq!(self.code, 0, "{}", self.errors);
        assert!(self.line.starts_with("status=ok "), "{}", self.line);
        assert_eq!(self.json["status"], "ok");
        self
    }

    /// Sent, received and completed: as the client counted, and the server.
    #[track_caller]
    fn counted(&self, client: [u64; 3], server: [u64; 3]) {
        let numbers = |of: &Value| {
            ["bytes_sent", "bytes_received", "requests_completed"].map(|key| of[key].as_u64().unwrap())
        };
        assert_eq!(numbers(&self.json), client);
        assert_eq!(numbers(&self.json["server_counters"]), server);
    }

    #[track_caller]
    fn failed(&self, reason: &str) {
        assert_eq!(self.code, 1);
        assert!(self.line.starts_with("status=failed "), "{}", self.line);
        assert_eq!(self.json["failure_reason"], reason);
        assert_eq!(self.errors, format!("coquic-perf: {reason}\n"));
    }
}

/// Every backend with every other.
fn pairs() -> impl Iterator<Item = (Server, &'static str)> {
    BACKENDS.iter().flat_map(|server| BACKENDS.map(|client| (Server::of(server), client)))
}

#[test]
fn bulk_download() {
    for (server, client) in pairs() {
        let run = server.client(client, "--total-bytes 1000003 --streams 4 --connections 2");
        run.ok().counted([0, 2_000_006, 8], [2_000_006, 0, 8]);
    }
}

#[test]
fn bulk_upload() {
    for (server, client) in pairs() {
        let run =
            server.client(client, "--direction upload --total-bytes 1000003 --streams 4 --connections 2");
        run.ok().counted([2_000_006, 0, 8], [0, 2_000_006, 8]);
    }
}

#[test]
fn bulk_of_nothing() {
    let server = Server::of("coquic");
    server.client("coquic", "--total-bytes 0").ok().counted([0, 0, 1], [0, 0, 1]);
}

#[test]
fn rr() {
    for (server, client) in pairs() {
        let arguments = "--mode rr --requests 25 --connections 3 --requests-in-flight 4 --request-bytes 7 --response-bytes 100000";
        server.client(client, arguments).ok().counted([175, 2_500_000, 25], [2_500_000, 175, 25]);
    }
}

#[test]
fn persistent_rr() {
    for (server, client) in pairs() {
        let arguments = "--mode persistent-rr --requests 25 --connections 3 --requests-in-flight 4 --request-bytes 7 \
                         --response-bytes 3000";
        server.client(client, arguments).ok().counted([175, 75_000, 25], [75_000, 175, 25]);
    }
}

#[test]
fn crr() {
    for (server, client) in pairs() {
        let arguments = "--mode crr --requests 7 --connections 3 --request-bytes 24 --response-bytes 25";
        // Nobody tells the client what the server counted.
        server.client(client, arguments).ok().counted([168, 175, 7], [0, 0, 0]);
    }
}

#[test]
fn more_connections_than_requests() {
    let server = Server::of("coquic");
    server
        .client("coquic", "--mode rr --requests 2 --connections 5")
        .ok()
        .counted([128, 128, 2], [128, 128, 2]);
}

#[test]
fn for_a_time() {
    for (server, client) in pairs() {
        for (mode, requests) in [("rr", true), ("persistent-rr", true), ("crr", true), ("bulk", false)] {
            let run_for = |time: u64| {
                let arguments = format!(
                    "--mode {mode} --warmup 50ms --duration {time}ms --connections 2 --streams 2 --response-bytes 5000"
                );
                (time, server.client(client, &arguments))
            };
            // Longer where everything else is so busy that nothing is done in that time.
            let runs = [300, 3000, 30_000].into_iter().map(run_for);
            let something = |(_, run): &(u64, Run)| run.json["bytes_received"].as_u64() > Some(0);
            let (time, run) = runs.into_iter().find(something).unwrap();
            let json = &run.ok().json;
            assert_eq!((&json["elapsed_ms"], &json["warmup_ms"]), (&time.into(), &50.into()));
            let completed = json["requests_completed"].as_u64().unwrap();
            assert_eq!(completed > 0, requests, "{mode}");
            if requests {
                assert_eq!(json["server_counters"]["requests_completed"], completed);
                // Those under way at the end were sent.
                let sent = json["bytes_sent"].as_u64().unwrap();
                assert!(
                    (completed * 64..=(completed + 2) * 64).contains(&sent),
                    "{mode}: {completed}, {sent}"
                );
                assert!(json["latency"]["min_us"].as_u64() <= json["latency"]["p50_us"].as_u64());
                assert!(json["latency"]["p50_us"].as_u64() <= json["latency"]["max_us"].as_u64());
            }
        }
        let run = server.client(client, "--direction upload --duration 200ms --response-bytes 100000");
        assert!(run.ok().json["bytes_sent"].as_u64() >= Some(100_000));
    }
}

#[test]
fn perf() {
    for backend in BACKENDS {
        let server = Server::start(&["--backend", backend, "--alpn", "perf"], &[]);
        for client in BACKENDS {
            let run = |arguments: &str| server.client(client, &format!("--alpn perf {arguments}"));
            run("--total-bytes 100001 --streams 2").ok().counted([0, 100_001, 2], [0; 3]);
            run("--direction upload --total-bytes 100001 --streams 2").ok().counted([100_001, 0, 2], [0; 3]);
            let arguments =
                "--mode rr --requests 9 --requests-in-flight 2 --connections 2 --response-bytes 1000";
            run(arguments).ok().counted([576, 9000, 9], [0; 3]);
            run("--mode crr --requests 3").ok().counted([192, 192, 3], [0; 3]);
        }
    }
}

#[test]
fn other_protocols_are_refused() {
    let server = Server::start(&["--alpn", "perf"], &[]);
    server.client("coquic", "--mode rr --requests 1").failed("client core state failed connection=1");
    server.client("quinn", "--mode rr --requests 1").failed("client core state failed connection=1");
}

#[test]
fn certificates_are_verified_if_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| folder.path().join(name));
    let made = rcgen::generate_simple_self_signed(["perf.example".to_owned()]).unwrap();
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    for backend in BACKENDS {
        let server = Server::start(
            &[
                "--backend",
                backend,
                "--certificate-chain",
                chain.to_str().unwrap(),
                "--private-key",
                key.to_str().unwrap(),
            ],
            &[],
        );
        let client = |name: &str| {
            Command::new(PROGRAM)
                .args(["client", "--port", &server.port.to_string(), "--backend", backend, "--verify-peer"])
                .args(["--server-name", name, "--mode", "rr", "--requests", "1"])
                .env("SSL_CERT_FILE", &chain)
                .output()
                .unwrap()
        };
        assert!(client("perf.example").status.success());
        assert_eq!(client("other.example").status.code(), Some(1));
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    for backend in BACKENDS {
        // It takes the connection and never answers.
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.into()], made.signing_key.into())
            .unwrap();
        tls.alpn_protocols = vec![b"coquic-perf/1".to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(std::sync::Arc::new(crypto));
        let silent = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let port = silent.local_addr().unwrap().port();
        let client = std::thread::spawn(move || Run::new(port, backend, "--mode rr --requests 1"));
        runtime.block_on(async {
            let connection = silent.accept().await.unwrap().await.unwrap();
            connection.closed().await;
        });
        client.join().unwrap().failed("client timed out waiting for progress");
    }
}

#[test]
fn nobody_there() {
    // Taken, so that nobody else can have it.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    Run::new(port, "coquic", "--mode rr --requests 1").failed("client timed out waiting for progress");
}

#[test]
fn a_server_ends_on_sigterm() {
    for backend in BACKENDS {
        let mut server = Server::of(backend);
        server.client("coquic", "--mode rr --requests 1").ok();
        server.signal(Signal::SIGTERM);
        assert!(server.wait().success(), "{backend}");
        let mut rest = String::new();
        server.errors.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn a_client_notices_that_its_server_ends() {
    // Not before the client is connected: the port answers to everybody, so the time is all there is to go by.
    let noticed = [1, 5, 25].into_iter().any(|seconds| {
        let server = Server::of("coquic");
        let port = server.port;
        let client = std::thread::spawn(move || Run::new(port, "coquic", "--mode rr --duration 60s"));
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        server.signal(Signal::SIGTERM);
        let run = client.join().unwrap();
        assert_eq!(run.code, 1);
        run.json["failure_reason"] == "the server closed connection 1"
    });
    assert!(noticed);
}

#[test]
fn a_server_ends_as_the_environment_has_it() {
    for backend in BACKENDS {
        for variable in ["ON_IDLE_EMPTY", "ON_SESSION_COMPLETE"] {
            let variable = format!("COQUIC_PERF_SERVER_EXIT_{variable}");
            let mut server = Server::start(&["--backend", backend], &[(&variable, "1")]);
            server
                .client("coquic", "--total-bytes 1000000")
                .ok()
                .counted([0, 1_000_000, 1], [1_000_000, 0, 1]);
            assert!(server.wait().success(), "{backend} {variable}");
        }
        let variable = [("COQUIC_PERF_SERVER_EXIT_AFTER_MS", "1")];
        assert!(Server::start(&["--backend", backend], &variable).wait().success(), "{backend}");
    }
}

#[test]
fn exit_codes_and_texts() {
    let run = |arguments: &[&str]| Command::new(PROGRAM).args(arguments).output().unwrap();
    let Output { status, stdout, stderr } = run(&["--help"]);
    assert!(status.success() && stderr.is_empty());
    assert!(String::from_utf8(stdout).unwrap().starts_with("usage: coquic-perf server|client"));
    let Output { status, stdout, stderr } = run(&["client", "--mode", "rr", "--direction", "upload"]);
    assert_eq!(status.code(), Some(2));
    assert!(stdout.is_empty());
    assert!(String::from_utf8(stderr).unwrap().contains("--direction goes with --mode bulk only\nusage: "));
    let Output { status, stderr, .. } = run(&["server", "--port", "0", "--certificate-chain", "/nowhere"]);
    assert_eq!(status.code(), Some(1));
    assert!(String::from_utf8(stderr).unwrap().starts_with("coquic-perf: failed to read /nowhere: "));
    for backend in BACKENDS {
        let run = Run::new(1, backend, "--congestion-control copa");
        run.failed("these settings, or this certificate, are not supported");
    }
}
