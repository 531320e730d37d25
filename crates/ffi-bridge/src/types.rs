use crate::errors::FfiError;
use crate::memory::FfiBuffer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::{CStr, c_char};

/// A buffer, or why there is none.
pub type FfiBufferResult = Result<FfiBuffer, FfiError>;

/// A value on its way over the boundary, as JSON. Its buffer is the caller's to free, as every [`FfiBuffer`].
#[derive(Debug)]
pub struct BridgeValue {
    buffer: FfiBuffer,
}

impl BridgeValue {
    /// Writes `value`.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, FfiError> {
        Ok(Self { buffer: FfiBuffer::from_json(value)? })
    }

    /// Reads it back.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, FfiError> {
        // SAFETY: `new` made it, and nobody else has it.
        unsafe { self.buffer.to_json() }
    }

    /// The JSON.
    pub fn into_buffer(self) -> FfiBuffer {
        self.buffer
    }
}

/// Refuses NULL.
///
/// # Safety
/// None is needed; the signature is a contract.
pub unsafe fn check_not_null<T>(pointer: *const T) -> Result<*const T, FfiError> {
    if pointer.is_null() { Err(FfiError::NullPointer) } else { Ok(pointer) }
}

/// Refuses NULL.
///
/// # Safety
/// None is needed; the signature is a contract.
pub unsafe fn check_not_null_mut<T>(pointer: *mut T) -> Result<*mut T, FfiError> {
    if pointer.is_null() { Err(FfiError::NullPointer) } else { Ok(pointer) }
}

/// A copy of a C string.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string.
pub unsafe fn cstr_to_string(pointer: *const c_char) -> Result<String, FfiError> {
    // SAFETY: the caller's promise.
    Ok(unsafe { text(pointer) }?.to_owned())
}

/// # Safety
/// `pointer` is NULL or a NUL-terminated string that lives as long as the result is used.
pub(crate) unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a str, FfiError> {
    if pointer.is_null() {
        return Err(FfiError::NullPointer);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| FfiError::InvalidUtf8(format!("C string: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::ffi_buffer_free;
    use std::ptr;

    #[test]
    fn a_value_comes_back_as_it_went() {
        let value = BridgeValue::new(&("x", 7)).unwrap();
        assert_eq!(value.decode::<(String, u8)>(), Ok(("x".into(), 7)));
        assert!(matches!(value.decode::<bool>(), Err(FfiError::Serialization(_))));
        ffi_buffer_free(value.into_buffer());
    }

    #[test]
    fn pointers_and_strings_are_checked() {
        let mut byte = 7_u8;
        // SAFETY: NULL, or what it should be.
        unsafe {
            assert_eq!(check_not_null(ptr::null::<u8>()), Err(FfiError::NullPointer));
            assert_eq!(check_not_null_mut(ptr::null_mut::<u8>()), Err(FfiError::NullPointer));
            assert_eq!(check_not_null(&raw const byte), Ok(&raw const byte));
            assert_eq!(check_not_null_mut(&raw mut byte), Ok(&raw mut byte));
            assert_eq!(cstr_to_string(ptr::null()), Err(FfiError::NullPointer));
            assert_eq!(cstr_to_string(c"text".as_ptr()), Ok("text".into()));
            assert!(matches!(cstr_to_string(c"\xff".as_ptr()), Err(FfiError::InvalidUtf8(_))));
        }
    }
}
