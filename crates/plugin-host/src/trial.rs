//! Trying a plugin where it can do no harm: in a child.

use crate::{LoadError, Plugin, TRIAL_TIME, library};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

/// Loads a plugin in a child and tells how that went. The child ends by `_exit`: what the plugin would do at the end of a process is not
/// done twice.
pub(crate) fn run(plugin: &Plugin) -> Result<(), LoadError> {
    let (reader, writer) = io::pipe().map_err(LoadError::Trial)?;
    // SAFETY: the child has memory of its own. A lock that another thread holds stays held there, and at worst it hangs and is killed.
    match unsafe { fork() }.map_err(|error| LoadError::Trial(error.into()))? {
        ForkResult::Child => {
            drop(reader);
            child(plugin, writer)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let report = wait(reader);
            if !matches!(report, Ok(Some(_))) {
                // It may have ended already.
                let _ = kill(child, Signal::SIGKILL);
            }
            judge(report, reap(child))
        }
    }
}

fn child(plugin: &Plugin, mut report: PipeWriter) -> ! {
    // A crash here is an answer, and nothing to keep a memory dump of.
    let _ = prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let text = match library::load(plugin) {
        Ok(_) => OK.to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = report.write_all(&text.as_bytes()[..text.len().min(MAX_REPORT)]);
    // SAFETY: nothing of this process is to be cleaned up: it is the parent's.
    unsafe { nix::libc::_exit(0) }
}

/// The child's report; `None` if it took too long.
fn wait(mut reader: PipeReader) -> io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + TRIAL_TIME;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_zero() => return Ok(None),
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // It is written at once, being shorter than a pipe.
    let mut report = vec![0; MAX_REPORT];
    let len = reader.read(&mut report)?;
    report.truncate(len);
    Ok(Some(report))
}

fn reap(child: Pid) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(nix::Error::EINTR) => {}
            other => return other,
        }
    }
}

fn judge(report: io::Result<Option<Vec<u8>>>, ended: nix::Result<WaitStatus>) -> Result<(), LoadError> {
    let Some(report) = report.map_err(LoadError::Trial)? else {
        let seconds = TRIAL_TIME.as_secs();
        return Err(LoadError::Unfit(format!("it was not initialised within {seconds} seconds")));
    };
    if report == OK.as_bytes() {
        return Ok(());
    }
    let what = match ended {
        _ if !report.is_empty() => String::from_utf8_lossy(&report).into_owned(),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("it crashed when it was initialised ({signal})"),
        _ => "it ended the process when it was initialised".to_owned(),
    };
    Err(LoadError::Unfit(what))
}

/// What a child says whose plugin works; no message of an error is this.
const OK: &str = "ok";
/// Bytes of a report: POSIX's bound for what is written to a pipe in one piece.
const MAX_REPORT: usize = 512;
