//! Where the password comes from: a file, the environment or the terminal, never an argument.

use crate::Failure;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
use qpc_client::Password;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// The password given by file or environment variable, if any.
pub(crate) fn find(file: Option<&Path>, variable: &str) -> Result<Option<Password>, Failure> {
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
    match std::env::var(variable) {
        Ok(text) => Ok(Some(Password::new(&text)?)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::Usage(crate::Usage(format!("{variable} is not UTF-8"))))
        }
    }
}

/// Asks at the terminal, twice for a new password.
pub(crate) fn ask(new: bool) -> Result<Password, Failure> {
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Err(Failure::NoPassword);
    };
    let first = prompt(&mut terminal, if new { "New password: " } else { "Password: " })?;
    if new && prompt(&mut terminal, "Again: ")? != first {
        return Err(Failure::Usage(crate::Usage("the two passwords differ".into())));
    }
    Ok(Password::new(&first)?)
}

fn prompt(terminal: &mut File, text: &str) -> Result<String, Failure> {
    let io = |source: io::Error| Failure::Io { doing: "asking for the password", source };
    let before = tcgetattr(&*terminal).map_err(|error| io(error.into()))?;
    let mut hidden = before.clone();
    // Keys one by one, Ctrl-C among them: as a signal it would end the program and leave the terminal like this.
    hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
    hidden.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    hidden.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    tcsetattr(&*terminal, SetArg::TCSAFLUSH, &hidden).map_err(|error| io(error.into()))?;
    let line = terminal.write_all(text.as_bytes()).and_then(|()| read_line(terminal));
    tcsetattr(&*terminal, SetArg::TCSAFLUSH, &before).map_err(|error| io(error.into()))?;
    terminal.write_all(b"\n").map_err(io)?;
    let line = line.map_err(io)?.ok_or(Failure::Interrupted)?;
    String::from_utf8(line).map_err(|_| Failure::Usage(crate::Usage("the password is not UTF-8".into())))
}

/// A line typed key by key, with the keys that a terminal gives a meaning; `None` if it was interrupted.
fn read_line(terminal: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let mut key = [0];
        terminal.read_exact(&mut key)?;
        match key[0] {
            b'\r' | b'\n' | END => return Ok(Some(line)),
            INTERRUPT | QUIT => return Ok(None),
            BACKSPACE | DELETE => {
                // A character, not a byte of it.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            KILL => line.clear(),
            SUSPEND => {}
            byte => line.push(byte),
        }
    }
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15;
const SUSPEND: u8 = 0x1a;
const QUIT: u8 = 0x1c;
const DELETE: u8 = 0x7f;
