//! The command line.

use crate::protocol::{Direction, Mode, Work};
use coquic::CongestionControl;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: coquic-perf server|client [OPTION]...
  --host HOST                      127.0.0.1
  --port PORT                      4433
  --mode bulk|rr|crr|persistent-rr bulk
  --direction upload|download      download; bulk only
  --request-bytes N                64
  --response-bytes N               64
  --streams N                      1
  --connections N                  1
  --requests-in-flight N           1
  --requests N                     rr, crr, persistent-rr: so many and not for a time
  --total-bytes N                  bulk: so many and not for a time
  --warmup 250ms|2s                0ms
  --duration 250ms|2s              5s
  --congestion-control newreno|cubic|bbr|copa|pcc|pcc-vivace
  --max-outbound-datagram-size N   1472, at least 1200
  --pmtud-max-datagram-size N      0: found out
  --certificate-chain FILE         tests/fixtures/quic-server-cert.pem if it is there, else one is made
  --private-key FILE               tests/fixtures/quic-server-key.pem
  --server-name NAME               localhost
  --verify-peer
  --json-out FILE
  --io-backend socket
  --backend coquic|quinn           what speaks QUIC: the sans-I/O library, or quinn
  --alpn coquic-perf/1|perf        perf: what quinn's, msquic's and picoquic's tools speak
";

/// Who this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// What speaks QUIC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backend {
    Coquic,
    Quinn,
}

/// What is spoken over QUIC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Alpn {
    CoquicPerf,
    Perf,
}

impl Alpn {
    const ALL: [(Self, &'static str); 2] = [(Self::CoquicPerf, "coquic-perf/1"), (Self::Perf, "perf")];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

const CONGESTION_CONTROL: [(CongestionControl, &str); 6] = [
    (CongestionControl::NewReno, "newreno"),
    (CongestionControl::Cubic, "cubic"),
    (CongestionControl::Bbr, "bbr"),
    (CongestionControl::Copa, "copa"),
    (CongestionControl::Pcc, "pcc"),
    (CongestionControl::PccVivace, "pcc-vivace"),
];

pub(crate) fn congestion_control_name(which: CongestionControl) -> &'static str {
    CONGESTION_CONTROL.iter().find(|(value, _)| *value == which).map_or("", |(_, name)| name)
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) role: Role,
    pub(crate) backend: Backend,
    pub(crate) alpn: Alpn,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) work: Work,
    pub(crate) congestion_control: CongestionControl,
    pub(crate) max_outbound_datagram_size: u16,
    pub(crate) pmtud_max_datagram_size: u16,
    pub(crate) certificate_chain: Option<PathBuf>,
    pub(crate) private_key: Option<PathBuf>,
    pub(crate) server_name: String,
    pub(crate) verify_peer: bool,
    pub(crate) json_out: Option<PathBuf>,
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Box<Options>),
}

/// A command line that makes no sense.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Usage(pub(crate) String);

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut role = None;
        let mut direction = None;
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            let work = &mut options.work;
            match argument {
                Value(word) if role.is_none() => {
                    role = Some(one_of("", &word.string()?, &ROLES)?);
                }
                Long("help") | Short('h') => return Ok(Command::Help),
                Long("verify-peer") => options.verify_peer = true,
                Long(name) => {
                    let name = format!("--{name}");
                    let value = parser.value()?;
                    match name.as_str() {
                        "--certificate-chain" => options.certificate_chain = Some(value.into()),
                        "--private-key" => options.private_key = Some(value.into()),
                        "--json-out" => options.json_out = Some(value.into()),
                        name => {
                            let value = value.string()?;
                            match name {
                                "--host" => options.host = value,
                                "--server-name" => options.server_name = value,
                                "--port" => options.port = number(name, &value)?,
                                "--mode" => work.mode = one_of(name, &value, &Mode::ALL)?,
                                "--direction" => direction = Some(one_of(name, &value, &Direction::ALL)?),
                                "--request-bytes" => work.request_bytes = number(name, &value)?,
                                "--response-bytes" => work.response_bytes = number(name, &value)?,
                                "--streams" => work.streams = positive(name, &value)?,
                                "--connections" => work.connections = positive(name, &value)?,
                                "--requests-in-flight" => work.requests_in_flight = positive(name, &value)?,
                                "--requests" => work.requests = Some(positive(name, &value)?),
                                "--total-bytes" => work.total_bytes = Some(number(name, &value)?),
                                "--warmup" => work.warmup = time(name, &value)?,
                                "--duration" => work.duration = time(name, &value)?,
                                "--congestion-control" => {
                                    options.congestion_control = one_of(name, &value, &CONGESTION_CONTROL)?;
                                }
                                "--max-outbound-datagram-size" => {
                                    options.max_outbound_datagram_size = datagram(name, &value)?;
                                }
                                "--pmtud-max-datagram-size" => {
                                    options.pmtud_max_datagram_size = match value.as_str() {
                                        "0" => 0,
                                        value => datagram(name, value)?,
                                    };
                                }
                                "--io-backend" => {
                                    if value != "socket" {
                                        let text = "coquic-perf currently supports --io-backend socket";
                                        return Err(Usage(text.into()));
                                    }
                                }
                                "--backend" => options.backend = one_of(name, &value, &BACKENDS)?,
                                "--alpn" => options.alpn = one_of(name, &value, &Alpn::ALL)?,
                                _ => return Err(Usage(format!("there is no option {name}"))),
                            }
                        }
                    }
                }
                other => return Err(other.unexpected().into()),
            }
        }
        options.role = role.ok_or_else(|| Usage("server or client?".into()))?;
        let work = &mut options.work;
        if let Some(direction) = direction {
            if work.mode != Mode::Bulk {
                return Err(Usage("--direction goes with --mode bulk only".into()));
            }
            work.direction = direction;
        }
        if work.mode == Mode::PersistentRr {
            if work.request_bytes == 0 || work.response_bytes == 0 {
                return Err(Usage("persistent-rr requires nonzero request and response bytes".into()));
            }
            if options.alpn == Alpn::Perf {
                return Err(Usage("perf has no persistent-rr".into()));
            }
        }
        Ok(Command::Run(options.into()))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            role: Role::Server,
            backend: Backend::Coquic,
            alpn: Alpn::CoquicPerf,
            host: "127.0.0.1".into(),
            port: 4433,
            work: Work {
                mode: Mode::Bulk,
                direction: Direction::Download,
                request_bytes: 64,
                response_bytes: 64,
                total_bytes: None,
                requests: None,
                warmup: Duration::ZERO,
                duration: Duration::from_secs(5),
                streams: 1,
                connections: 1,
                requests_in_flight: 1,
            },
            congestion_control: CongestionControl::NewReno,
            max_outbound_datagram_size: 1472,
            pmtud_max_datagram_size: 0,
            certificate_chain: None,
            private_key: None,
            server_name: "localhost".into(),
            verify_peer: false,
            json_out: None,
        }
    }
}

const ROLES: [(Role, &str); 2] = [(Role::Server, "server"), (Role::Client, "client")];
const BACKENDS: [(Backend, &str); 2] = [(Backend::Coquic, "coquic"), (Backend::Quinn, "quinn")];

fn one_of<T: Copy>(option: &str, name: &str, list: &[(T, &str)]) -> Result<T, Usage> {
    list.iter().find(|(_, known)| *known == name).map(|(value, _)| *value).ok_or_else(|| {
        let known: Vec<_> = list.iter().map(|(_, known)| *known).collect();
        Usage(format!("{option} {name:?}: there is {}", known.join(", ")).trim_start().into())
    })
}

fn number<T: std::str::FromStr>(option: &str, value: &str) -> Result<T, Usage> {
    value.parse().map_err(|_| Usage(format!("{option} {value:?}: not a number for this")))
}

fn positive(option: &str, value: &str) -> Result<u64, Usage> {
    match number(option, value)? {
        0 => Err(Usage(format!("{option} must be greater than zero"))),
        number => Ok(number),
    }
}

fn datagram(option: &str, value: &str) -> Result<u16, Usage> {
    match number(option, value)? {
        0..1200 => Err(Usage(format!("{option} must be at least 1200"))),
        size => Ok(size),
    }
}

fn time(option: &str, value: &str) -> Result<Duration, Usage> {
    if let Some(milliseconds) = value.strip_suffix("ms") {
        return Ok(Duration::from_millis(number(option, milliseconds)?));
    }
    let seconds = value.strip_suffix('s').ok_or_else(|| Usage("duration must use ms or s suffix".into()))?;
    Ok(Duration::from_secs(number(option, seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Usage> {
        match Options::parse(line.split_whitespace().map(OsString::from))? {
            Command::Run(options) => Ok(*options),
            Command::Help => panic!("no help was asked for"),
        }
    }

    #[test]
    fn defaults() {
        let options = parse("client").unwrap();
        assert_eq!(options.role, Role::Client);
        assert_eq!((options.host.as_str(), options.port), ("127.0.0.1", 4433));
        assert_eq!((options.work.mode, options.work.direction), (Mode::Bulk, Direction::Download));
        assert_eq!((options.work.request_bytes, options.work.response_bytes), (64, 64));
        assert_eq!((options.work.warmup, options.work.duration), (Duration::ZERO, Duration::from_secs(5)));
        assert_eq!((options.max_outbound_datagram_size, options.pmtud_max_datagram_size), (1472, 0));
        assert_eq!((options.backend, options.alpn), (Backend::Coquic, Alpn::CoquicPerf));
        assert_eq!((options.server_name.as_str(), options.verify_peer), ("localhost", false));
    }

    #[test]
    fn everything() {
        let options = parse(
            "client --host ::1 --port 1 --io-backend socket --congestion-control pcc-vivace --mode bulk \
             --direction upload --request-bytes 2 --response-bytes 3 --streams 4 --connections 5 \
             --requests-in-flight 6 --requests 7 --total-bytes 0 --warmup 250ms --duration 2s \
             --max-outbound-datagram-size 1200 --pmtud-max-datagram-size 1300 --certificate-chain c \
             --private-key k --server-name n --verify-peer --json-out j --backend quinn --alpn perf",
        )
        .unwrap();
        assert_eq!(
            options.work,
            Work {
                mode: Mode::Bulk,
                direction: Direction::Upload,
                request_bytes: 2,
                response_bytes: 3,
                total_bytes: Some(0),
                requests: Some(7),
                warmup: Duration::from_millis(250),
                duration: Duration::from_secs(2),
                streams: 4,
                connections: 5,
                requests_in_flight: 6,
            }
        );
        assert_eq!(options.congestion_control, CongestionControl::PccVivace);
        assert_eq!((options.max_outbound_datagram_size, options.pmtud_max_datagram_size), (1200, 1300));
        assert_eq!((options.backend, options.alpn), (Backend::Quinn, Alpn::Perf));
        assert!(options.verify_peer);
    }

    #[test]
    fn nonsense() {
        for (line, text) in [
            ("", "server or client?"),
            ("relay", r#""relay": there is server, client"#),
            ("client server", r#"unexpected argument "server""#),
            ("client --frobnicate 1", "there is no option --frobnicate"),
            ("client --port", "missing argument for option '--port'"),
            ("client --port 65536", r#"--port "65536": not a number for this"#),
            ("client --mode rr --direction upload", "--direction goes with --mode bulk only"),
            ("client --mode x", r#"--mode "x": there is bulk, rr, crr, persistent-rr"#),
            ("client --streams 0", "--streams must be greater than zero"),
            ("client --connections 0", "--connections must be greater than zero"),
            ("client --requests-in-flight 0", "--requests-in-flight must be greater than zero"),
            ("client --duration 5", "duration must use ms or s suffix"),
            (
                "client --max-outbound-datagram-size 1199",
                "--max-outbound-datagram-size must be at least 1200",
            ),
            ("client --pmtud-max-datagram-size 1", "--pmtud-max-datagram-size must be at least 1200"),
            ("client --io-backend io_uring", "coquic-perf currently supports --io-backend socket"),
            (
                "client --mode persistent-rr --request-bytes 0",
                "persistent-rr requires nonzero request and response bytes",
            ),
            ("client --mode persistent-rr --alpn perf", "perf has no persistent-rr"),
        ] {
            assert_eq!(parse(line).unwrap_err(), Usage(text.into()), "{line}");
        }
    }
}
