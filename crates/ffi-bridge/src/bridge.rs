use crate::errors::{FfiError, FfiResult, catch_panic};
use crate::memory::FfiBuffer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, UnwindSafe};

/// One call that came over the boundary: its input, borrowed from the caller, and what to make of it.
#[derive(Debug)]
pub struct BridgeCall {
    input: FfiBuffer,
}

impl BridgeCall {
    /// A call with this input.
    pub fn new(input: FfiBuffer) -> Self {
        Self { input }
    }

    /// Answers with what `handler` makes of the input; a panic in it becomes an error.
    pub fn run<F>(self, handler: F) -> FfiResult
    where
        F: FnOnce(&FfiBuffer) -> Result<FfiBuffer, FfiError> + UnwindSafe,
    {
        // Unlike its input, which stays whole whatever happens, the handler says itself that it may be interrupted.
        let input = AssertUnwindSafe(self.input);
        catch_panic(move || {
            let input = input;
            input.check()?;
            handler(&input)
        })
    }

    /// Answers in JSON with what `handler` makes of the JSON in the input; a panic in it becomes an error.
    pub fn run_json<I, O, F>(self, handler: F) -> FfiResult
    where
        I: DeserializeOwned,
        O: Serialize,
        F: FnOnce(I) -> Result<O, FfiError> + UnwindSafe,
    {
        self.run(move |input| {
            // SAFETY: whoever made the call promised a buffer that can be read.
            let value = unsafe { input.to_json() }?;
            FfiBuffer::from_json(&handler(value)?)
        })
    }

    /// The input.
    pub fn into_buffer(self) -> FfiBuffer {
        self.input
    }
}

/// A copy of the input.
pub fn ffi_echo(input: FfiBuffer) -> FfiResult {
    // SAFETY: whoever made the call promised a buffer that can be read.
    BridgeCall::new(input).run(|input| FfiBuffer::copy_of(unsafe { input.as_slice() }))
}

/// The version of this crate, such as `1.0.0`.
pub fn ffi_version() -> FfiBuffer {
    FfiBuffer::from_vec(env!("CARGO_PKG_VERSION").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::{FfiErrorCode, ffi_result_free};
    use crate::memory::ffi_buffer_free;
    use std::ptr;

    #[test]
    fn a_handler_answers() {
        let result = BridgeCall::new(FfiBuffer::from_vec(b"ping".to_vec())).run(|input| {
            // SAFETY: made two lines above.
            assert_eq!(unsafe { input.as_slice() }, b"ping");
            Ok(FfiBuffer::from_vec(b"pong".to_vec()))
        });
        // SAFETY: just made.
        assert_eq!(unsafe { result.payload.as_slice() }, b"pong");
        ffi_result_free(result);
    }

    #[test]
    fn a_handler_of_values_answers() {
        let code = |result: FfiResult| {
            let code = result.error_code;
            ffi_result_free(result);
            code
        };
        let double = |n: u8| n.checked_mul(2).ok_or(FfiError::Timeout);
        let call = |json: &str| BridgeCall::new(FfiBuffer::from_vec(json.into()));
        let result = call("21").run_json(double);
        // SAFETY: just made.
        assert_eq!(unsafe { result.payload.to_json() }, Ok(42));
        ffi_result_free(result);
        assert_eq!(code(call("200").run_json(double)), FfiErrorCode::Timeout);
        assert_eq!(code(call("?").run_json(double)), FfiErrorCode::Serialization);
        assert_eq!(code(call("1").run_json(|_: u8| -> Result<u8, _> { panic!("no") })), FfiErrorCode::Panic);
    }

    #[test]
    fn echo_copies_what_can_be_read() {
        let mut bytes = *b"echo";
        let borrowed = |len, capacity| FfiBuffer { data: bytes.as_mut_ptr(), len, capacity };
        let mut borrowed = borrowed;
        let result = ffi_echo(borrowed(4, 4));
        // SAFETY: just made.
        assert_eq!(unsafe { result.payload.as_slice() }, b"echo");
        ffi_result_free(result);
        let result = ffi_echo(FfiBuffer::null());
        assert!(result.is_ok() && result.payload.data.is_null());
        for (input, code) in [
            (borrowed(5, 4), FfiErrorCode::BufferTooSmall),
            (FfiBuffer { data: ptr::null_mut(), len: 1, capacity: 0 }, FfiErrorCode::NullPointer),
        ] {
            let result = ffi_echo(input);
            assert_eq!(result.error_code, code);
            ffi_result_free(result);
        }
    }

    #[test]
    fn the_version_is_the_crates() {
        let version = ffi_version();
        // SAFETY: just made.
        assert_eq!(unsafe { version.as_slice() }, b"1.0.0");
        ffi_buffer_free(version);
    }
}
