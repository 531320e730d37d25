//! The functions of the first version, and the other ways to a handle.

use crate::handle::{
    self, Claim, Failure, QPC_TIMEOUT, QpqHandle, State, bytes, c_string, call, guard, text, user_name,
};
use crate::logging;
use crate::messages::{receive, unconfirmed};
use crate::options::QpcOptions;
use crate::remote::Remote;
use qpc_client::executor::block_on;
use qpc_client::{Client, Error, Kind, Password, RelayAddress, RelayEndpoint};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::time::{Duration, Instant};

/// What this header declares. It grows with every addition; what was there before stays as it is.
pub const QPC_ABI_VERSION: u32 = 2;

thread_local! {
    static CONNECT_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// The QPC_ABI_VERSION of the library that is in use. A program that was compiled against a higher one must not run with
/// it.
#[unsafe(no_mangle)]
pub extern "C" fn qpc_abi_version() -> u32 {
    QPC_ABI_VERSION
}

/// Connects to a relay and asks it how it is.
///
/// server       "host:port", for example "127.0.0.1:7000" or "[::1]:7000"
/// ca_cert      path of the relay's CA certificate, DER or PEM (ca.der in the relay's data directory)
/// server_name  the name in the relay's certificate, for example "localhost"
///
/// Returns a handle, or NULL: qpc_last_connect_error then says why.
///
/// # Safety
/// The pointers are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_connect(
    server: *const c_char,
    ca_cert: *const c_char,
    server_name: *const c_char,
) -> *mut QpqHandle {
    // SAFETY: the caller's promise.
    unsafe {
        connect(std::ptr::null(), |options| {
            let (server, ca_cert) = (text(server, "server")?, text(ca_cert, "ca_cert")?);
            let relay = RelayEndpoint::with_ca(server, ca_cert.as_ref(), text(server_name, "server_name")?)?;
            Ok(State::Idle(Box::new(block_on(Client::connect(relay, options.options.clone()))?)))
        })
    }
}

/// Connects to a relay by its address, "qpc://host:port/#fingerprint" as `qpc-relay address` prints it: it needs no
/// certificate file. options may be NULL.
///
/// Returns a handle, or NULL: qpc_last_connect_error then says why.
///
/// # Safety
/// `address` is NULL or a NUL-terminated string; `options` is NULL or from `qpc_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_connect_address(
    address: *const c_char,
    options: *const QpcOptions,
) -> *mut QpqHandle {
    // SAFETY: the caller's promise.
    unsafe {
        connect(options, |options| {
            let client = block_on(Client::connect(relay(address)?, options.options.clone()))?;
            Ok(State::Idle(Box::new(client)))
        })
    }
}

/// A handle that is logged in as the user's device here, by the key file that an earlier login has kept
/// (qpc_options_set_key_file). It does not wait for the relay: the connection is made when a call needs one, or by
/// qpc_next_event, which tries until there is one. This is how a program starts that must run while the line is down.
/// options may be NULL.
///
/// Returns a handle, or NULL: qpc_last_connect_error then says why.
///
/// # Safety
/// As for [`qpc_connect_address`]; `username` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_open(
    address: *const c_char,
    username: *const c_char,
    options: *const QpcOptions,
) -> *mut QpqHandle {
    // SAFETY: the caller's promise.
    unsafe {
        connect(options, |options| {
            let (relay, user) = (relay(address)?, user_name(text(username, "username")?)?);
            Ok(State::Idle(Box::new(Client::open(relay, options.options.clone(), &user)?)))
        })
    }
}

/// Goes through the agent of this machine (`qpc agent`), which holds an account's session: there is nothing to log in, and
/// no state folder.
///
/// run_dir  the agent's run directory; NULL for $QPC_RUN_DIR, or else /var/run/qpc-agent
/// options  NULL for the default ones. Of them, qpc_options_set_timeout says how long to wait for the relay to confirm a
///          message, and qpc_options_set_log holds; the others are the agent's matter.
///
/// All calls work with the handle, as far as the agent gives this user the right, but for these, which return QPC_ERROR:
/// qpc_register, qpc_register_with_invite, qpc_login, qpc_change_password, qpc_revoke_device, and sending with
/// QPC_SEND_RECEIPT. A message that the relay has not confirmed in time waits in the agent's journal: QPC_UNCONFIRMED, also
/// from qpc_send. So does one sent with QPC_SEND_QUEUED, which is good when the call returns; what becomes of it no event
/// tells but a QPC_EVENT_NOTE. If the agent is killed, or silent for 90 seconds, while it is asked to send, it may have the
/// message or not: that is QPC_UNCONFIRMED too, with an id of zeros, and sent again the message could come twice. After
/// QPC_ERROR it is not sent. Messages are those that no program of the machine has read. QPC_EVENT_CONNECTED and
/// QPC_EVENT_DISCONNECTED tell of the agent: one that is restarted is connected to again.
///
/// Returns a handle, or NULL; then qpc_last_connect_error says why.
///
/// # Safety
/// `run_dir` is NULL or NUL-terminated; `options` is NULL or from `qpc_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_connect_agent(
    run_dir: *const c_char,
    options: *const QpcOptions,
) -> *mut QpqHandle {
    // SAFETY: the caller's promise.
    unsafe {
        connect(options, |options| {
            let run_dir = match run_dir.is_null() {
                true => qpc_agent::run_dir(),
                false => text(run_dir, "run_dir")?.into(),
            };
            Ok(State::Agent(Box::new(Remote::connect(run_dir, options.options.patience)?)))
        })
    }
}

/// Why the last qpc_connect, qpc_connect_address, qpc_open or qpc_connect_agent of this thread returned NULL, or NULL if it
/// did not. Valid until the thread's next of them; not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn qpc_last_connect_error() -> *const c_char {
    let pointer =
        |slot: &RefCell<Option<CString>>| slot.borrow().as_deref().map_or(std::ptr::null(), CStr::as_ptr);
    CONNECT_ERROR.try_with(pointer).unwrap_or(std::ptr::null())
}

/// Registers a new account at the relay and logs in.
///
/// username  1 to 64 of a-z 0-9 . _ -
/// password  not empty; never leaves this machine
///
/// Returns QPC_OK, QPC_NOT_CONNECTED if the handle is NULL, or QPC_ERROR (name taken, registration closed or by invite,
/// relay gone, ...).
///
/// # Safety
/// `handle` is NULL or from this library, and not in use by another thread; the others are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_register(
    handle: *mut QpqHandle,
    username: *const c_char,
    password: *const c_char,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(handle, |handle| enter(handle, username, password, Entrance::Register(None))) }
}

/// As qpc_register, with the code that `qpc-relay invite` printed.
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
            enter(handle, username, password, Entrance::Register(Some(invite)))
        })
    }
}

/// Logs in (OPAQUE: the relay never sees the password). On a machine without this user's state it makes a new device of
/// the account, which sends and receives from now on. If the user or the password is wrong, whoever was logged in on the
/// handle before still is.
///
/// Returns QPC_OK, QPC_AUTH_FAILED, QPC_NOT_CONNECTED if the handle is NULL, or QPC_ERROR.
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
    unsafe { call(handle, |handle| enter(handle, username, password, Entrance::Login)) }
}

/// Sends a text to a user; it is encrypted for that user's devices and for no one else.
///
/// recipient    user name
/// message      UTF-8, at most 49152 bytes, not NUL-terminated
/// message_len  its length in bytes
///
/// QPC_OK means that the relay has stored it on disk. Returns QPC_NOT_CONNECTED if not logged in, or QPC_ERROR (unknown
/// recipient, not UTF-8, too long, relay gone, ...). A message that was encrypted when the relay was lost waits in the
/// state folder and goes out, once, with the next connection; that is a QPC_ERROR too, and qpc_last_error says so. A
/// program that sends again after errors uses qpc_send_message, which tells it apart.
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
    // SAFETY: the caller's promise.
    unsafe {
        call(handle, |handle| {
            let recipient = text(recipient, "recipient")?;
            let message = bytes(message, message_len, "message")?;
            if handle.agent()?.is_none() {
                handle.logged_in()?;
            }
            let recipient = user_name(recipient)?;
            if std::str::from_utf8(message).is_err() {
                return Err(Failure::error("the message is not valid UTF-8"));
            }
            match handle.agent()? {
                Some(agent) => match agent.send(&recipient, Kind::Text, message, true)?.confirmed {
                    true => Ok(()),
                    false => Err(unconfirmed()),
                },
                None => Ok(block_on(handle.logged_in()?.send(&recipient, Kind::Text, message)).map(drop)?),
            }
        })
    }
}

/// Waits up to timeout_ms milliseconds for messages and takes all that are there.
///
/// out_json  receives a JSON array of the texts, oldest first, such as ["hello","world"]; free it with qpc_free_string.
///           NULL is stored unless QPC_OK is returned. Messages that are not UTF-8 text are left out.
///
/// Messages count as taken at the next call that takes messages or at qpc_disconnect: a program that is killed in between
/// gets them again.
///
/// Returns QPC_OK, QPC_TIMEOUT, QPC_NOT_CONNECTED if not logged in, or QPC_ERROR.
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
                return Err(Failure::error("out_json is NULL"));
            }
            *out_json = receive_json(handle, Duration::from_millis(timeout_ms.into()))?.into_raw();
            Ok(())
        })
    }
}

/// Ends the connection and frees the handle. NULL is ignored.
///
/// # Safety
/// `handle` is NULL or from this library, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_disconnect(handle: *mut QpqHandle) {
    // SAFETY: the caller's promise.
    unsafe { handle::disconnect(handle) }
}

/// What went wrong in the last call on this handle, or NULL if nothing did. Valid until the next call on the handle; not
/// to be freed.
///
/// # Safety
/// `handle` is NULL or from this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qpc_last_error(handle: *const QpqHandle) -> *const c_char {
    match Claim::new(handle.addr()) {
        // SAFETY: it was not given back yet, and is in no other call.
        Ok(_claim) => unsafe { &*handle }.last_error(),
        Err(_) => std::ptr::null(),
    }
}

/// Frees a string that another function of this library has stored for the caller. NULL is ignored. It is not for what
/// qpc_last_error and qpc_last_connect_error return.
///
/// # Safety
/// `ptr` is NULL or from a function that says so, and not used again.
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

/// # Safety
/// The pointers are NULL or NUL-terminated strings.
unsafe fn enter(
    handle: &mut QpqHandle,
    username: *const c_char,
    password: *const c_char,
    entrance: Entrance<'_>,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (user, password) = unsafe { (text(username, "username")?, text(password, "password")?) };
    let user = user_name(user)?;
    let password = Password::new(password)?;
    handle.confirm()?;
    let client = handle.client()?;
    match entrance {
        Entrance::Login => block_on(client.login(&user, &password))?,
        Entrance::Register(invite) => block_on(client.register(&user, &password, invite))?,
    }
    Ok(())
}

/// Makes a handle and keeps the error.
///
/// # Safety
/// `options` is NULL or from `qpc_options_new`.
unsafe fn connect(
    options: *const QpcOptions,
    make: impl FnOnce(&QpcOptions) -> Result<State, Failure>,
) -> *mut QpqHandle {
    // SAFETY: the caller's promise.
    let options = unsafe { options.as_ref() };
    let logger = options.and_then(|options| options.logger);
    let logging = logging::to(logger);
    let made = guard(|| match options {
        Some(options) => make(options),
        None => make(&QpcOptions::defaults()),
    });
    drop(logging);
    let (handle, error) = match made {
        Ok(state) => (QpqHandle::into_raw(state, logger), None),
        Err(failure) => (std::ptr::null_mut(), Some(c_string(failure.into_message()))),
    };
    // A thread that is being torn down has no storage left, and nobody who could ask.
    let _ = CONNECT_ERROR.try_with(|slot| *slot.borrow_mut() = error);
    handle
}

/// # Safety
/// `address` is NULL or a NUL-terminated string.
unsafe fn relay(address: *const c_char) -> Result<RelayEndpoint, Failure> {
    // SAFETY: the caller's promise.
    let address = unsafe { text(address, "address")? };
    Ok(address.parse::<RelayAddress>().map_err(Error::from)?.into())
}

fn receive_json(handle: &mut QpqHandle, timeout: Duration) -> Result<CString, Failure> {
    handle.confirm()?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let messages = receive(handle, left)?;
        let Some(last) = messages.last() else {
            return Err(Failure::new(QPC_TIMEOUT, "no message came in time"));
        };
        handle.hand_out(last.position);
        let texts: Vec<&str> = messages
            .iter()
            .filter(|message| message.kind == Kind::Text)
            .filter_map(|message| std::str::from_utf8(&message.body).ok())
            .collect();
        if !texts.is_empty() {
            let json = serde_json::to_string(&texts)
                .map_err(|error| Failure::error(format!("cannot write JSON: {error}")))?;
            return Ok(c_string(json));
        }
        // Nothing but messages this call does not return: they are done with, wait on.
        handle.confirm()?;
    }
}
