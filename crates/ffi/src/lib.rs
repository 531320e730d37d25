//! The C API of the client; `include/quicprochat.h` is its documentation.
//!
//! A handle owns a [`Client`], which works only while a call is under way, on the caller's thread: there is none of the
//! library's own, but for the one that looks up a host's name. Between calls the relay keeps what arrives; a connection that died of silence is
//! reopened, by the device's key, in the next call.

use qpc_client::executor::block_on;
use qpc_client::{Client, Error, ErrorKind, Kind, Options, Password, RelayEndpoint, UserName};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

const QPC_OK: i32 = 0;
const QPC_ERROR: i32 = 1;
const QPC_AUTH_FAILED: i32 = 2;
const QPC_TIMEOUT: i32 = 3;
const QPC_NOT_CONNECTED: i32 = 4;

/// See `quicprochat.h`.
pub struct QpqHandle {
    client: Client,
    last_error: Option<CString>,
    /// The newest message handed to the caller, who counts as having it once the next call is made.
    handed_out: Option<u64>,
}

/// One thread at a time, but not always the same.
const _: fn() = || {
    fn moves_between_threads<T: Send>() {}
    moves_between_threads::<QpqHandle>();
};

/// What a call ends with when it does not succeed.
struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
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

thread_local! {
    static CONNECT_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// See `quicprochat.h`.
///
/// # Safety
/// The pointers are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_connect(
    server: *const c_char,
    ca_cert: *const c_char,
    server_name: *const c_char,
) -> *mut QpqHandle {
    let result = guard(|| {
        // SAFETY: the caller's promise.
        let (server, ca_cert, server_name) = unsafe {
            (text(server, "server")?, text(ca_cert, "ca_cert")?, text(server_name, "server_name")?)
        };
        connect(server, ca_cert, server_name)
    });
    let (handle, error) = match result {
        Ok(handle) => (Box::into_raw(Box::new(handle)), None),
        Err(failure) => (std::ptr::null_mut(), Some(c_string(failure.message))),
    };
    // A thread that is being torn down has no storage left, and nobody who could ask.
    let _ = CONNECT_ERROR.try_with(|slot| *slot.borrow_mut() = error);
    handle
}

/// See `quicprochat.h`.
#[unsafe(no_mangle)]
pub extern "C" fn qpc_last_connect_error() -> *const c_char {
    let pointer =
        |slot: &RefCell<Option<CString>>| slot.borrow().as_deref().map_or(std::ptr::null(), CStr::as_ptr);
    CONNECT_ERROR.try_with(pointer).unwrap_or(std::ptr::null())
}

/// See `quicprochat.h`.
///
/// # Safety
/// `handle` is NULL or from `qpc_connect`, and not in use by another thread; the others are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_register(
    handle: *mut QpqHandle,
    username: *const c_char,
    password: *const c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(handle, |handle| handle.enter(username, password, Entrance::Register(None))) }
}

/// See `quicprochat.h`.
///
/// # Safety
/// As for [`qpc_register`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_register_with_invite(
    handle: *mut QpqHandle,
    username: *const c_char,
    password: *const c_char,
    invite: *const c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            let invite = text(invite, "invite")?;
            handle.enter(username, password, Entrance::Register(Some(invite)))
        })
    }
}

/// See `quicprochat.h`.
///
/// # Safety
/// As for [`qpc_register`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_login(
    handle: *mut QpqHandle,
    username: *const c_char,
    password: *const c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(handle, |handle| handle.enter(username, password, Entrance::Login)) }
}

/// See `quicprochat.h`.
///
/// # Safety
/// As for [`qpc_register`]; `message` is NULL or has `message_len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_send(
    handle: *mut QpqHandle,
    recipient: *const c_char,
    message: *const u8,
    message_len: usize,
) -> i32 {
    // SAFETY: the caller's promise; a length that no object can have is refused first.
    unsafe {
        call(handle, |handle| {
            let recipient = text(recipient, "recipient")?;
            if message.is_null() {
                return Err(Failure::new(QPC_ERROR, "message is NULL"));
            }
            if message_len > isize::MAX as usize {
                return Err(Failure::new(QPC_ERROR, "message_len is no length of an object"));
            }
            handle.send(recipient, std::slice::from_raw_parts(message, message_len))
        })
    }
}

/// See `quicprochat.h`.
///
/// # Safety
/// As for [`qpc_register`]; `out_json` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_receive(
    handle: *mut QpqHandle,
    timeout_ms: u32,
    out_json: *mut *mut c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        if !out_json.is_null() {
            *out_json = std::ptr::null_mut();
        }
        call(handle, |handle| {
            if out_json.is_null() {
                return Err(Failure::new(QPC_ERROR, "out_json is NULL"));
            }
            *out_json = handle.receive(Duration::from_millis(timeout_ms.into()))?.into_raw();
            Ok(())
        })
    }
}

/// See `quicprochat.h`.
///
/// # Safety
/// `handle` is NULL or from `qpc_connect`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_disconnect(handle: *mut QpqHandle) {
    if handle.is_null() {
        return;
    }
    // SAFETY: the caller's promise: made by `Box::into_raw` in `qpc_connect`, and given back once.
    let handle = unsafe { Box::from_raw(handle) };
    let _ = guard(|| {
        handle.disconnect();
        Ok(())
    });
}

/// See `quicprochat.h`.
///
/// # Safety
/// `handle` is NULL or from `qpc_connect`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_last_error(handle: *const QpqHandle) -> *const c_char {
    // SAFETY: the caller's promise.
    let handle = unsafe { handle.as_ref() };
    handle.and_then(|handle| handle.last_error.as_deref()).map_or(std::ptr::null(), CStr::as_ptr)
}

/// See `quicprochat.h`.
///
/// # Safety
/// `ptr` is NULL or from `qpc_receive`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_free_string(ptr: *mut c_char) {
    if !ptr.is_null() {
        // SAFETY: the caller's promise: made by `CString::into_raw`.
        drop(unsafe { CString::from_raw(ptr) });
    }
}

enum Entrance<'a> {
    Login,
    Register(Option<&'a str>),
}

fn connect(server: &str, ca_cert: &str, server_name: &str) -> Result<QpqHandle, Failure> {
    let relay = RelayEndpoint::with_ca(server, ca_cert.as_ref(), server_name)?;
    let client = block_on(Client::connect(relay, Options::from_environment()))?;
    Ok(QpqHandle { client, last_error: None, handed_out: None })
}

impl QpqHandle {
    /// # Safety
    /// The pointers are NULL or NUL-terminated strings.
    unsafe fn enter(
        &mut self,
        username: *const c_char,
        password: *const c_char,
        entrance: Entrance<'_>,
    ) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        let (user, password) = unsafe { (text(username, "username")?, text(password, "password")?) };
        let user = user_name(user)?;
        let password = Password::new(password)?;
        self.confirm()?;
        match entrance {
            Entrance::Login => block_on(self.client.login(&user, &password))?,
            Entrance::Register(invite) => block_on(self.client.register(&user, &password, invite))?,
        }
        Ok(())
    }

    fn send(&mut self, recipient: &str, message: &[u8]) -> Result<(), Failure> {
        if !self.client.is_logged_in() {
            return Err(Error::NotLoggedIn.into());
        }
        let recipient = user_name(recipient)?;
        if std::str::from_utf8(message).is_err() {
            return Err(Failure::new(QPC_ERROR, "the message is not valid UTF-8"));
        }
        block_on(self.client.send(&recipient, Kind::Text, message))?;
        Ok(())
    }

    fn receive(&mut self, timeout: Duration) -> Result<CString, Failure> {
        self.confirm()?;
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let messages = block_on(self.client.receive(left))?;
            let Some(last) = messages.last() else {
                return Err(Failure::new(QPC_TIMEOUT, "no message came in time"));
            };
            self.handed_out = Some(last.position);
            let texts: Vec<&str> = messages
                .iter()
                .filter(|message| message.kind == Kind::Text)
                .filter_map(|message| std::str::from_utf8(&message.body).ok())
                .collect();
            if !texts.is_empty() {
                let json = serde_json::to_string(&texts)
                    .map_err(|error| Failure::new(QPC_ERROR, format!("cannot write JSON: {error}")))?;
                return Ok(c_string(json));
            }
            // Nothing but messages this call does not return: they are done with, wait on.
            self.confirm()?;
        }
    }

    fn confirm(&mut self) -> Result<(), Failure> {
        if let Some(position) = self.handed_out.take() {
            self.client.confirm(position)?;
        }
        Ok(())
    }

    fn disconnect(mut self) {
        // The caller has no handle left to ask what went wrong; the messages will be handed out again.
        let _ = self.confirm();
        block_on(self.client.disconnect());
    }
}

/// Runs a call on a handle and keeps its error there.
///
/// # Safety
/// `handle` is NULL or from `qpc_connect`, and not in use by another thread.
unsafe fn call(handle: *mut QpqHandle, run: impl FnOnce(&mut QpqHandle) -> Result<(), Failure>) -> i32 {
    // SAFETY: the caller's promise.
    let Some(handle) = (unsafe { handle.as_mut() }) else { return QPC_NOT_CONNECTED };
    handle.last_error = None;
    match guard(|| run(handle)) {
        Ok(()) => QPC_OK,
        Err(failure) => {
            handle.last_error = Some(c_string(failure.message));
            failure.code
        }
    }
}

/// Keeps a panic from crossing into C.
fn guard<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // The handle may be half changed after a panic; what is on disk is not, and the next call finds an error, not
    // undefined behaviour.
    ffi_bridge_guard::guard(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        Err(Failure::new(QPC_ERROR, format!("internal error, please report it: {panic}")))
    })
}

/// # Safety
/// `pointer` is NULL or a NUL-terminated string that lives as long as the result is used.
unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::new(QPC_ERROR, format!("{name} is NULL")));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes.to_str().map_err(|_| Failure::new(QPC_ERROR, format!("{name} is not valid UTF-8")))
}

fn user_name(text: &str) -> Result<UserName, Failure> {
    UserName::new(text).map_err(|error| Failure::new(QPC_ERROR, error.to_string()))
}

/// A C string; a NUL inside (JSON escapes them, our messages have none) would end it early.
fn c_string(text: String) -> CString {
    let mut bytes = text.into_bytes();
    bytes.retain(|&byte| byte != 0);
    CString::new(bytes).unwrap_or_default()
}
