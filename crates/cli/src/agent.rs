//! `qpc agent`: logs in once with the password, then by the key file, and serves.

use crate::args::Args;
use crate::{Failure, SOFTWARE, options, password, print, stop_signals};
use qpc_agent::rights::Rule;
use qpc_agent::server::{Options, Server};
use qpc_agent::service::Config;
use qpc_client::executor::{Descriptor, readable, sleep, timeout, unless};
use qpc_client::{Client, Error, ErrorKind, Password, RelayEndpoint, UserName};
use qpc_proto::message::ErrorCode;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn run(args: &Args, rules: &[Rule], window: Duration) -> Result<(), Failure> {
    let result = serve(args, rules, window).await;
    if let Err(Failure::Client(error)) = &result
        && is_lasting(error)
    {
        log(&format!("{error}; ends in {} minutes", LAST_PAUSE.as_secs() / 60));
        // A signal that has come before is still there.
        if let Ok(stop) = stop_signals() {
            timeout(LAST_PAUSE, readable(stop)).await;
        }
    }
    result
}

/// What the relay answers, and will answer again before its owner or the agent's does something. Whoever starts ended services
/// again does so every few seconds, and each time the relay would be asked.
fn is_lasting(error: &Error) -> bool {
    matches!(error, Error::Protocol)
        || matches!(error.kind(), ErrorKind::Refused | ErrorKind::AuthFailed | ErrorKind::NotLoggedIn)
}

async fn serve(args: &Args, rules: &[Rule], window: Duration) -> Result<(), Failure> {
    let (endpoint, user) = (args.endpoint()?, args.user()?);
    let relay = args.relay.as_deref().unwrap_or_default();
    let server = Server::new(Options {
        run_dir: args.run_dir(),
        rules: rules.to_vec(),
        config: Config { software: SOFTWARE.to_owned(), relay: relay.to_owned(), window },
        describe: print::event,
        log,
    })?;
    let mut options = options(args);
    (options.keep_key, options.keep_inbox) = (true, true);
    let stop =
        stop_signals().map_err(|error| Failure::Io { doing: "waiting for signals", source: error.into() })?;
    if Client::needs_password(&endpoint, &options, &user)? {
        let password = password::find(args.password_file.as_deref(), "QPC_PASSWORD")?;
        let password = password.map_or_else(|| password::ask(false), Ok)?;
        let enrolled = enrol(&endpoint, &options, &user, &password);
        let Some(enrolled) = unless(readable(Arc::clone(&stop)), enrolled).await else { return Ok(()) };
        enrolled?;
    }
    // Also right after the login: as after every later start, and without what that took of memory.
    let client = Client::open(endpoint, options, &user)?;
    log("serving programs");
    let stop: Descriptor = stop;
    Ok(server.run(client, stop).await?)
}

/// Logs in with the password, which leaves a key file. A relay that cannot be reached, or is not well, is waited for.
async fn enrol(
    endpoint: &RelayEndpoint,
    options: &qpc_client::Options,
    user: &UserName,
    password: &Password,
) -> Result<(), Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match Client::connect(endpoint.clone(), options.clone()).await {
            Ok(mut client) => match client.login(user, password).await {
                Ok(()) => {
                    client.disconnect().await;
                    return Ok(());
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let Some(least) = passes(&error) else { return Err(error.into()) };
        log(&format!("cannot log in yet: {error}"));
        sleep(pause.max(least)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How long to wait at least before trying again, if that can help.
fn passes(error: &Error) -> Option<Duration> {
    match error {
        Error::Refused { code: ErrorCode::RateLimited | ErrorCode::Busy, detail, .. } => {
            Some(Duration::from_secs(*detail).min(LONGEST_WAIT))
        }
        Error::Refused {
            code:
                ErrorCode::Internal
                | ErrorCode::StorageFailed
                | ErrorCode::StorageFull
                | ErrorCode::StorageReadOnly,
            ..
        } => Some(Duration::ZERO),
        error if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => Some(Duration::ZERO),
        _ => None,
    }
}

fn log(text: &str) {
    // Without a log the agent serves programs all the same.
    let _ = writeln!(std::io::stderr(), "qpc agent: {}", print::harmless(text));
}

/// Before the end, if that has a reason that lasts.
const LAST_PAUSE: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// However long the relay says.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_relay_says_decides_whether_to_wait() {
        let refused = |code, detail| passes(&Error::Refused { code, reason: String::new(), detail });
        assert_eq!(refused(ErrorCode::RateLimited, 90), Some(Duration::from_secs(90)));
        assert_eq!(refused(ErrorCode::Busy, u64::MAX), Some(LONGEST_WAIT));
        // Here it says something else.
        assert_eq!(refused(ErrorCode::StorageFull, 90), Some(Duration::ZERO));
        assert_eq!(refused(ErrorCode::Rejected, 0), None);
        assert_eq!((passes(&Error::Timeout), passes(&Error::AuthFailed)), (Some(Duration::ZERO), None));
    }
}
