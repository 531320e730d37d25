//! The one panic guard of every library of ours that C calls.
//!
//! It is a crate of its own because `ffi-bridge` has C symbols, and whatever has those in its dependencies exports
//! them: `libquicprochat_ffi.so` must not.

#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};

/// Runs `run`; if it panics, the error is what the panic said.
///
/// In a program built with `panic = "abort"` there is nothing to catch: it ends.
pub fn guard<T>(run: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    catch_unwind(run).map_err(|payload| {
        let message = message(&*payload).to_owned();
        // What a panic carries may panic when it is dropped; what that one carries is not tried again.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        message
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "unknown panic payload"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    #[test]
    fn what_comes_back_is_the_value_or_what_the_panic_said() {
        assert_eq!(guard(|| 7), Ok(7));
        assert_eq!(guard(|| -> u8 { panic!("plain") }), Err("plain".into()));
        let number = 7;
        assert_eq!(guard(|| -> u8 { panic!("formatted {number}") }), Err("formatted 7".into()));
        assert_eq!(guard(|| -> u8 { panic_any(7_u8) }), Err("unknown panic payload".into()));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_does_not_get_out() {
        struct Bomb(u8);
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic_any(Self(self.0.saturating_sub(1)));
            }
        }
        assert_eq!(guard(|| panic_any(Bomb(3))), Err::<(), _>("unknown panic payload".into()));
    }
}
