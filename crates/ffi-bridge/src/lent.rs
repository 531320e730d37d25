//! What callbacks of this thread borrow at the moment.
//!
//! A callback must not free its input, and may hand it back as its payload. Both are told from honest buffers by
//! where they point, which is asked here; so neither becomes a double free.

use crate::memory::FfiBuffer;
use std::cell::Cell;
use std::ptr;

thread_local! {
    static INNERMOST: Cell<*const Loan> = const { Cell::new(ptr::null()) };
}

/// One call's input, in the stack frame of that call.
struct Loan {
    start: *const u8,
    size: usize,
    outer: *const Self,
}

/// Runs `callback` with `input`, which stays the caller's. An empty one is handed on as the null buffer: it has
/// nothing to read, and memory of which nothing is in use may by now be somebody else's.
pub(crate) fn lend<T>(input: &FfiBuffer, callback: impl FnOnce(FfiBuffer) -> T) -> T {
    struct Restore(*const Loan);
    impl Drop for Restore {
        fn drop(&mut self) {
            INNERMOST.set(self.0);
        }
    }
    if input.len == 0 {
        return callback(FfiBuffer::null());
    }
    let loan = Loan { start: input.data, size: input.len, outer: INNERMOST.get() };
    INNERMOST.set(&loan);
    let _restore = Restore(loan.outer);
    callback(FfiBuffer { data: input.data, len: input.len, capacity: input.capacity })
}

/// Whether `place` is inside of what some callback of this thread borrows.
pub(crate) fn is_lent(place: *const u8) -> bool {
    let mut next = INNERMOST.get();
    // SAFETY: every loan in the chain is in the frame of a `lend` that has not returned, which would have taken it
    // out.
    while let Some(loan) = unsafe { next.as_ref() } {
        if place.addr().wrapping_sub(loan.start.addr()) < loan.size {
            return true;
        }
        next = loan.outer;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::ffi_buffer_free;

    #[test]
    fn loans_nest_and_end_also_by_a_panic() {
        let (outer, inner) = (FfiBuffer::from_vec(vec![1; 8]), FfiBuffer::from_vec(vec![2; 8]));
        let places = (outer.data, inner.data);
        let lent = || (is_lent(places.0), is_lent(places.1.wrapping_add(7)));
        assert_eq!(lent(), (false, false));
        lend(&outer, |_| {
            assert_eq!(lent(), (true, false));
            lend(&inner, |_| assert_eq!(lent(), (true, true)));
            let again = std::panic::AssertUnwindSafe(|| lend(&inner, |_| panic!("out of two loans")));
            assert!(std::panic::catch_unwind(again).is_err());
            assert_eq!(lent(), (true, false));
            assert!(!is_lent(places.0.wrapping_add(8)) && !is_lent(places.0.wrapping_sub(1)));
        });
        assert_eq!(lent(), (false, false));
        ffi_buffer_free(outer);
        ffi_buffer_free(inner);
    }

    #[test]
    fn what_a_callback_frees_of_its_input_stays() {
        let input = FfiBuffer::from_vec(b"still here".to_vec());
        lend(&input, ffi_buffer_free);
        // SAFETY: just made.
        assert_eq!(unsafe { input.as_slice() }, b"still here");
        ffi_buffer_free(input);
    }

    #[test]
    fn an_empty_input_is_handed_on_as_null() {
        let input = FfiBuffer::new(16);
        lend(&input, |lent| assert!(lent.data.is_null() && lent.capacity == 0));
        ffi_buffer_free(input);
    }
}
