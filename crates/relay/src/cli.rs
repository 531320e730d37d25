//! The command line of `qpc-relay`.

use crate::config::{Config, SETTINGS, Setting};
use crate::control;
use crate::keys::{DataDir, local_addresses};
use crate::{run, self_test, status};
use lexopt::Arg;
use qpc_proto::address::{DEFAULT_PORT, RelayAddress};
use qrcodegen::{QrCode, QrCodeEcc};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()).and_then(Invocation::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, lines }) => {
            for line in lines {
                eprintln!("qpc-relay: {line}");
            }
            ExitCode::from(status)
        }
    }
}

struct Failure {
    status: u8,
    lines: Vec<String>,
}

impl Failure {
    fn usage(line: impl Into<String>) -> Self {
        Self { status: 2, lines: vec![line.into()] }
    }

    fn other(line: impl ToString) -> Self {
        Self { status: 1, lines: vec![line.to_string()] }
    }
}

struct Invocation {
    config: Config,
    file: Option<PathBuf>,
    command: Command,
}

enum Command {
    Run,
    Help,
    Version,
    Address,
    CheckConfig,
    SelfTest,
    Status { json: bool },
    Admin(Value),
}

fn parse(mut parser: lexopt::Parser) -> Result<Invocation, Failure> {
    let usage = |error: lexopt::Error| match error {
        lexopt::Error::UnexpectedValue { option, .. } => Failure::usage(format!("{option} takes no value")),
        error => Failure::usage(error.to_string()),
    };
    let mut flags: Vec<(&'static Setting, String)> = Vec::new();
    let mut words = Vec::new();
    let (mut file, mut json) = (None, false);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Arg::Long("config") => file = Some(PathBuf::from(parser.value().map_err(usage)?)),
            Arg::Long("json") => json = true,
            Arg::Long("help") | Arg::Short('h') => words = vec!["help".to_owned()],
            Arg::Long("version") | Arg::Short('V') => words = vec!["version".to_owned()],
            Arg::Long(name) => {
                let unknown =
                    || Failure::usage(format!("--{name} is no option; `qpc-relay --help` lists them"));
                let setting = Setting::find(name).ok_or_else(unknown)?;
                let value = parser.value().map_err(usage)?;
                let value = value
                    .into_string()
                    .map_err(|_| Failure::usage(format!("--{} is not UTF-8", setting.name)))?;
                flags.push((setting, value));
            }
            Arg::Value(word) => {
                words.push(
                    word.into_string()
                        .map_err(|word| Failure::usage(format!("'{}' is not UTF-8", word.display())))?,
                );
            }
            other => return Err(Failure::usage(other.unexpected().to_string())),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = match words[..] {
        [] => Command::Run,
        ["help"] => Command::Help,
        ["version"] => Command::Version,
        ["address"] => Command::Address,
        ["check-config"] => Command::CheckConfig,
        ["self-test"] => Command::SelfTest,
        ["status"] => Command::Status { json },
        ["invite"] => Command::Admin(json!({ "command": "invite" })),
        ["user", "list"] => Command::Admin(json!({ "command": "user list" })),
        ["user", "remove", user] => Command::Admin(json!({ "command": "user remove", "user": user })),
        ["device", "list", user] => Command::Admin(json!({ "command": "device list", "user": user })),
        ["device", "revoke", user, device] => {
            Command::Admin(json!({ "command": "device revoke", "user": user, "device": device }))
        }
        _ => {
            let words = words.join(" ");
            return Err(Failure::usage(format!("`{words}` is no command; `qpc-relay --help` lists them")));
        }
    };
    let (config, problems) = match &file {
        None => (Config::default(), Vec::new()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            Config::parse(&text)
        }
    };
    let mut lines: Vec<String> = problems
        .into_iter()
        .map(|problem| {
            let file = file.as_deref().unwrap_or(std::path::Path::new("-")).display().to_string();
            match problem.line {
                Some(line) => format!("{file}:{line}: {}", problem.fault),
                None => format!("{file}: {}", problem.fault),
            }
        })
        .collect();
    let config = with_flags(config, &flags, &mut lines);
    if lines.is_empty() {
        Ok(Invocation { config, file, command })
    } else {
        Err(Failure { status: 2, lines })
    }
}

/// Flags win over the file; a list given by flags replaces the file's.
fn with_flags(mut config: Config, flags: &[(&'static Setting, String)], lines: &mut Vec<String>) -> Config {
    for setting in SETTINGS {
        let mut given = flags.iter().filter(|(flag, _)| flag.name == setting.name).peekable();
        if let (Some(_), Some(clear)) = (given.peek(), setting.clear) {
            clear(&mut config);
        }
        for (_, value) in given {
            if let Err(fault) = config.set(setting, value) {
                lines.push(format!("--{fault}"));
            }
        }
    }
    if lines.is_empty() && !flags.is_empty() {
        lines.extend(config.contradictions().into_iter().map(|problem| problem.fault.to_string()));
    }
    config
}

impl Invocation {
    fn run(self) -> Result<(), Failure> {
        match &self.command {
            Command::Help => print(&help()),
            Command::Version => print(concat!("qpc-relay ", env!("CARGO_PKG_VERSION"), "\n")),
            Command::CheckConfig if self.file.is_none() => {
                Err(Failure::usage("check-config needs --config FILE"))
            }
            Command::CheckConfig => Ok(()),
            Command::SelfTest => self_test::run()
                .map_err(|what| Failure::other(format!("{what} does not work as this program was built"))),
            Command::Run => {
                let address = |address: &str| print(&format!("{address}\n")).is_ok();
                run::run(&self.config, self.data()?, address).map_err(Failure::other)
            }
            Command::Address => self.address(),
            Command::Status { json } => {
                let status = self.ask(&json!({ "command": "status" }))?;
                print(&if *json { format!("{status}\n") } else { status::readable(&status) })
            }
            Command::Admin(request) => print(&answer(&self.ask(request)?)),
        }
    }

    fn data(&self) -> Result<DataDir, Failure> {
        let missing = || Failure::usage("say where the relay keeps its data: --data DIR");
        self.config.data.as_deref().map(DataDir::at).ok_or_else(missing)
    }

    fn ask(&self, request: &Value) -> Result<Value, Failure> {
        let data = self.data()?;
        match control::ask(&data.path(control::SOCKET), request) {
            Ok(Some(Ok(value))) => Ok(value),
            Ok(Some(Err(error))) => Err(Failure::other(error)),
            Ok(None) => Err(Failure::other("the relay is not running")),
            Err(error) => Err(Failure::other(format!("cannot ask the relay: {error}"))),
        }
    }

    fn address(&self) -> Result<(), Failure> {
        let data = self.data()?;
        let running = control::ask(&data.path(control::SOCKET), &json!({ "command": "address" }));
        let address = match running {
            Ok(Some(Ok(Value::String(address)))) => address,
            _ => {
                let fingerprint = data.fingerprint().map_err(Failure::other)?;
                let fingerprint = fingerprint
                    .ok_or_else(|| Failure::other("the relay was never started there: it has no keys yet"))?;
                eprintln!("qpc-relay: the relay is not running");
                let port = self.config.listen().first().map_or(DEFAULT_PORT, SocketAddr::port);
                address_of(&self.config, &self.config.listen(), port, fingerprint).to_string()
            }
        };
        let mut out = format!("{address}\n");
        if std::io::stdout().is_terminal() {
            out.push_str(&qr(&address));
        }
        print(&out)
    }
}

/// The address to hand out: by the configured name, else by the address listened on, else by the first of the machine's.
pub(crate) fn address_of(
    config: &Config,
    listen: &[SocketAddr],
    port: u16,
    fingerprint: qpc_proto::id::Fingerprint,
) -> RelayAddress {
    let specific = listen.iter().map(SocketAddr::ip).find(|ip| !ip.is_unspecified());
    let host = config.name.first().cloned().unwrap_or_else(|| {
        let own = specific.or_else(|| {
            let mut addresses = local_addresses();
            // People read IPv4 addresses more easily, and they change less.
            addresses.sort_by_key(|address| !address.is_ipv4());
            addresses.first().copied()
        });
        own.map_or_else(|| "localhost".to_owned(), |ip| ip.to_string())
    });
    RelayAddress { host, port, fingerprint }
}

fn answer(value: &Value) -> String {
    let mut out = String::new();
    let text = |value: &Value| {
        value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string())
    };
    match value {
        Value::Array(rows) => {
            for row in rows.iter().filter_map(Value::as_object) {
                let row: Vec<String> =
                    row.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
                let _ = writeln!(out, "{}", row.join(" "));
            }
        }
        Value::Object(invite) => {
            let _ = writeln!(out, "{}", text(&invite["code"]));
        }
        _ => {}
    }
    out
}

/// A QR code of half-height blocks, light on dark terminals and dark on light ones.
fn qr(text: &str) -> String {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Low) else { return String::new() };
    const MARGIN: i32 = 2;
    let mut out = String::new();
    for y in (-MARGIN..code.size() + MARGIN).step_by(2) {
        for x in -MARGIN..code.size() + MARGIN {
            // Scanners want dark modules on a light ground, so the light ones are drawn.
            out.push(match (code.get_module(x, y), code.get_module(x, y + 1)) {
                (false, false) => '\u{2588}',
                (false, true) => '\u{2580}',
                (true, false) => '\u{2584}',
                (true, true) => ' ',
            });
        }
        out.push('\n');
    }
    out
}

fn help() -> String {
    let mut out = String::from(
        "quicprochat relay: stores and forwards what it cannot read\n\n\
         \x20 qpc-relay --data DIR [--listen ADDRESS:PORT]   run; prints the address clients need\n\
         \x20 qpc-relay --data DIR address                   print that address, with a QR code on a terminal\n\
         \x20 qpc-relay --data DIR status [--json]           how it is\n\
         \x20 qpc-relay --data DIR invite                    a code with which one account can be registered\n\
         \x20 qpc-relay --data DIR user list\n\
         \x20 qpc-relay --data DIR user remove NAME\n\
         \x20 qpc-relay --data DIR device list NAME\n\
         \x20 qpc-relay --data DIR device revoke NAME ID\n\
         \x20 qpc-relay --config FILE check-config           silent if it is right, else a line for each problem\n\
        \x20 qpc-relay self-test                            silent if the cryptography works on this processor\n\
         \x20 qpc-relay --version | --help\n\n\
         Settings, as flags or as keys of the TOML file that --config names (flags win):\n",
    );
    for setting in SETTINGS {
        let flag = format!("--{} {}", setting.name, setting.value);
        let _ = writeln!(out, "  {flag:32} {}", setting.help);
    }
    out.push_str("\nExit status: 0 done, 1 failed, 2 the command line or the configuration is wrong\n");
    out
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::other)
}
