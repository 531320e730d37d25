use crate::lent;
use crate::memory::{FfiBuffer, FfiString};
use crate::registry::Poisoned;
use ffi_bridge_guard::guard;
use std::fmt;
use std::panic::UnwindSafe;

/// What went wrong, as a number. They are stable: none is ever renumbered or removed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(i32)]
pub enum FfiErrorCode {
    /// Success.
    Ok = 0,
    /// A pointer that must not be NULL was.
    NullPointer = 1,
    /// A buffer is smaller than it needs to be.
    BufferTooSmall = 2,
    /// Text is not valid UTF-8.
    InvalidUtf8 = 3,
    /// A value could not be written as JSON, or JSON not be read.
    Serialization = 4,
    /// A panic was caught at the boundary.
    Panic = 5,
    /// The time for it ran out.
    Timeout = 6,
    /// There is nothing of that name.
    NotFound = 7,
    /// A panic came while the table of callbacks was being changed.
    LockPoisoned = 8,
    /// Anything else.
    Unknown = 99,
}

impl FfiErrorCode {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::NullPointer,
        Self::BufferTooSmall,
        Self::InvalidUtf8,
        Self::Serialization,
        Self::Panic,
        Self::Timeout,
        Self::NotFound,
        Self::LockPoisoned,
        Self::Unknown,
    ];

    /// The code with this number, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as i32 == number)
    }
}

impl fmt::Display for FfiErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::NullPointer => "null pointer",
            Self::BufferTooSmall => "buffer too small",
            Self::InvalidUtf8 => "invalid utf-8",
            Self::Serialization => "serialization error",
            Self::Panic => "panic at ffi boundary",
            Self::Timeout => "timeout",
            Self::NotFound => "not found",
            Self::LockPoisoned => "lock poisoned",
            Self::Unknown => "unknown error",
        })
    }
}

/// What went wrong, with what is known about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FfiError {
    /// A pointer that must not be NULL was.
    NullPointer,
    /// A buffer is smaller than it needs to be.
    BufferTooSmall {
        /// Bytes that are needed.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// This is not valid UTF-8.
    InvalidUtf8(String),
    /// A value could not be written as JSON, or JSON not be read.
    Serialization(String),
    /// A panic that said this was caught at the boundary.
    Panic(String),
    /// The time for it ran out.
    Timeout,
    /// There is nothing of this name.
    NotFound(String),
    /// A panic came while the table of callbacks was being changed.
    LockPoisoned,
    /// Anything else.
    Unknown(String),
}

impl FfiError {
    /// Its number.
    pub fn code(&self) -> FfiErrorCode {
        match self {
            Self::NullPointer => FfiErrorCode::NullPointer,
            Self::BufferTooSmall { .. } => FfiErrorCode::BufferTooSmall,
            Self::InvalidUtf8(_) => FfiErrorCode::InvalidUtf8,
            Self::Serialization(_) => FfiErrorCode::Serialization,
            Self::Panic(_) => FfiErrorCode::Panic,
            Self::Timeout => FfiErrorCode::Timeout,
            Self::NotFound(_) => FfiErrorCode::NotFound,
            Self::LockPoisoned => FfiErrorCode::LockPoisoned,
            Self::Unknown(_) => FfiErrorCode::Unknown,
        }
    }

    /// A sentence about it.
    pub fn message(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for FfiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NullPointer => f.write_str("null pointer received"),
            Self::BufferTooSmall { needed, available } => {
                write!(f, "buffer too small: need {needed} bytes, have {available}")
            }
            Self::InvalidUtf8(what) => write!(f, "invalid UTF-8 in {what}"),
            Self::Serialization(detail) => write!(f, "serialization error: {detail}"),
            Self::Panic(message) => write!(f, "panic caught at FFI boundary: {message}"),
            Self::Timeout => f.write_str("operation timed out"),
            Self::NotFound(name) => write!(f, "not found: {name}"),
            Self::LockPoisoned => f.write_str("mutex lock is poisoned"),
            Self::Unknown(detail) => write!(f, "unknown error: {detail}"),
        }
    }
}

impl std::error::Error for FfiError {}

impl From<Poisoned> for FfiError {
    fn from(Poisoned: Poisoned) -> Self {
        Self::LockPoisoned
    }
}

/// What a call gives: on success a payload, otherwise an error code and a message. It is freed by ffi_result_free,
/// once, whatever it is.
///
/// Dropping one in Rust does nothing.
#[derive(Debug)]
#[repr(C)]
pub struct FfiResult {
    /// What went wrong, or that nothing did.
    pub error_code: FfiErrorCode,
    /// A sentence about it; empty on success.
    pub error_message: FfiString,
    /// What was asked for; empty on error.
    pub payload: FfiBuffer,
}

impl FfiResult {
    /// Success.
    pub fn ok(payload: FfiBuffer) -> Self {
        Self { error_code: FfiErrorCode::Ok, error_message: FfiString::null(), payload }
    }

    /// Failure.
    pub fn err(error: FfiError) -> Self {
        Self {
            error_code: error.code(),
            error_message: FfiString::new(&error.message()),
            payload: FfiBuffer::null(),
        }
    }

    /// Whether it is a success.
    pub fn is_ok(&self) -> bool {
        self.error_code == FfiErrorCode::Ok
    }

    /// Puts what a callback returned in order for the one who called it, who will free it: nothing in it is lent, a
    /// success has no message, an error no payload, and what is in use of either can be read.
    ///
    /// # Safety
    /// Message and payload are empty, or of this library's making, or inside of what is lent to the callback.
    pub(crate) unsafe fn settled(self) -> Self {
        let Self { error_code, error_message, payload } = self;
        if error_code == FfiErrorCode::Ok {
            // SAFETY: the caller's promise, and nobody else sees this message.
            unsafe { error_message.dealloc() };
            let owned = match payload.check() {
                Ok(()) if !lent::is_lent(payload.data) => return Self::ok(payload),
                // SAFETY: checked just now.
                Ok(()) => FfiBuffer::copy_of(unsafe { payload.as_slice() }),
                Err(error) => Err(error),
            };
            // SAFETY: the caller's promise, and nobody else sees this payload.
            unsafe { payload.dealloc() };
            return owned.into();
        }
        // SAFETY: the caller's promise.
        let message = FfiString::new(&String::from_utf8_lossy(unsafe { error_message.bytes() }));
        // SAFETY: the caller's promise, and nobody else sees this message and payload.
        unsafe {
            error_message.dealloc();
            payload.dealloc();
        }
        Self { error_code, error_message: message, payload: FfiBuffer::null() }
    }
}

impl From<Result<FfiBuffer, FfiError>> for FfiResult {
    fn from(result: Result<FfiBuffer, FfiError>) -> Self {
        result.map_or_else(Self::err, Self::ok)
    }
}

/// Runs `run`; a panic in it becomes an error with [`FfiErrorCode::Panic`].
pub fn catch_panic<F>(run: F) -> FfiResult
where
    F: FnOnce() -> Result<FfiBuffer, FfiError> + UnwindSafe,
{
    guard(run).unwrap_or_else(|message| Err(FfiError::Panic(message))).into()
}

/// Frees message and payload of a result.
pub fn ffi_result_free(result: FfiResult) {
    // SAFETY: it is not Clone, so what safe code holds is what this library made, used by nobody else.
    unsafe {
        result.error_message.dealloc();
        result.payload.dealloc();
    }
}

const _: () = {
    const WORD: usize = size_of::<usize>();
    assert!(size_of::<FfiErrorCode>() == 4 && size_of::<FfiResult>() == 6 * WORD);
    assert!(std::mem::offset_of!(FfiResult, error_code) == 0);
    assert!(std::mem::offset_of!(FfiResult, error_message) == WORD);
    assert!(std::mem::offset_of!(FfiResult, payload) == 3 * WORD);
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Each error's code and message, as they were when they were first published.
    #[test]
    fn codes_and_messages_are_stable() {
        let text = || "x".to_owned();
        let expected = [
            (FfiError::NullPointer, 1, "null pointer received"),
            (
                FfiError::BufferTooSmall { needed: 2, available: 1 },
                2,
                "buffer too small: need 2 bytes, have 1",
            ),
            (FfiError::InvalidUtf8(text()), 3, "invalid UTF-8 in x"),
            (FfiError::Serialization(text()), 4, "serialization error: x"),
            (FfiError::Panic(text()), 5, "panic caught at FFI boundary: x"),
            (FfiError::Timeout, 6, "operation timed out"),
            (FfiError::NotFound(text()), 7, "not found: x"),
            (FfiError::LockPoisoned, 8, "mutex lock is poisoned"),
            (FfiError::Unknown(text()), 99, "unknown error: x"),
        ];
        for (error, number, message) in expected {
            let result = FfiResult::err(error.clone());
            assert_eq!(result.error_code as i32, number);
            assert_eq!(FfiErrorCode::from_number(number), Some(error.code()));
            // SAFETY: just made.
            assert_eq!(unsafe { result.error_message.as_str() }, message);
            assert!(!result.is_ok() && result.payload.data.is_null());
            ffi_result_free(result);
        }
        assert_eq!(FfiErrorCode::Ok as i32, 0);
        assert_eq!([-1, 9, 98, i32::MIN].map(FfiErrorCode::from_number), [None; 4]);
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let result = catch_panic(|| panic!("keep this in"));
        assert_eq!(result.error_code, FfiErrorCode::Panic);
        // SAFETY: just made.
        assert_eq!(unsafe { result.error_message.as_str() }, "panic caught at FFI boundary: keep this in");
        ffi_result_free(result);
        let result = catch_panic(|| Ok(FfiBuffer::from_vec(vec![7])));
        // SAFETY: just made.
        assert_eq!((result.is_ok(), unsafe { result.payload.as_slice() }), (true, &[7][..]));
        ffi_result_free(result);
        let result = catch_panic(|| Err(FfiError::Timeout));
        assert_eq!(result.error_code, FfiErrorCode::Timeout);
        ffi_result_free(result);
    }

    #[test]
    fn a_result_that_is_both_is_settled_by_its_code() {
        let both = |error_code| FfiResult {
            error_code,
            error_message: FfiString::new("message"),
            payload: FfiBuffer::from_vec(vec![7]),
        };
        // SAFETY: made by this library.
        let (ok, err) = unsafe { (both(FfiErrorCode::Ok).settled(), both(FfiErrorCode::Timeout).settled()) };
        assert!(ok.error_message.data.is_null() && ok.payload.len == 1);
        assert!(err.error_message.len == 7 && err.payload.data.is_null());
        ffi_result_free(ok);
        ffi_result_free(err);
    }
}
