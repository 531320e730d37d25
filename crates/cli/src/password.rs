//! Where the password comes from: a file, the environment or the terminal, never an argument.

use crate::Failure;
use qpc_client::Password;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// The password given by file or environment, if any.
pub(crate) fn find(file: Option<&Path>) -> Result<Option<Password>, Failure> {
    if let Some(path) = file {
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => {
                Failure::Usage(crate::Usage("the password file is not UTF-8".into()))
            }
            _ => Failure::Io { doing: "reading the password file", source },
        })?;
        // One newline at the end is the editor's, not the password's.
        let text =
            text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
        return Ok(Some(Password::new(text)?));
    }
    match std::env::var("QPC_PASSWORD") {
        Ok(text) => Ok(Some(Password::new(&text)?)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::Usage(crate::Usage("QPC_PASSWORD is not UTF-8".into())))
        }
    }
}

/// Asks at the terminal, twice for a new password.
pub(crate) fn ask(new: bool) -> Result<Password, Failure> {
    let io = |source| Failure::Io { doing: "asking for the password", source };
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Err(Failure::NoPassword);
    };
    let first = prompt(&mut terminal, "Password: ").map_err(io)?;
    if new && prompt(&mut terminal, "Again: ").map_err(io)? != first {
        return Err(Failure::Usage(crate::Usage("the two passwords differ".into())));
    }
    Ok(Password::new(&first)?)
}

fn prompt(terminal: &mut File, text: &str) -> io::Result<String> {
    let shown = tcgetattr(&*terminal)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    terminal.write_all(text.as_bytes())?;
    tcsetattr(&*terminal, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = BufReader::new(&*terminal).read_line(&mut line);
    tcsetattr(&*terminal, OptionalActions::Flush, &shown)?;
    terminal.write_all(b"\n")?;
    read?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}
