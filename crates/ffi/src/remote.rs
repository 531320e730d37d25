//! What stands in for a client where an agent has the session.

use crate::handle::{Failure, QPC_ERROR, QPC_NOT_CONNECTED, QPC_UNCONFIRMED, Told};
use qpc_agent::local::{Local, LocalError};
use qpc_agent::protocol::{
    Accept, Answer, Code, CompareWith, Devices, ListDevices, MAX_WAIT, MarkRead, Receive, Request, Send, Sent,
};
use qpc_client::executor::{Descriptor, readable, sleep_until};
use qpc_client::reactor::Reactor;
use qpc_client::{Error, Kind, Message, Update, UserName};
use qpc_proto::wire::Blob;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An agent, connected to again when it was restarted.
pub(crate) struct Remote {
    run_dir: PathBuf,
    /// For how long to wait until the relay confirms.
    patience: Duration,
    agent: Option<Local>,
    /// The same socket to wait for, once the agent was asked for messages.
    socket: Option<Descriptor>,
    /// It has said that there are no more messages for now.
    caught_up: bool,
    /// The last message that the program was given.
    given: Option<u64>,
    /// The last one that the program's loop was given, until the agent has said that it knows.
    unconfirmed: Option<u64>,
    /// The last one that it was told of.
    marked: Option<u64>,
    told_connected: bool,
    retry_at: Option<Instant>,
}

impl Remote {
    pub(crate) fn connect(run_dir: PathBuf, patience: Duration) -> Result<Self, Failure> {
        let agent = Some(Local::connect(&run_dir)?);
        Ok(Self {
            run_dir,
            patience,
            agent,
            socket: None,
            caught_up: false,
            given: None,
            unconfirmed: None,
            marked: None,
            told_connected: false,
            retry_at: None,
        })
    }

    /// Sends a message, and waits for the relay to have it if `waits`. What the agent may have or not is
    /// unconfirmed too.
    pub(crate) fn send(
        &mut self,
        recipient: &UserName,
        kind: Kind,
        body: &[u8],
        waits: bool,
    ) -> Result<Sent, Failure> {
        let body = Blob::new(body.to_vec()).map_err(|body| Error::MessageTooLong(body.len()))?;
        let patience = u32::try_from(self.patience.as_millis()).unwrap_or(MAX_WAIT);
        let wait = if waits { patience.clamp(1, MAX_WAIT) } else { 0 };
        match self.ask(Send { recipient: recipient.clone(), kind, body, wait }) {
            Ok(Answer::Sent(sent)) => Ok(sent),
            Ok(_) => Err(LocalError::Garbled.into()),
            // Sent again it could come twice.
            Err(error @ (LocalError::Gone | LocalError::Timeout)) => {
                Err(Failure::new(QPC_UNCONFIRMED, error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What nobody has read yet, or else comes in time.
    pub(crate) fn receive(&mut self, patience: Duration) -> Result<Vec<Message>, Failure> {
        let until = Instant::now() + patience;
        let (mut messages, mut again) = (Vec::new(), false);
        while messages.len() < AT_ONCE {
            self.follow()?;
            let caught_up = self.caught_up;
            let next = self.try_with(|agent| match (messages.is_empty(), caught_up) {
                (true, true) => agent.next(Some(until)),
                // What it has it gives, however impatient the program is.
                _ => agent.next(Some(until + SLACK)),
            });
            let next = match next {
                // They are the program's now: the next call asks for what is behind them.
                Err(_) if !messages.is_empty() => break,
                // Since the last call it may have been started again.
                Err(LocalError::Gone | LocalError::NotAsked) if !again => {
                    again = true;
                    continue;
                }
                next => next?,
            };
            match next {
                Some((_, Answer::Item(item))) => {
                    self.caught_up = false;
                    self.given = Some(item.position);
                    messages.push(item.into());
                }
                Some((_, Answer::CaughtUp(_))) => {
                    self.caught_up = true;
                    if !messages.is_empty() {
                        break;
                    }
                }
                Some((_, Answer::Refused(refused))) => {
                    (self.agent, self.socket) = (None, None);
                    if messages.is_empty() {
                        return Err(LocalError::Refused(refused).into());
                    }
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(messages)
    }

    /// The messages up to this position are the program's own for good.
    pub(crate) fn confirm(&mut self, position: u64) -> Result<(), Failure> {
        Ok(self.ask(MarkRead { position }).map(drop)?)
    }

    /// The same with what its loop was given.
    pub(crate) fn confirm_given(&mut self) -> Result<(), Failure> {
        self.unconfirmed.map_or(Ok(()), |position| self.confirm(position))
    }

    pub(crate) fn devices(&mut self) -> Result<Devices, Failure> {
        match self.ask(ListDevices {})? {
            Answer::Devices(devices) => Ok(devices),
            _ => Err(LocalError::Garbled.into()),
        }
    }

    pub(crate) fn safety_number(&mut self, user: &UserName) -> Result<String, Failure> {
        match self.ask(CompareWith { user: user.clone() })? {
            Answer::SafetyNumber(number) => Ok(number.digits.to_string()),
            _ => Err(LocalError::Garbled.into()),
        }
    }

    pub(crate) fn accept(&mut self, user: &UserName) -> Result<(), Failure> {
        Ok(self.ask(Accept { user: user.clone() }).map(drop)?)
    }

    /// The next thing that happens, if something has; else the reactor wakes the program's loop when it may have.
    pub(crate) fn next(&mut self, reactor: &mut Reactor) -> Result<Option<Told>, Failure> {
        loop {
            if let Some(at) = self.retry_at
                && reactor.poll(pin!(sleep_until(at)))?.is_pending()
            {
                return Ok(None);
            }
            let came = match self.follow() {
                Ok(()) if !std::mem::replace(&mut self.told_connected, true) => {
                    return Ok(Some(Told::Update(Update::Connected)));
                }
                Ok(()) => self.try_with(|agent| agent.next(Some(Instant::now()))),
                Err(error) => Err(error),
            };
            match came {
                Ok(None) => {
                    let Some(socket) = self.socket.clone() else { return Ok(None) };
                    if reactor.poll(pin!(readable(socket)))?.is_pending() {
                        return Ok(None);
                    }
                }
                Ok(Some((_, Answer::Item(item)))) => {
                    (self.given, self.unconfirmed) = (Some(item.position), Some(item.position));
                    return Ok(Some(Told::Update(Update::Message(item.into()))));
                }
                // The program has had all of it and has come back.
                Ok(Some((_, Answer::CaughtUp(_)))) => {
                    if let Some(position) = self.unconfirmed {
                        self.try_with(|agent| agent.start(MarkRead { position }))?;
                        self.marked = self.unconfirmed;
                    }
                }
                Ok(Some((_, Answer::Done(_)))) => {
                    if self.unconfirmed == self.marked.take() {
                        self.unconfirmed = None;
                    }
                }
                Ok(Some((_, Answer::Refused(refused)))) => {
                    reactor.rest()?;
                    return Err(LocalError::Refused(refused).into());
                }
                Ok(Some((_, Answer::Happened(happened)))) => {
                    return Ok(Some(Told::Note(happened.text.to_string())));
                }
                Ok(Some(_)) => {}
                Err(LocalError::Gone | LocalError::NotAsked | LocalError::NoAgent) => {
                    self.retry_at = Some(Instant::now() + AGAIN);
                    if std::mem::replace(&mut self.told_connected, false) {
                        let reason = "the agent is gone".to_owned();
                        return Ok(Some(Told::Update(Update::Disconnected { reason })));
                    }
                }
                Err(error) => {
                    reactor.rest()?;
                    return Err(error.into());
                }
            }
        }
    }

    /// Has the agent send messages over this connection.
    fn follow(&mut self) -> Result<(), LocalError> {
        if self.agent.is_some() && self.socket.is_some() {
            return Ok(());
        }
        let (since, unread) = (self.given.unwrap_or(0), self.given.is_none());
        self.try_with(|agent| agent.start(Receive { since, unread }))?;
        let socket = self.agent.as_ref().map(|agent| agent.as_fd().try_clone_to_owned()).transpose()?;
        self.socket = socket.map(|socket| -> Descriptor { Arc::new(socket) });
        (self.caught_up, self.retry_at) = (false, None);
        Ok(())
    }

    /// Asks for something that has one answer. If the agent was started again since the last call, the new one is asked.
    fn ask(&mut self, request: impl Into<Request>) -> Result<Answer, LocalError> {
        let request = request.into();
        match self.try_with(|agent| agent.ask(request.clone())) {
            Err(LocalError::NotAsked) => self.try_with(|agent| agent.ask(request)),
            answer => answer,
        }
    }

    /// Talks with the agent, or after an error with the one that has taken its place.
    fn try_with<T>(
        &mut self,
        ask: impl FnOnce(&mut Local) -> Result<T, LocalError>,
    ) -> Result<T, LocalError> {
        let agent = match &mut self.agent {
            Some(agent) => agent,
            none => none.insert(Local::connect(&self.run_dir)?),
        };
        let result = ask(agent);
        if !matches!(result, Ok(_) | Err(LocalError::Refused(_))) {
            (self.agent, self.socket) = (None, None);
        }
        result
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        let code = match &error {
            LocalError::Refused(refused) if refused.code == Code::NotLoggedIn => QPC_NOT_CONNECTED,
            _ => QPC_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

/// Messages received at a time.
const AT_ONCE: usize = 64;
/// How much longer an agent may be busy with the relay.
const SLACK: Duration = Duration::from_secs(30);
/// How long to wait before looking whether the agent is back.
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{qpc_connect_agent, qpc_disconnect};
    use crate::handle::{QPC_OK, QPC_TIMEOUT};
    use crate::messages::{qpc_messages_free, qpc_receive_messages};
    use qpc_agent::protocol::{CaughtUp, Done, FromAgent, FromProgram, Item, Request, SERVICE};
    use qpc_client::{ConversationId, DeviceId, Durability, MessageId};
    use qpc_proto::wire::{List, Message as _};
    use std::ffi::{CString, OsStr};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::ptr::{null, null_mut};
    use std::thread;

    /// What answers in place of an agent, and can go at any moment.
    fn listen(dir: &Path) -> UnixListener {
        UnixListener::bind(dir.join(OsStr::from_bytes(SERVICE))).unwrap()
    }

    fn asked(program: &mut UnixStream) -> (u32, Request) {
        let mut header = [0; 4];
        program.read_exact(&mut header).unwrap();
        let mut message = vec![0; u32::from_be_bytes(header) as usize];
        program.read_exact(&mut message).unwrap();
        let asked = FromProgram::decode(&message).unwrap();
        (asked.id, asked.request.unwrap())
    }

    fn say(program: &mut UnixStream, id: u32, answer: impl Into<Answer>) {
        let message = FromAgent { id, answer: Some(answer.into()) }.encode();
        let length = u32::try_from(message.len()).unwrap();
        program.write_all(&[&length.to_be_bytes()[..], &message].concat()).unwrap();
    }

    fn item(position: u64) -> Item {
        Item {
            position,
            conversation: ConversationId([0; 16]),
            sender: UserName::new("ada").unwrap(),
            device: DeviceId([0; 16]),
            id: MessageId([0; 16]),
            relay_time: 0,
            sender_time: 0,
            kind: Kind::Text,
            body: Blob::default(),
            durability: Durability::Durable,
        }
    }

    fn send(remote: &mut Remote) -> Result<Sent, i32> {
        let recipient = UserName::new("bea").unwrap();
        remote.send(&recipient, Kind::Text, b"once", true).map_err(|failure| failure.code)
    }

    #[test]
    fn a_message_goes_to_the_agent_once() {
        let dir = tempfile::tempdir().unwrap();
        let listener = listen(dir.path());
        let mut remote = Remote::connect(dir.path().to_owned(), Duration::ZERO).unwrap_or_else(|_| panic!());
        // It went before it was asked: another has taken its place.
        drop(listener.accept().unwrap());
        let agent = thread::spawn(move || {
            let (mut program, _) = listener.accept().unwrap();
            let (id, request) = asked(&mut program);
            assert!(matches!(request, Request::Send(_)));
            let sent = Sent {
                id: MessageId([7; 16]),
                confirmed: true,
                durability: Durability::Durable,
                devices: 1,
                refused: List::default(),
            };
            say(&mut program, id, sent);
            // Of this one nobody knows, and of the last one that nobody has it.
            asked(&mut program);
        });
        assert_eq!(send(&mut remote).map(|sent| sent.id), Ok(MessageId([7; 16])));
        assert_eq!(send(&mut remote), Err(QPC_UNCONFIRMED));
        agent.join().unwrap();
        assert_eq!(send(&mut remote), Err(QPC_ERROR));
    }

    #[test]
    fn what_could_not_be_marked_as_read_is_marked_later() {
        let dir = tempfile::tempdir().unwrap();
        let listener = listen(dir.path());
        let run_dir = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        // SAFETY: it is NUL-terminated.
        let handle = unsafe { qpc_connect_agent(run_dir.as_ptr(), null()) };
        let receive = || {
            let mut messages = null_mut();
            // SAFETY: the handle is good until the end.
            unsafe {
                let code = qpc_receive_messages(handle, 0, &raw mut messages);
                qpc_messages_free(messages);
                code
            }
        };
        let (mut program, _) = listener.accept().unwrap();
        say(&mut program, 1, item(7));
        say(&mut program, 1, CaughtUp { position: 7, missed: false });
        assert_eq!(receive(), QPC_OK);
        drop((program, listener));
        fs::remove_file(dir.path().join(OsStr::from_bytes(SERVICE))).unwrap();
        assert_eq!(receive(), QPC_ERROR);
        let listener = listen(dir.path());
        let agent = thread::spawn(move || {
            let (mut program, _) = listener.accept().unwrap();
            let (id, request) = asked(&mut program);
            assert_eq!(request, MarkRead { position: 7 }.into());
            say(&mut program, id, Done {});
            let (id, _) = asked(&mut program);
            say(&mut program, id, CaughtUp { position: 7, missed: false });
            program
        });
        assert_eq!(receive(), QPC_TIMEOUT);
        drop(agent.join().unwrap());
        // SAFETY: as above.
        unsafe { qpc_disconnect(handle) };
    }

    #[test]
    fn what_came_before_the_agent_went_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let listener = listen(dir.path());
        let mut remote = Remote::connect(dir.path().to_owned(), Duration::ZERO).unwrap_or_else(|_| panic!());
        let agent = thread::spawn(move || {
            let (mut program, _) = listener.accept().unwrap();
            let (id, request) = asked(&mut program);
            assert_eq!(request, Receive { since: 0, unread: true }.into());
            say(&mut program, id, item(7));
            drop(program);
            let (mut program, _) = listener.accept().unwrap();
            let (id, request) = asked(&mut program);
            assert_eq!(request, Receive { since: 7, unread: false }.into());
            say(&mut program, id, item(8));
            say(&mut program, id, CaughtUp { position: 8, missed: false });
        });
        for position in [7, 8] {
            let messages = remote.receive(Duration::ZERO).unwrap_or_else(|_| panic!());
            assert_eq!(messages.iter().map(|message| message.position).collect::<Vec<_>>(), [position]);
        }
        agent.join().unwrap();
    }
}
