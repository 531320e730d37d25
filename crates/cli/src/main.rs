//! qpc: quicprochat from the command line.

#![forbid(unsafe_code)]

mod agent;
mod args;
mod local;
mod password;
mod print;

use args::{Args, Command, Usage, user_name};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use qpc_agent::local::{Local, LocalError};
use qpc_agent::server::AgentError;
use qpc_client::executor::{Descriptor, block_on, hung_up, readable, unless};
use qpc_client::{Client, DeviceId, Error, ErrorKind, Event, Kind, Options, UserName};
use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const HELP: &str = "\
quicprochat: end-to-end-encrypted messages through a relay of your own

  qpc --relay ADDRESS register USER [--invite CODE]     make an account and log in
  qpc --relay ADDRESS --user USER login                 log in; on a new machine: add it to the account
  qpc --relay ADDRESS --user USER send WHO [TEXT]       send a text, or standard input
  qpc --relay ADDRESS --user USER receive               print what came, one message a line
  qpc --relay ADDRESS --user USER devices               list the account's devices
  qpc --relay ADDRESS --user USER revoke DEVICE         remove a device from the account
  qpc --relay ADDRESS --user USER passwd                change the password
  qpc --relay ADDRESS --user USER contacts              list whom this device knows: trusted, or with a changed identity
  qpc --relay ADDRESS --user USER safety-number WHO     60 digits to compare: they are the same at WHO's end
  qpc --relay ADDRESS --user USER accept WHO            trust a user's changed identity
  qpc --relay ADDRESS health                            say what answers at the address

  qpc --relay ADDRESS --user USER agent                 hold the session for all programs of this machine
  qpc send|receive|devices|contacts|safety-number|accept ...   as above, through the agent, if one runs
  qpc notify WHO KIND [TEXT]                            through the agent: send an event, summarised if many come
  qpc status                                            how the agent is, as JSON

Options, anywhere on the line:
  --relay ADDRESS       qpc://HOST:PORT/#FINGERPRINT as `qpc-relay address` prints it, or HOST:PORT with --ca
  --ca FILE             the relay's CA certificate (DER or PEM); --server-name NAME is the name in its own
  --user USER           who you are
  --password-file FILE  the password (one newline at the end is not part of it); else QPC_PASSWORD, else a prompt
  --new-password-file FILE  passwd: the new one; else QPC_NEW_PASSWORD, else a prompt
  --keep-key            keep a key file in the state folder: later commands need no password
  --state DIR           where keys and messages are kept; else QPC_STATE_DIR, else $XDG_STATE_HOME/quicprochat,
                        else ~/.local/state/quicprochat
  --relay-timeout TIME  how long to wait for the relay before giving up (100ms to 10m; default 10s)
  --timeout TIME        receive: how long to wait for the first message (5s, 500ms, 2m; default 5s)
  --follow              receive: go on until interrupted
  --json                receive: one JSON object a line: sender, conversation, time (the relay's), sent (the sender's),
                        id, cursor, body; times in seconds since 1970 or null; body in base64 where \"encoding\" says so
  --since CURSOR        receive, through the agent: only messages behind this one, read or not; 0 for all it has kept
  --run-dir DIR         where the agent's socket is; else QPC_RUN_DIR, else /var/run/qpc-agent
  --agent, --no-agent   only through the agent, or never; else through it where none of --relay, --user, --state is given
  --allow WHO:RIGHTS    agent: what user id WHO, or * for everybody, may do besides root, the agent's own user and the
                        group of the run directory: some of send,receive,contacts,status,notify; may be repeated
  --notify-window TIME  agent: how long events of a kind are held for a summary after the first one (default 5m)
  --lines               send: each line of standard input is a message
  --version, --help

Exit status: 0 done, 1 other failure, 2 usage, 3 relay unreachable or not the trusted one, or no agent runs,
  4 refused by the relay or the agent,
  5 bad credentials, 6 unknown recipient, or one without a device, 7 nothing came in time, 8 state folder in use or unusable,
  9 not confirmed: the message waits in the state folder and goes out with the next command; do not send it again
";

/// Why the program ends other than well.
#[derive(Debug)]
pub(crate) enum Failure {
    Usage(Usage),
    Agent(AgentError),
    Client(Error),
    Local(LocalError),
    Io { doing: &'static str, source: io::Error },
    NotUtf8,
    NoPassword,
    NothingCame,
    Interrupted,
}

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Self::Local(error)
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Client(error) => Self::Client(error),
            error => Self::Agent(error),
        }
    }
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::NotUtf8 | Self::NoPassword => 2,
            Self::Agent(_) | Self::Io { .. } => 1,
            Self::Local(error) => local::status(error),
            Self::NothingCame => 7,
            // As a shell calls what SIGINT has ended.
            Self::Interrupted => 130,
            Self::Client(error) => match error.kind() {
                ErrorKind::Invalid => 2,
                ErrorKind::Unreachable => 3,
                ErrorKind::Refused => 4,
                ErrorKind::AuthFailed | ErrorKind::NotLoggedIn => 5,
                ErrorKind::UnknownUser => 6,
                ErrorKind::Timeout => 7,
                ErrorKind::State => 8,
                ErrorKind::Queued => 9,
                ErrorKind::Other => 1,
            },
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Usage(Usage(text)) => text.clone(),
            Self::Agent(error) => error.to_string(),
            Self::Local(error) => error.to_string(),
            Self::Client(error) => error.to_string(),
            Self::Io { doing, source } => format!("{doing}: {source}"),
            Self::NotUtf8 => "the text is not UTF-8; nothing was sent".into(),
            Self::NoPassword => {
                "no password: give --password-file FILE or QPC_PASSWORD, or run it in a terminal".into()
            }
            Self::NothingCame => "no message came in time".into(),
            Self::Interrupted => "interrupted".into(),
        }
    }
}

fn main() -> ExitCode {
    let result = Args::parse(std::env::args_os().skip(1)).map_err(Failure::from).and_then(|args| run(&args));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            notice(&print::harmless(&failure.text()));
            ExitCode::from(failure.status())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Help => return write_out(HELP.as_bytes()),
        Command::Version => return write_out(concat!("qpc ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()),
        Command::Agent { allow, window } => return block_on(agent::run(args, allow, *window)),
        _ => {}
    }
    match args.agent_needed() {
        Some(needed) => match Local::connect(&args.run_dir()) {
            Err(LocalError::NoAgent) if !needed => block_on(talk(args)),
            agent => local::talk(args, agent?),
        },
        None => block_on(talk(args)),
    }
}

async fn talk(args: &Args) -> Result<(), Failure> {
    // What can be wrong with the text or the names is found before anything is sent.
    let messages = match &args.command {
        Command::Send { text, lines, .. } => outgoing(text.as_ref(), *lines)?,
        _ => Vec::new(),
    };
    if let Command::Receive { since: Some(_), .. } = args.command {
        return Err(Usage("--since is for messages that an agent has kept; none answers here".into()).into());
    }
    let endpoint = args.endpoint()?;
    let user = match &args.command {
        Command::Health => None,
        Command::Register { user, .. } => Some(user_name(user)?),
        _ => Some(args.user()?),
    };
    let recipient = match &args.command {
        Command::Send { recipient: user, .. } | Command::Accept { user } | Command::SafetyNumber { user } => {
            Some(user_name(user)?)
        }
        _ => None,
    };

    let options = options(args);
    // Also what is typed, before there is a connection: the relay does not wait for it for ever.
    let password = match &user {
        None => None,
        Some(user) => match password::find(args.password_file.as_deref(), "QPC_PASSWORD")? {
            None if matches!(args.command, Command::Register { .. }) => Some(password::ask(true)?),
            None if Client::needs_password(&endpoint, &options, user)? => Some(password::ask(false)?),
            found => found,
        },
    };
    let mut client = Client::connect(endpoint, options).await?;
    let result = serve(args, &mut client, user.as_ref(), recipient.as_ref(), password, &messages).await;
    // An earlier command has said that it would go out.
    for event in client.events().iter().filter(|event| matches!(event, Event::NotSent { .. })) {
        notice(&print::event(event));
    }
    client.disconnect().await;
    result
}

fn options(args: &Args) -> Options {
    let mut options = Options::from_environment();
    SOFTWARE.clone_into(&mut options.software);
    options.keep_key = args.keep_key;
    if let Some(state) = &args.state {
        options.state_root.clone_from(state);
    }
    if let Some(time) = args.relay_timeout {
        options.patience = time;
    }
    options
}

async fn serve(
    args: &Args,
    client: &mut Client,
    user: Option<&UserName>,
    recipient: Option<&UserName>,
    password: Option<qpc_client::Password>,
    messages: &[String],
) -> Result<(), Failure> {
    let Some(user) = user else {
        let mut out = String::new();
        if let Some(relay) = client.relay() {
            print::relay(relay, &mut out);
        }
        return write_out(out.as_bytes());
    };
    match (&args.command, &password) {
        (Command::Register { invite, .. }, Some(password)) => {
            return Ok(client.register(user, password, invite.as_deref()).await?);
        }
        (_, Some(password)) => client.login(user, password).await?,
        (_, None) => client.login_with_key_file(user).await?,
    }
    match (&args.command, recipient) {
        (Command::Send { .. }, Some(recipient)) => {
            for (index, message) in messages.iter().enumerate() {
                let sent = client.send(recipient, Kind::Text, message.as_bytes()).await;
                if sent.is_err() && messages.len() > 1 {
                    notice(&print::stopped(index, messages.len()));
                }
                let sent = sent?;
                for device in &sent.refused {
                    notice(&print::full_queue(recipient, device));
                }
            }
        }
        (Command::Accept { .. }, Some(user)) => client.accept_identity(user)?,
        (Command::Revoke { device }, _) => {
            let unknown =
                || Usage(format!("'{}' is no device; `qpc devices` lists them", device.escape_debug()));
            client.revoke(DeviceId::from_hex(device).ok_or_else(unknown)?).await?;
        }
        (Command::Passwd { new }, _) => {
            let old = password.map_or_else(|| password::ask(false), Ok)?;
            let new = password::find(new.as_deref(), "QPC_NEW_PASSWORD")?;
            let new = new.map_or_else(|| password::ask(true), Ok)?;
            client.change_password(&old, &new).await?;
        }
        (Command::SafetyNumber { .. }, Some(user)) => {
            let number = client.safety_number(user)?;
            if client.contacts()?.iter().any(|contact| contact.user == *user && contact.changed.is_some()) {
                notice(&print::new_identity(user));
            }
            write_out(format!("{number}\n").as_bytes())?;
        }
        (Command::Contacts, _) => {
            let mut out = String::new();
            for contact in client.contacts()? {
                print::contact(&contact, &mut out);
            }
            write_out(out.as_bytes())?;
        }
        (Command::Devices, _) => {
            let mut out = String::new();
            for device in client.devices().await?.devices.iter() {
                let here = client.account().is_some_and(|me| me.device == device.device);
                print::device(device, here, &mut out);
            }
            write_out(out.as_bytes())?;
        }
        (Command::Receive { timeout, follow, json, .. }, _) => {
            return receive(client, *timeout, *follow, *json).await;
        }
        _ => {}
    }
    Ok(())
}

async fn receive(client: &mut Client, timeout: Duration, follow: bool, json: bool) -> Result<(), Failure> {
    let stop =
        stop_signals().map_err(|error| Failure::Io { doing: "waiting for signals", source: error.into() })?;
    let mut patience = timeout;
    let mut came = false;
    loop {
        let received = unless(hung_up(Arc::new(io::stdout())), client.receive(patience));
        let Some(received) = unless(readable(Arc::clone(&stop)), received).await else { return Ok(()) };
        let received = received.ok_or_else(nobody_reads)?;
        let messages = match received {
            Ok(messages) => messages,
            // The relay will be back.
            Err(Error::Unreachable { .. } | Error::Timeout | Error::Resolve { .. }) if follow => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for event in client.events() {
            notice(&print::event(&event));
        }
        let mut out = String::new();
        // Receipts are for programs that ask for them.
        for message in messages.iter().filter(|message| message.kind != Kind::Receipt) {
            print::message(message, json, &mut out);
        }
        write_out(out.as_bytes())?;
        if let Some(last) = messages.last() {
            client.confirm(last.position)?;
            came = true;
        }
        match (follow, messages.is_empty()) {
            (true, _) => patience = FOLLOWING,
            // Everything there was has been printed.
            (false, true) if came => return Ok(()),
            (false, true) => return Err(Failure::NothingCame),
            (false, false) => patience = Duration::ZERO,
        }
    }
}

/// Has what ends the program otherwise wait to be read.
fn stop_signals() -> nix::Result<Descriptor> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;
    Ok(Arc::new(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
}

const SOFTWARE: &str = concat!("qpc ", env!("CARGO_PKG_VERSION"));

/// How long one wait lasts while following.
const FOLLOWING: Duration = Duration::from_secs(30);

/// The messages to send: the argument, or standard input whole, or its lines.
fn outgoing(text: Option<&OsString>, lines: bool) -> Result<Vec<String>, Failure> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => Failure::NotUtf8,
        _ => Failure::Io { doing: "reading standard input", source },
    };
    let messages = match (text, lines) {
        (Some(_), true) => {
            return Err(Usage("--lines reads standard input; leave the text out".into()).into());
        }
        (Some(text), false) => vec![text.to_str().ok_or(Failure::NotUtf8)?.to_owned()],
        (None, true) => io::stdin().lock().lines().collect::<Result<_, _>>().map_err(io)?,
        (None, false) => {
            let mut text = String::new();
            // One byte more than a message may have is enough to know.
            let limit = MAX_INPUT + 1;
            let read = io::stdin().lock().take(limit).read_to_string(&mut text);
            match read {
                Ok(_) => {}
                // Cut in the middle of a character: too long, not malformed.
                Err(error) if error.kind() == io::ErrorKind::InvalidData && text.len() as u64 + 4 > limit => {
                }
                Err(error) => return Err(io(error)),
            }
            vec![text]
        }
    };
    if let Some(long) = messages.iter().find(|message| message.len() as u64 > MAX_INPUT) {
        return Err(Error::MessageTooLong(long.len()).into());
    }
    Ok(messages)
}

/// Bytes of a message's body.
const MAX_INPUT: u64 = qpc_client::MAX_BODY as u64;

/// Says something on standard error. If nobody can hear it, the work goes on all the same.
fn notice(text: &str) {
    let _ = writeln!(io::stderr(), "qpc: {text}");
}

fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|source| Failure::Io { doing: PRINTING, source })
}

/// What [`write_out`] would say.
fn nobody_reads() -> Failure {
    Failure::Io { doing: PRINTING, source: io::ErrorKind::BrokenPipe.into() }
}

const PRINTING: &str = "printing";
