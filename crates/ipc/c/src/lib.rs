//! The C API of LibIPC: what `include/libipc.h` declares, each a thin layer over [`qpc_ipc::Context`].
//!
//! What C calls a context is a boxed `RefCell`: a callback that uses the context it is called from gets an error
//! instead of a second mutable reference.

use ffi_bridge_guard::guard;
use qpc_ipc::{Context, Error, EventKind, Input, MAX_PAYLOAD, Output, Verdict};
use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::ptr;
use std::slice;
use std::time::Duration;

mod network;

const FAILED: c_int = -1;
const QUEUE_FULL: c_int = -2;
const GONE: c_int = -2;
const TOO_SMALL: c_int = -3;
const TRUNCATED: c_int = -4;

/// The room a callback has for a message with its header.
const IPC_BASE_SIZE: usize = 100_000;

type Handle = RefCell<Context>;

// They are declared in C to return a char. How that was widened is not to be counted on, so the whole register is
// taken, and its low byte looked at. "C-unwind": an exception of C++ that comes
// out ends the program instead of being undefined behaviour.
type CInput = extern "C-unwind" fn(orig: c_int, payload: *mut c_char, mlen: *mut usize) -> c_int;
type COutput = extern "C-unwind" fn(dest: c_int, payload: *const c_char, mlen: usize) -> c_int;

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_context_init(ptr: *mut *mut c_void) -> c_int {
    guarded(|| {
        if ptr.is_null() {
            return Err(FAILED);
        }
        let context = Context::new().map_err(|_| FAILED)?;
        let handle: *mut Handle = Box::into_raw(Box::new(RefCell::new(context)));
        // SAFETY: the caller's promise: room for a pointer.
        unsafe { ptr.write(handle.cast()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_context_deinit(ctx: *mut *mut c_void) {
    guarded(|| {
        // SAFETY: the caller's promise: NULL, or a pointer to what ipc_context_init wrote or this function left.
        let Some(ctx) = (unsafe { ctx.as_mut() }) else { return Err(FAILED) };
        // SAFETY: as above.
        unsafe { with(*ctx, |_| Ok(())) }?;
        let handle: *mut Handle = std::mem::replace(ctx, ptr::null_mut()).cast();
        // SAFETY: it came from Box::into_raw, once, and no callback is running in it.
        drop(unsafe { Box::from_raw(handle) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_context_timer(ctx: *mut c_void, timer: c_int) {
    let period = u64::try_from(timer).ok().map(Duration::from_millis);
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe {
        with(ctx, |context| {
            context.set_timer(period);
            Ok(())
        })
    });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_context_memory(ctx: *mut c_void, bytes: usize) {
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe {
        with(ctx, |context| {
            context.set_memory_limit(bytes);
            Ok(())
        })
    });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_service_init(
    ctx: *mut c_void,
    servicefd: *mut c_int,
    service_name: *const c_char,
    service_name_len: u16,
) -> c_int {
    // SAFETY: the caller's promise: a context, room for a number, a name of that length.
    unsafe { open(ctx, servicefd, service_name, service_name_len, Context::listen) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_connect_service(
    ctx: *mut c_void,
    servicefd: *mut c_int,
    service_name: *const c_char,
    service_name_len: u16,
) -> c_int {
    // SAFETY: the caller's promise: a context, room for a number, a name of that length.
    unsafe { open(ctx, servicefd, service_name, service_name_len, network::connect) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_write(
    ctx: *mut c_void,
    servicefd: c_int,
    mcontent: *const c_char,
    mlen: usize,
) -> c_int {
    // SAFETY: the caller's promise: a context, and so many bytes.
    guarded(|| unsafe {
        let message = bytes(mcontent, mlen)?;
        with(ctx, |context| context.write(servicefd, message).map_err(|_| FAILED))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_schedule(
    ctx: *mut c_void,
    servicefd: c_int,
    mcontent: *const c_char,
    mlen: usize,
) -> c_int {
    // SAFETY: the caller's promise: a context, and so many bytes.
    guarded(|| unsafe {
        let message = bytes(mcontent, mlen)?;
        with(ctx, |context| {
            context.schedule(servicefd, message).map_err(|error| match error {
                Error::QueueFull => QUEUE_FULL,
                _ => FAILED,
            })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_read_fd(
    ctx: *mut c_void,
    fd: c_int,
    buffer: *mut c_char,
    buflen: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise: a context, and a buffer of that length.
    guarded(|| unsafe { with(ctx, |context| read(context, fd, buffer, buflen)) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_read(
    ctx: *mut c_void,
    index: usize,
    buffer: *mut c_char,
    buflen: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise: a context, and a buffer of that length.
    guarded(|| unsafe {
        with(ctx, |context| {
            let fd = context.fd_at(index).ok_or(FAILED)?;
            read(context, fd, buffer, buflen)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_wait_event(
    ctx: *mut c_void,
    t: *mut c_char,
    index: *mut usize,
    originfd: *mut c_int,
    newfd: *mut c_int,
    buffer: *mut c_char,
    buflen: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise: a context, room for each number or NULL for `newfd`, a buffer of that length.
    guarded(|| unsafe {
        with(ctx, |context| {
            if t.is_null() || index.is_null() || originfd.is_null() {
                return Err(FAILED);
            }
            let mut out = Out::new(buffer, buflen)?;
            let event = context.wait().map_err(|_| FAILED)?;
            let (number, origin, new) = match event.kind {
                EventKind::Connection { server } => (1, server, event.fd),
                EventKind::Disconnection => (2, event.fd, -1),
                EventKind::MessageRx => (3, event.fd, -1),
                EventKind::MessageTx => (4, event.fd, -1),
                EventKind::Timer => (5, event.fd, -1),
                EventKind::External => (6, event.fd, -1),
                EventKind::SwitchRx => (7, event.fd, -1),
                EventKind::SwitchTx => (8, event.fd, -1),
                // EventKind::Error, and what may come after this version.
                _ => (0, event.fd, -1),
            };
            t.write(number);
            index.write(event.index);
            originfd.write(origin);
            if !newfd.is_null() {
                newfd.write(new);
            }
            if out.put(event.message) { Ok(()) } else { Err(TRUNCATED) }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_close_fd(ctx: *mut c_void, fd: c_int) -> c_int {
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe { with(ctx, |context| context.close(fd).map_err(|_| FAILED)) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_close(ctx: *mut c_void, index: usize) -> c_int {
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe {
        with(ctx, |context| {
            let fd = context.fd_at(index).ok_or(FAILED)?;
            context.close(fd).map_err(|_| FAILED)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_close_all(ctx: *mut c_void) -> c_int {
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe {
        with(ctx, |context| {
            context.close_all();
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_add_external(ctx: *mut c_void, newfd: c_int) -> c_int {
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe {
        with(ctx, |context| {
            if newfd < 0 || context.borrow(newfd).is_some() {
                return Err(FAILED);
            }
            // From the caller, who leaves it to the context from here on; if it is not open, epoll says so below.
            let fd = OwnedFd::from_raw_fd(newfd);
            match context.add_external(fd) {
                Ok(_) => Ok(()),
                Err((_, fd)) => {
                    let _: RawFd = fd.into_raw_fd();
                    Err(FAILED)
                }
            }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_add_switch(ctx: *mut c_void, fd1: c_int, fd2: c_int) -> c_int {
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe { with(ctx, |context| context.add_switch(fd1, fd2).map_err(|_| FAILED)) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ipc_set_switch_callbacks(
    ctx: *mut c_void,
    fd: c_int,
    r#in: Option<CInput>,
    out: Option<COutput>,
) -> c_int {
    let (input, output) = (r#in.map(input_of), out.map(output_of));
    // SAFETY: the caller's promise: a context.
    guarded(|| unsafe {
        with(ctx, |context| context.set_switch_callbacks(fd, input, output).map_err(|_| FAILED))
    })
}

/// Runs what C called. A panic would be a mistake of ours.
fn guarded(run: impl FnOnce() -> Result<(), c_int>) -> c_int {
    match guard(AssertUnwindSafe(run)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status,
        Err(_) => FAILED,
    }
}

/// # Safety
///
/// `ctx` is NULL or a context that was not freed.
unsafe fn with(ctx: *mut c_void, run: impl FnOnce(&mut Context) -> Result<(), c_int>) -> Result<(), c_int> {
    // SAFETY: the promise above; only shared references are made of it.
    let handle: &Handle = unsafe { ctx.cast::<Handle>().as_ref() }.ok_or(FAILED)?;
    run(&mut *handle.try_borrow_mut().map_err(|_| FAILED)?)
}

/// # Safety
///
/// `data` has `len` bytes, or is NULL.
unsafe fn bytes<'a>(data: *const c_char, len: usize) -> Result<&'a [u8], c_int> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(FAILED),
        // A negative number of C's, for one, is longer than a slice may be.
        (false, len) if len > MAX_PAYLOAD => Err(FAILED),
        // SAFETY: the promise above.
        (false, _) => Ok(unsafe { slice::from_raw_parts(data.cast(), len) }),
    }
}

/// # Safety
///
/// That of [`with`] and [`bytes`], and `servicefd` has room for a number.
unsafe fn open(
    ctx: *mut c_void,
    servicefd: *mut c_int,
    name: *const c_char,
    name_len: u16,
    how: fn(&mut Context, &[u8]) -> Result<RawFd, Error>,
) -> c_int {
    // SAFETY: the promise above.
    guarded(|| unsafe {
        let name = bytes(name, name_len.into())?;
        with(ctx, |context| {
            let servicefd = servicefd.as_mut().ok_or(FAILED)?;
            *servicefd = how(context, name).map_err(|_| FAILED)?;
            Ok(())
        })
    })
}

/// # Safety
///
/// That of [`Out::new`].
unsafe fn read(
    context: &mut Context,
    fd: RawFd,
    buffer: *mut c_char,
    buflen: *mut usize,
) -> Result<(), c_int> {
    // SAFETY: the promise above.
    let mut out = unsafe { Out::new(buffer, buflen) }?;
    match context.read(fd, out.room()) {
        Ok(message) => {
            out.put(message);
            Ok(())
        }
        Err(Error::BufferTooSmall(len)) => {
            out.set_len(len);
            Err(TOO_SMALL)
        }
        Err(Error::Disconnected) => Err(GONE),
        Err(_) => Err(FAILED),
    }
}

/// Where a caller wants a message.
struct Out<'a> {
    buffer: *mut u8,
    len: &'a mut usize,
}

impl Out<'_> {
    /// # Safety
    ///
    /// `buflen` is NULL or says how many bytes `buffer` has.
    unsafe fn new(buffer: *mut c_char, buflen: *mut usize) -> Result<Self, c_int> {
        // SAFETY: the promise above.
        let len = unsafe { buflen.as_mut() }.ok_or(FAILED)?;
        if buffer.is_null() && *len > 0 {
            return Err(FAILED);
        }
        Ok(Self { buffer: buffer.cast(), len })
    }

    fn room(&self) -> usize {
        *self.len
    }

    fn set_len(&mut self, len: usize) {
        *self.len = len;
    }

    /// False if there was not room for all of it.
    fn put(&mut self, message: &[u8]) -> bool {
        let room = self.room();
        let fits = message.len().min(room);
        if fits > 0 {
            // SAFETY: there is room for that much, in memory of the caller's, which no message of ours is in.
            unsafe { ptr::copy_nonoverlapping(message.as_ptr(), self.buffer, fits) };
        }
        self.set_len(message.len());
        message.len() <= room
    }
}

fn input_of(call: CInput) -> Input {
    Box::new(move |fd, frame| {
        frame.reserve(IPC_BASE_SIZE);
        let mut len = IPC_BASE_SIZE;
        let verdict = verdict(call(fd, frame.as_mut_ptr().cast(), &raw mut len));
        if verdict == Verdict::Message {
            if len > IPC_BASE_SIZE {
                return Verdict::Error;
            }
            // SAFETY: there is room for that much, and the callback says that it wrote it.
            unsafe { frame.set_len(len) };
            frame.shrink_to_fit();
        }
        verdict
    })
}

fn output_of(call: COutput) -> Output {
    Box::new(move |fd, frame| verdict(call(fd, frame.as_ptr().cast(), frame.len())))
}

fn verdict(returned: c_int) -> Verdict {
    match returned & 0xff {
        0 => Verdict::Message,
        2 => Verdict::Closing,
        3 => Verdict::Ignore,
        _ => Verdict::Error,
    }
}
