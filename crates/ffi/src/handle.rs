//! Handles: which there are, what is in them, and how a call gets at it.

use crate::logging::{self, Logger};
use crate::remote::Remote;
use qpc_client::executor::block_on;
use qpc_client::reactor::Reactor;
use qpc_client::{Client, Error, ErrorKind, Interrupt, Update, UserName};
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// Success.
pub const QPC_OK: i32 = 0;
/// Something else went wrong: see qpc_last_error.
pub const QPC_ERROR: i32 = 1;
/// Unknown user or wrong password: which of the two, nobody is told.
pub const QPC_AUTH_FAILED: i32 = 2;
/// Nothing came in time.
pub const QPC_TIMEOUT: i32 = 3;
/// The handle is NULL, was given back, or is not logged in.
pub const QPC_NOT_CONNECTED: i32 = 4;
/// The relay has not confirmed the message. It waits here and goes out, once, with the next connection: do not send it
/// again. With an agent there is one exception, see qpc_connect_agent.
pub const QPC_UNCONFIRMED: i32 = 5;

/// A connection to a relay. Made by qpc_connect, qpc_connect_address, qpc_open and qpc_connect_agent, freed by
/// qpc_disconnect.
pub struct QpqHandle {
    state: State,
    last_error: Option<CString>,
    /// The newest message handed out by a function that waits, whose caller counts as having it at the next one.
    handed_out: Option<u64>,
    logger: Option<Logger>,
    /// Once the program follows along.
    reactor: Option<Reactor>,
    /// What came while another call was waited for.
    updates: VecDeque<Update>,
}

/// One thread at a time, but not always the same.
const _: fn() = || {
    fn moves_between_threads<T: Send>() {}
    moves_between_threads::<QpqHandle>();
};

pub(crate) enum State {
    /// An agent does what is asked for.
    Agent(Box<Remote>),
    Idle(Box<Client>),
    /// The client is in a future that ends with the next update, or soon after the interrupt is set.
    Following(Pin<Box<Following>>, Interrupt),
    /// A panic has lost it.
    Lost,
}

/// Something to tell the program.
pub(crate) enum Told {
    /// What an agent has said in words.
    Note(String),
    Update(Update),
}

type Following = dyn Future<Output = (Box<Client>, Result<Option<Update>, Error>)> + Send;

/// What a call ends with when it does not succeed.
pub(crate) struct Failure {
    pub(crate) code: i32,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(QPC_ERROR, message)
    }

    pub(crate) fn into_message(self) -> String {
        self.message
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::AuthFailed => QPC_AUTH_FAILED,
            ErrorKind::NotLoggedIn => QPC_NOT_CONNECTED,
            _ => QPC_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::error(format!("cannot wait for events: {error}"))
    }
}

impl QpqHandle {
    /// A handle for C.
    pub(crate) fn into_raw(state: State, logger: Option<Logger>) -> *mut Self {
        let handle = Box::into_raw(Box::new(Self {
            state,
            last_error: None,
            handed_out: None,
            logger,
            reactor: None,
            updates: VecDeque::new(),
        }));
        handles().push((handle.addr(), false));
        handle
    }

    pub(crate) fn last_error(&self) -> *const c_char {
        self.last_error.as_deref().map_or(std::ptr::null(), CStr::as_ptr)
    }

    /// The client, which follows along no more until [`QpqHandle::next`] is called again.
    pub(crate) fn client(&mut self) -> Result<&mut Client, Failure> {
        self.state = match std::mem::replace(&mut self.state, State::Lost) {
            State::Following(future, interrupt) => {
                interrupt.set();
                let (client, update) = block_on(future);
                // An error comes again.
                self.updates.extend(update.ok().flatten());
                State::Idle(client)
            }
            state => state,
        };
        if let Some(reactor) = &mut self.reactor {
            // The call may take from the socket what the program's loop would see there.
            reactor.wake()?;
        }
        match &mut self.state {
            State::Idle(client) => Ok(client),
            State::Agent(_) => Err(Failure::error("an agent does not do this for programs")),
            _ => Err(lost()),
        }
    }

    /// The agent, if the handle has one.
    pub(crate) fn agent(&mut self) -> Result<Option<&mut Remote>, Failure> {
        if let (State::Agent(_), Some(reactor)) = (&self.state, &mut self.reactor) {
            // As above.
            reactor.wake()?;
        }
        match &mut self.state {
            State::Agent(agent) => Ok(Some(agent)),
            _ => Ok(None),
        }
    }

    /// As [`QpqHandle::client`], if it is logged in.
    pub(crate) fn logged_in(&mut self) -> Result<&mut Client, Failure> {
        let client = self.client()?;
        match client.is_logged_in() {
            true => Ok(client),
            false => Err(Error::NotLoggedIn.into()),
        }
    }

    /// What waits for whatever may bring the next update.
    pub(crate) fn reactor(&mut self) -> Result<&mut Reactor, Failure> {
        if self.reactor.is_none() {
            self.reactor = Some(Reactor::new()?);
        }
        self.reactor.as_mut().ok_or_else(lost)
    }

    /// The next update, if there is one without waiting.
    pub(crate) fn next(&mut self) -> Result<Option<Told>, Failure> {
        if let Some(update) = self.updates.pop_front() {
            return Ok(Some(Told::Update(update)));
        }
        self.confirm()?;
        // While the client is still in its place.
        self.reactor()?;
        if let (State::Agent(agent), Some(reactor)) = (&mut self.state, &mut self.reactor) {
            return agent.next(reactor);
        }
        let (mut future, interrupt) = match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(client) => follow(client),
            State::Following(future, interrupt) => (future, interrupt),
            State::Agent(_) | State::Lost => return Err(lost()),
        };
        let polled = self.reactor()?.poll(future.as_mut());
        match polled {
            Err(error) => {
                // The kernel had no memory; the next call tries again.
                self.state = State::Following(future, interrupt);
                Err(error.into())
            }
            Ok(Poll::Pending) => {
                self.state = State::Following(future, interrupt);
                Ok(None)
            }
            Ok(Poll::Ready((client, update))) => {
                self.state = State::Idle(client);
                if update.is_err() {
                    // Nothing helps against it but another call, and a program that only looks would look for ever.
                    self.reactor()?.rest()?;
                }
                Ok(update?.map(Told::Update))
            }
        }
    }

    pub(crate) fn hand_out(&mut self, position: u64) {
        self.handed_out = Some(position);
    }

    /// What was handed out by a function that waits is the caller's own for good.
    pub(crate) fn confirm(&mut self) -> Result<(), Failure> {
        let Some(position) = self.handed_out else { return Ok(()) };
        match self.agent()? {
            Some(agent) => agent.confirm(position)?,
            None => self.client()?.confirm(position)?,
        }
        self.handed_out = None;
        Ok(())
    }

    fn disconnect(mut self) {
        // The caller has no handle left to ask what went wrong; the messages will be handed out again.
        let _ = self.confirm();
        if let State::Agent(agent) = &mut self.state {
            let _ = agent.confirm_given();
        }
        if self.client().is_ok()
            && let State::Idle(client) = self.state
        {
            block_on(client.disconnect());
        }
    }
}

fn follow(mut client: Box<Client>) -> (Pin<Box<Following>>, Interrupt) {
    let interrupt = Interrupt::default();
    let interrupted = interrupt.clone();
    let future = async move {
        let update = client.next(&interrupted).await;
        (client, update)
    };
    (Box::pin(future), interrupt)
}

fn lost() -> Failure {
    Failure::error("an earlier call on this handle has failed inside; disconnect and connect again")
}

/// Runs a call on a handle and keeps its error there.
///
/// # Safety
/// `handle` is NULL, or from this library.
pub(crate) unsafe fn call(
    handle: *mut QpqHandle,
    run: impl FnOnce(&mut QpqHandle) -> Result<(), Failure>,
) -> i32 {
    let claim = match Claim::new(handle.addr()) {
        Ok(claim) => claim,
        Err(code) => return code,
    };
    // SAFETY: it was not given back yet, and is in no other call.
    let handle = unsafe { &mut *handle };
    handle.last_error = None;
    let logging = logging::to(handle.logger);
    let result = guard(|| run(handle));
    drop(logging);
    let code = match result {
        Ok(()) => QPC_OK,
        Err(failure) => {
            handle.last_error = Some(c_string(failure.message));
            failure.code
        }
    };
    drop(claim);
    code
}

/// Ends a handle, if it is one and in no other call.
///
/// # Safety
/// As for [`call`].
pub(crate) unsafe fn disconnect(handle: *mut QpqHandle) {
    let Ok(claim) = Claim::new(handle.addr()) else { return };
    claim.remove();
    // SAFETY: made by `Box::into_raw`, and from now on nobody's.
    let handle = unsafe { Box::from_raw(handle) };
    let logging = logging::to(handle.logger);
    let _ = guard(|| {
        handle.disconnect();
        Ok(())
    });
    drop(logging);
}

/// Keeps a panic from crossing into C.
pub(crate) fn guard<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // The handle may be half changed after a panic; what is on disk is not, and the next call finds an error, not
    // undefined behaviour.
    ffi_bridge_guard::guard(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(Failure::error(format!("internal error, please report it: {panic}"))))
}

/// The handles there are, and whether each is in a call. Two calls at once on one, or one on a handle that was given back,
/// are mistakes of the caller; they get an error instead of memory that is somebody else's.
static HANDLES: Mutex<Vec<(usize, bool)>> = Mutex::new(Vec::new());

fn handles() -> MutexGuard<'static, Vec<(usize, bool)>> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle in a call.
pub(crate) struct Claim(usize);

impl Claim {
    /// The code to fail with if it cannot be had.
    pub(crate) fn new(handle: usize) -> Result<Self, i32> {
        match handles().iter_mut().find(|(address, _)| *address == handle) {
            None => Err(QPC_NOT_CONNECTED),
            Some((_, true)) => Err(QPC_ERROR),
            Some((_, in_call)) => {
                *in_call = true;
                Ok(Self(handle))
            }
        }
    }

    fn remove(self) {
        handles().retain(|(address, _)| *address != self.0);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((_, in_call)) = handles().iter_mut().find(|(address, _)| *address == self.0) {
            *in_call = false;
        }
    }
}

/// # Safety
/// `pointer` is NULL or a NUL-terminated string that lives as long as the result is used.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::error(format!("{name} is NULL")));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes.to_str().map_err(|_| Failure::error(format!("{name} is not valid UTF-8")))
}

/// # Safety
/// `pointer` is NULL or has `len` readable bytes for as long as the result is used.
pub(crate) unsafe fn bytes<'a>(pointer: *const u8, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    if pointer.is_null() {
        return Err(Failure::error(format!("{name} is NULL")));
    }
    if len > isize::MAX as usize {
        return Err(Failure::error(format!("{name}_len is no length of an object")));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

pub(crate) fn user_name(text: &str) -> Result<UserName, Failure> {
    UserName::new(text).map_err(|error| Failure::error(error.to_string()))
}

/// A C string; a NUL inside (JSON escapes them, our messages have none) would end it early.
pub(crate) fn c_string(text: impl Into<String>) -> CString {
    let mut bytes = text.into().into_bytes();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}
