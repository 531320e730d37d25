//! A program's side: a connection to the agent of this machine.

use crate::protocol::{Answer, FromAgent, FromProgram, Refused, Request, SERVICE, VERSION};
use nix::sys::socket::{MsgFlags, recv};
use qpc_ipc::{HEADER, MAX_PAYLOAD, frame};
use qpc_proto::wire::Message;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It closed the connection. Whether it did what it was asked is not known.
    #[error("the agent has closed the connection; whether it did what it was asked is not known")]
    Gone,
    /// It closed the connection before it was asked: it did nothing, and the agent that has taken its place can be asked.
    #[error("the agent has closed the connection before it was asked")]
    NotAsked,
    /// What came is not of this protocol.
    #[error("what answers in the run directory is no agent of this version")]
    Garbled,
    /// No agent runs there.
    #[error("no agent answers in the run directory")]
    NoAgent,
    /// It refused.
    #[error("{}", &*.0.reason)]
    Refused(Refused),
    /// From the operating system.
    #[error("cannot talk to the agent: {0}")]
    System(#[from] io::Error),
    /// It did not answer in time.
    #[error("the agent did not answer in time")]
    Timeout,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Local {
    stream: UnixStream,
    last_id: u32,
    /// What came and is no whole message yet.
    received: Vec<u8>,
    /// What came while something else was waited for.
    early: VecDeque<(u32, Answer)>,
    /// The last request did not reach it.
    unheard: bool,
}

impl Local {
    /// Connects to the agent in a run directory.
    pub fn connect(run_dir: &Path) -> Result<Self, LocalError> {
        let stream = UnixStream::connect(run_dir.join(OsStr::from_bytes(SERVICE))).map_err(|error| {
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
                    LocalError::NoAgent
                }
                _ => error.into(),
            }
        })?;
        // It reads what it is sent, if not at once.
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, last_id: 0, received: Vec::new(), early: VecDeque::new(), unheard: false })
    }

    /// Asks for something that has one answer, and waits for it.
    pub fn ask(&mut self, request: impl Into<Request>) -> Result<Answer, LocalError> {
        let id = self.start(request)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.receive(Some(until))? {
                None => return Err(LocalError::Timeout),
                // Said of the connection, not of a request: it is about to be closed.
                Some((0, Answer::Refused(refused))) => return Err(LocalError::Refused(refused)),
                Some((of, answer)) if of == id => {
                    return match answer {
                        Answer::Refused(refused) => Err(LocalError::Refused(refused)),
                        answer => Ok(answer),
                    };
                }
                Some(other) => self.early.push_back(other),
            }
        }
    }

    /// Asks for something; what [`Local::next`] gives with this id answers it.
    pub fn start(&mut self, request: impl Into<Request>) -> Result<u32, LocalError> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let id = self.last_id;
        let message = FromProgram { version: VERSION, id, request: Some(request.into()) };
        let bytes = frame(&message.encode()).map_err(|_| LocalError::Garbled)?;
        match self.stream.write_all(&bytes) {
            Ok(()) => Ok(id),
            // It may have said why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.unheard = true;
                Ok(id)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the agent says next, with the id of the request it answers; `None` if it says nothing until then.
    pub fn next(&mut self, until: Option<Instant>) -> Result<Option<(u32, Answer)>, LocalError> {
        match self.early.pop_front() {
            Some(early) => Ok(Some(early)),
            None => self.receive(until),
        }
    }

    fn receive(&mut self, until: Option<Instant>) -> Result<Option<(u32, Answer)>, LocalError> {
        loop {
            if let Some(found) = self.take()? {
                return Ok(Some(found));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let mut bytes = [0; 4096];
            // What is there already is read in any case.
            let read = if left == Some(Duration::ZERO) {
                recv(self.stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
            } else {
                self.stream.set_read_timeout(left)?;
                self.stream.read(&mut bytes)
            };
            match read {
                Ok(0) => return Err(self.gone()),
                Ok(read) => self.received.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(self.gone()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn gone(&self) -> LocalError {
        if self.unheard { LocalError::NotAsked } else { LocalError::Gone }
    }

    /// The first whole message of what was received.
    fn take(&mut self) -> Result<Option<(u32, Answer)>, LocalError> {
        let Some(header) = self.received.first_chunk::<HEADER>() else { return Ok(None) };
        let end = HEADER + usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX - HEADER);
        if end > HEADER + MAX_PAYLOAD {
            return Err(LocalError::Garbled);
        }
        let Some(message) = self.received.get(HEADER..end) else { return Ok(None) };
        let message = FromAgent::decode(message).map_err(|_| LocalError::Garbled)?;
        self.received.drain(..end);
        Ok(Some((message.id, message.answer.ok_or(LocalError::Garbled)?)))
    }
}

impl AsFd for Local {
    /// Readable when [`Local::next`] may have something; not for what it has received already.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// How long an answer may take: longer than the agent may be busy with the relay.
const PATIENCE: Duration = Duration::from_secs(90);
