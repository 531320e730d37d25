//! The command line.

use lexopt::prelude::*;
use qpc_agent::rights::Rule;
use qpc_client::{RelayAddress, RelayEndpoint, UserName};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) command: Command,
    pub(crate) relay: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) keep_key: bool,
    pub(crate) run_dir: Option<PathBuf>,
    pub(crate) relay_timeout: Option<Duration>,
    pub(crate) through: Through,
}

/// Who does what is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Through {
    /// The agent, or nobody.
    Agent,
    /// The agent if one answers and the command line does not say whose session to use.
    Either,
    /// A session of this program's own.
    Own,
}

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    Health,
    Register { user: String, invite: Option<String> },
    Login,
    Send { recipient: String, text: Option<OsString>, lines: bool },
    Receive { timeout: Duration, follow: bool, json: bool, since: Option<u64> },
    Agent { allow: Vec<Rule>, window: Duration },
    Status,
    Notify { recipient: String, kind: String, text: Option<OsString> },
    Devices,
    Contacts,
    SafetyNumber { user: String },
    Accept { user: String },
    Revoke { device: String },
    Passwd { new: Option<PathBuf> },
}

/// A command line that makes no sense, and what to do about it.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        match error {
            lexopt::Error::UnexpectedValue { option, .. } => Self(format!("{option} takes no value")),
            error => Self(error.to_string()),
        }
    }
}

impl Args {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Usage> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut words: Vec<OsString> = Vec::new();
        let (mut invite, mut timeout, mut new_password) = (None, None, None);
        let (mut lines, mut follow, mut json) = (false, false, false);
        let (mut since, mut window, mut allow) = (None, None, Vec::new());
        let mut args = Self {
            command: Command::Help,
            relay: None,
            ca: None,
            server_name: None,
            state: None,
            user: None,
            password_file: None,
            keep_key: false,
            run_dir: None,
            relay_timeout: None,
            through: Through::Either,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("relay") => args.relay = Some(parser.value()?.string()?),
                Long("ca") => args.ca = Some(parser.value()?.into()),
                Long("server-name") => args.server_name = Some(parser.value()?.string()?),
                Long("state") => args.state = Some(parser.value()?.into()),
                Long("user") => args.user = Some(parser.value()?.string()?),
                Long("password-file") => args.password_file = Some(parser.value()?.into()),
                Long("new-password-file") => new_password = Some(parser.value()?.into()),
                Long("keep-key") => args.keep_key = true,
                Long("run-dir") => args.run_dir = Some(parser.value()?.into()),
                Long("relay-timeout") => {
                    args.relay_timeout = Some(relay_timeout(&parser.value()?.string()?)?)
                }
                Long("agent") => args.through = Through::Agent,
                Long("no-agent") => args.through = Through::Own,
                Long("allow") => allow.push(rule(&parser.value()?.string()?)?),
                Long("notify-window") => window = Some(duration(&parser.value()?.string()?)?),
                Long("since") => since = Some(cursor(&parser.value()?.string()?)?),
                Long("invite") => invite = Some(parser.value()?.string()?),
                Long("timeout") => timeout = Some(duration(&parser.value()?.string()?)?),
                Long("lines") => lines = true,
                Long("follow") => follow = true,
                Long("json") => json = true,
                Long("help") | Short('h') => return Ok(args),
                Long("version") | Short('V') => return Ok(Self { command: Command::Version, ..args }),
                Value(word) => words.push(word),
                other => return Err(other.unexpected().into()),
            }
        }
        let mut words = words.into_iter();
        let name = match words.next() {
            Some(name) => name.string()?,
            None => return Err(Usage("say what to do; `qpc --help` lists the commands".into())),
        };
        let mut word = |what: &str| -> Result<String, Usage> {
            let missing = || Usage(format!("`qpc {name}` needs {what}"));
            Ok(words.next().ok_or_else(missing)?.string()?)
        };
        args.command = match name.as_str() {
            "help" => return Ok(args),
            "health" => Command::Health,
            "register" => Command::Register { user: word("a user name")?, invite: invite.take() },
            "login" => Command::Login,
            "send" => {
                let recipient = word("a recipient")?;
                Command::Send { recipient, text: words.next(), lines: std::mem::take(&mut lines) }
            }
            "receive" => Command::Receive {
                timeout: timeout.take().unwrap_or(Duration::from_secs(5)),
                follow: std::mem::take(&mut follow),
                json: std::mem::take(&mut json),
                since: since.take(),
            },
            "agent" => Command::Agent {
                allow: std::mem::take(&mut allow),
                window: window.take().unwrap_or(Duration::from_secs(300)),
            },
            "status" => Command::Status,
            "notify" => Command::Notify {
                recipient: word("a recipient")?,
                kind: word("a kind of event, such as wan")?,
                text: words.next(),
            },
            "devices" => Command::Devices,
            "contacts" => Command::Contacts,
            "safety-number" => Command::SafetyNumber { user: word("a user name")? },
            "accept" => Command::Accept { user: word("a user name")? },
            "revoke" => Command::Revoke { device: word("a device, as `qpc devices` lists it")? },
            "passwd" => Command::Passwd { new: new_password.take() },
            other => {
                return Err(Usage(format!(
                    "'{}' is no command; `qpc --help` lists them",
                    other.escape_debug()
                )));
            }
        };
        if let Some(extra) = words.next() {
            return Err(Usage(format!(
                "'{}' is one argument too many; put a text with spaces in quotes",
                extra.display()
            )));
        }
        let misplaced = [
            (invite.is_some(), "--invite"),
            (timeout.is_some(), "--timeout"),
            (lines, "--lines"),
            (follow, "--follow"),
            (json, "--json"),
            (new_password.is_some(), "--new-password-file"),
            (since.is_some(), "--since"),
            (window.is_some(), "--notify-window"),
            (!allow.is_empty(), "--allow"),
        ];
        if let Some((_, option)) = misplaced.iter().find(|(given, _)| *given) {
            return Err(Usage(format!("{option} does not go with `qpc {name}`")));
        }
        Ok(args)
    }

    /// Whether an agent does it: must, may if there is one, or must not.
    pub(crate) fn agent_needed(&self) -> Option<bool> {
        let own = self.relay.is_some() || self.user.is_some() || self.state.is_some();
        match &self.command {
            Command::Status | Command::Notify { .. } => Some(true),
            Command::Accept { .. }
            | Command::Contacts
            | Command::Devices
            | Command::Receive { .. }
            | Command::SafetyNumber { .. }
            | Command::Send { .. } => match self.through {
                Through::Agent => Some(true),
                Through::Either => (!own).then_some(false),
                Through::Own => None,
            },
            _ => None,
        }
    }

    /// Where an agent's socket is.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(qpc_agent::run_dir)
    }

    /// The relay to talk to.
    pub(crate) fn endpoint(&self) -> Result<RelayEndpoint, crate::Failure> {
        let relay = self.relay.as_deref().ok_or_else(|| {
            Usage(
                "say which relay: --relay qpc://HOST:PORT/#FINGERPRINT, as `qpc-relay address` prints it"
                    .into(),
            )
        })?;
        match &self.ca {
            Some(ca) => {
                let name = self.server_name.as_deref().unwrap_or("localhost");
                Ok(RelayEndpoint::with_ca(relay, ca, name)?)
            }
            None => Ok(relay.parse::<RelayAddress>().map_err(qpc_client::Error::from)?.into()),
        }
    }

    /// The user to log in as.
    pub(crate) fn user(&self) -> Result<UserName, crate::Failure> {
        let user = self.user.as_deref().ok_or_else(|| Usage("say who you are: --user NAME".into()))?;
        Ok(user_name(user)?)
    }
}

pub(crate) fn user_name(text: &str) -> Result<UserName, qpc_client::Error> {
    UserName::new(text).map_err(qpc_client::Error::from)
}

fn rule(text: &str) -> Result<Rule, Usage> {
    text.parse().map_err(|error| Usage(format!("--allow '{}': {error}", text.escape_debug())))
}

fn cursor(text: &str) -> Result<u64, Usage> {
    let invalid =
        |_| Usage(format!("--since '{}': give the \"cursor\" of a message, or 0", text.escape_debug()));
    text.parse().map_err(invalid)
}

/// `5s`, `500ms`, `2m`, or plain seconds.
fn duration(text: &str) -> Result<Duration, Usage> {
    let invalid = || Usage(format!("'{}' is no duration; write 5s, 500ms or 2m", text.escape_debug()));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits.parse().map_err(|_| invalid())?;
    let number = u64::from(number);
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(invalid()),
    }
}

fn relay_timeout(text: &str) -> Result<Duration, Usage> {
    let time = duration(text)?;
    if !(Duration::from_millis(100)..=Duration::from_secs(600)).contains(&time) {
        return Err(Usage(format!("--relay-timeout '{}': give 100ms to 10m", text.escape_debug())));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, Usage> {
        Args::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_stand_anywhere() {
        for line in ["--user bob receive --timeout 500ms --json", "receive --json --timeout 500ms --user bob"]
        {
            let args = parse(line).unwrap();
            assert_eq!(args.user.as_deref(), Some("bob"));
            let Command::Receive { timeout, follow, json, since: None } = args.command else {
                panic!("{line}")
            };
            assert_eq!((timeout, follow, json), (Duration::from_millis(500), false, true));
        }
    }

    #[test]
    fn nonsense_says_what_to_do() {
        for (line, part) in [
            ("", "what to do"),
            ("dance", "no command"),
            ("send", "needs a recipient"),
            ("send bob two words", "quotes"),
            ("send bob --json", "--json"),
            ("revoke", "needs a device"),
            ("login --new-password-file x", "--new-password-file"),
            ("receive --timeout soon", "duration"),
            ("login --relay-timeout 11m", "100ms to 10m"),
            ("login --relay-timeout 0", "100ms to 10m"),
            ("receive --since yesterday", "cursor"),
            ("send bob x --since 1", "--since"),
            ("agent --allow bob:send", "UID:RIGHT"),
            ("status --allow 1:send", "--allow"),
            ("notify bob", "needs a kind"),
            ("receive --timeout 99999999999", "duration"),
            ("--frobnicate", "frobnicate"),
        ] {
            let Usage(text) = parse(line).unwrap_err();
            assert!(text.contains(part), "{line}: {text}");
        }
    }
}
