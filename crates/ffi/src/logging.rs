//! What goes on inside, for the callback of whose call it is.

use log::{LevelFilter, Log, Metadata, Record};
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::sync::Once;

use crate::handle::c_string;

/// Is told what goes on inside: level is 1 for an error, 2 for a warning, 3 for what happens in the normal course; text is
/// one line without a newline, valid during the call; user is what qpc_options_set_log was given. It runs in the thread
/// of the call it belongs to, and must not call functions on that call's handle, nor be left by longjmp; an exception of
/// C++ that leaves it ends the program.
pub type QpcLog = unsafe extern "C-unwind" fn(level: i32, text: *const c_char, user: *mut c_void);

#[derive(Clone, Copy)]
pub(crate) struct Logger {
    pub(crate) call: QpcLog,
    pub(crate) user: *mut c_void,
}

// SAFETY: the header says in which threads the callback runs; the pointer is only ever handed to it.
unsafe impl Send for Logger {}

thread_local! {
    static CURRENT: Cell<Option<Logger>> = const { Cell::new(None) };
}

/// Has everything on this thread go to a logger until the result is dropped.
pub(crate) fn to(logger: Option<Logger>) -> impl Drop {
    static SET: Once = Once::new();
    if logger.is_some() {
        SET.call_once(|| {
            // Ours alone: the facade is linked into this library. There is no other logger it could refuse this one for.
            if log::set_logger(&Router).is_ok() {
                log::set_max_level(LevelFilter::Info);
            }
        });
    }
    struct Before(Option<Logger>);
    impl Drop for Before {
        fn drop(&mut self) {
            let _ = CURRENT.try_with(|current| current.set(self.0));
        }
    }
    Before(CURRENT.try_with(|current| current.replace(logger)).ok().flatten())
}

struct Router;

impl Log for Router {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        CURRENT.try_with(|current| current.get().is_some()).unwrap_or(false)
    }

    fn log(&self, record: &Record<'_>) {
        let Some(logger) = CURRENT.try_with(Cell::get).ok().flatten() else { return };
        let text = c_string(record.args().to_string());
        // SAFETY: the header says what the callback is given.
        unsafe { (logger.call)(record.level() as i32, text.as_ptr(), logger.user) };
    }

    fn flush(&self) {}
}
