use crate::errors::FfiError;
use crate::lent;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::alloc::{Layout, alloc_zeroed};
use std::ptr;

/// Bytes on their way over the boundary, made by this library and freed by it, once. `data` and `capacity` are to be
/// read only; whoever writes into the memory sets `len`. One with a `capacity` of 0 owns nothing: freeing it does
/// nothing.
///
/// Dropping one in Rust does nothing either.
#[derive(Debug)]
#[repr(C)]
pub struct FfiBuffer {
    /// The bytes, or NULL.
    pub data: *mut u8,
    /// How many of them are in use.
    pub len: usize,
    /// How many were allocated.
    pub capacity: usize,
}

// SAFETY: it owns its memory as a Vec does, and all access through it is unsafe or consumes it.
unsafe impl Send for FfiBuffer {}
// SAFETY: as above.
unsafe impl Sync for FfiBuffer {}

impl FfiBuffer {
    /// The empty buffer, which needs no freeing.
    pub const fn null() -> Self {
        Self { data: ptr::null_mut(), len: 0, capacity: 0 }
    }

    /// A buffer of `capacity` bytes, all 0, of which none is in use yet; the empty one if there is no memory.
    pub fn new(capacity: usize) -> Self {
        let Ok(layout) = Layout::array::<u8>(capacity) else { return Self::null() };
        if capacity == 0 {
            return Self::null();
        }
        // SAFETY: the size is not 0.
        let data = unsafe { alloc_zeroed(layout) };
        if data.is_null() { Self::null() } else { Self { data, len: 0, capacity } }
    }

    /// Takes the bytes over without copying them.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        if bytes.capacity() == 0 {
            return Self::null();
        }
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Self { data: bytes.as_mut_ptr(), len: bytes.len(), capacity: bytes.capacity() }
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Result<Self, FfiError> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).map_err(|error| FfiError::Unknown(error.to_string()))?;
        copy.extend_from_slice(bytes);
        Ok(Self::from_vec(copy))
    }

    /// `value` as JSON.
    pub fn from_json<T: Serialize + ?Sized>(value: &T) -> Result<Self, FfiError> {
        serde_json::to_vec(value)
            .map(Self::from_vec)
            .map_err(|error| FfiError::Serialization(error.to_string()))
    }

    /// What is in it.
    ///
    /// # Safety
    /// `data` is NULL or has `len` readable bytes that nobody changes meanwhile.
    pub unsafe fn as_slice(&self) -> &[u8] {
        if self.data.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// The value whose JSON is in it.
    ///
    /// # Safety
    /// As for [`as_slice`](Self::as_slice).
    pub unsafe fn to_json<T: DeserializeOwned>(&self) -> Result<T, FfiError> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.as_slice() };
        serde_json::from_slice(bytes).map_err(|error| FfiError::Serialization(error.to_string()))
    }

    /// Frees it, unless a callback that runs in this thread only borrowed it.
    ///
    /// # Safety
    /// It is as this library made it, but for `len`, and nobody uses its memory any more.
    pub unsafe fn dealloc(self) {
        let possible = Layout::array::<u8>(self.capacity).is_ok();
        if self.data.is_null() || self.capacity == 0 || !possible || lent::is_lent(self.data) {
            return;
        }
        // SAFETY: the caller's promise; `new` and `from_vec` allocate as a Vec of this capacity does.
        drop(unsafe { Vec::from_raw_parts(self.data, 0, self.capacity) });
    }

    /// Refuses what cannot be read: bytes at NULL, or more in use than were allocated.
    pub(crate) fn check(&self) -> Result<(), FfiError> {
        if self.len == 0 {
            Ok(())
        } else if self.data.is_null() {
            Err(FfiError::NullPointer)
        } else if self.capacity != 0 && self.len > self.capacity {
            Err(FfiError::BufferTooSmall { needed: self.len, available: self.capacity })
        } else if isize::try_from(self.len).is_err() {
            Err(FfiError::BufferTooSmall { needed: self.len, available: isize::MAX as usize })
        } else {
            Ok(())
        }
    }
}

/// UTF-8 text on its way over the boundary, made by this library and freed by it, once and unchanged. A NUL that
/// `len` does not count follows the text, for readers that forget to look at `len`.
///
/// Dropping one in Rust does nothing.
#[derive(Debug)]
#[repr(C)]
pub struct FfiString {
    /// The text, or NULL.
    pub data: *mut std::ffi::c_char,
    /// Its bytes.
    pub len: usize,
}

// SAFETY: it owns its memory as a Box<str> does, and all access through it is unsafe or consumes it.
unsafe impl Send for FfiString {}
// SAFETY: as above.
unsafe impl Sync for FfiString {}

impl FfiString {
    /// The empty text, which needs no freeing.
    pub const fn null() -> Self {
        Self { data: ptr::null_mut(), len: 0 }
    }

    /// A copy of `text`; the empty one if there is no memory.
    pub fn new(text: &str) -> Self {
        let mut copy = Vec::new();
        if text.is_empty() || copy.try_reserve_exact(text.len() + 1).is_err() {
            return Self::null();
        }
        copy.extend_from_slice(text.as_bytes());
        copy.push(0);
        Self { data: Box::into_raw(copy.into_boxed_slice()).cast(), len: text.len() }
    }

    /// The text.
    ///
    /// # Safety
    /// It is as this library made it.
    pub unsafe fn as_str(&self) -> &str {
        // SAFETY: the caller's promise; `new` copied a str.
        unsafe { std::str::from_utf8_unchecked(self.bytes()) }
    }

    /// What is in it, which need not be UTF-8 if C made it.
    ///
    /// # Safety
    /// `data` is NULL or has `len` readable bytes.
    pub(crate) unsafe fn bytes(&self) -> &[u8] {
        if self.data.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data.cast(), self.len) }
    }

    /// Frees it.
    ///
    /// # Safety
    /// It is as this library made it, and nobody uses its memory any more.
    pub unsafe fn dealloc(self) {
        if self.data.is_null() || lent::is_lent(self.data.cast()) {
            return;
        }
        let whole = ptr::slice_from_raw_parts_mut(self.data.cast::<u8>(), self.len + 1);
        // SAFETY: the caller's promise; `new` made a box of the text and a NUL.
        drop(unsafe { Box::from_raw(whole) });
    }
}

/// See [`FfiBuffer::new`].
pub fn ffi_buffer_alloc(capacity: usize) -> FfiBuffer {
    FfiBuffer::new(capacity)
}

/// Frees a buffer; see [`FfiBuffer`] for what must not have been changed in it.
pub fn ffi_buffer_free(buffer: FfiBuffer) {
    // SAFETY: it is not Clone, so what safe code holds is what this library made, used by nobody else.
    unsafe { buffer.dealloc() }
}

/// A copy of the text; the empty one if it is NULL, empty, not UTF-8, or if there is no memory.
///
/// # Safety
/// `text` is NULL or has `len` readable bytes.
pub unsafe fn ffi_string_alloc(text: *const u8, len: usize) -> FfiString {
    if text.is_null() || isize::try_from(len).is_err() {
        return FfiString::null();
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(text, len) };
    std::str::from_utf8(bytes).map_or(FfiString::null(), FfiString::new)
}

/// Frees a text; see [`FfiString`] for what must not have been changed in it.
pub fn ffi_string_free(text: FfiString) {
    // SAFETY: as in `ffi_buffer_free`.
    unsafe { text.dealloc() }
}

const _: () = {
    const WORD: usize = size_of::<usize>();
    assert!(size_of::<FfiBuffer>() == 3 * WORD && size_of::<FfiString>() == 2 * WORD);
    assert!(std::mem::offset_of!(FfiBuffer, data) == 0 && std::mem::offset_of!(FfiString, data) == 0);
    assert!(std::mem::offset_of!(FfiBuffer, len) == WORD && std::mem::offset_of!(FfiString, len) == WORD);
    assert!(std::mem::offset_of!(FfiBuffer, capacity) == 2 * WORD);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_buffer_is_zeroed_and_of_the_size_asked_for() {
        let mut buffer = FfiBuffer::new(128);
        assert_eq!((buffer.len, buffer.capacity), (0, 128));
        buffer.len = 128;
        // SAFETY: 128 bytes were allocated.
        assert_eq!(unsafe { buffer.as_slice() }, [0; 128]);
        ffi_buffer_free(buffer);
    }

    #[test]
    fn what_is_empty_or_cannot_be_had_is_null() {
        for buffer in [
            FfiBuffer::null(),
            FfiBuffer::new(0),
            FfiBuffer::new(usize::MAX),
            FfiBuffer::new(isize::MAX as usize),
            FfiBuffer::from_vec(Vec::new()),
        ] {
            assert!(buffer.data.is_null() && buffer.len == 0 && buffer.capacity == 0);
            // SAFETY: NULL is allowed.
            assert!(unsafe { buffer.as_slice() }.is_empty());
            ffi_buffer_free(buffer);
        }
        // SAFETY: the pointers are NULL or as long as said.
        let texts = unsafe {
            [
                ffi_string_alloc(ptr::null(), 7),
                ffi_string_alloc(b"x".as_ptr(), 0),
                ffi_string_alloc(b"\xff".as_ptr(), 1),
                ffi_string_alloc(b"x".as_ptr(), usize::MAX),
                FfiString::new(""),
            ]
        };
        for text in texts {
            assert!(text.data.is_null() && text.len == 0);
            // SAFETY: NULL is allowed.
            assert_eq!(unsafe { text.as_str() }, "");
            ffi_string_free(text);
        }
    }

    #[test]
    fn a_vec_is_taken_over_where_it_is() {
        let mut bytes = Vec::with_capacity(10);
        bytes.extend_from_slice(b"here");
        let place = bytes.as_mut_ptr();
        let buffer = FfiBuffer::from_vec(bytes);
        assert_eq!((buffer.data, buffer.len, buffer.capacity), (place, 4, 10));
        ffi_buffer_free(buffer);
    }

    #[test]
    fn a_buffer_that_owns_nothing_is_not_freed() {
        let mut ours = *b"static";
        ffi_buffer_free(FfiBuffer { data: ours.as_mut_ptr(), len: 6, capacity: 0 });
        ffi_buffer_free(FfiBuffer { data: ours.as_mut_ptr(), len: 6, capacity: usize::MAX });
        assert_eq!(&ours, b"static");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let mut byte = 0;
        let data = &raw mut byte;
        let check = |data, len, capacity| FfiBuffer { data, len, capacity }.check();
        assert_eq!(check(ptr::null_mut(), 0, 0), Ok(()));
        assert_eq!(check(data, 1, 1), Ok(()));
        assert_eq!(check(data, 1, 0), Ok(()));
        assert_eq!(check(ptr::null_mut(), 1, 1), Err(FfiError::NullPointer));
        assert_eq!(check(data, 2, 1), Err(FfiError::BufferTooSmall { needed: 2, available: 1 }));
        assert!(check(data, usize::MAX, 0).is_err());
    }

    #[test]
    fn json_that_is_none_is_an_error() {
        let buffer = FfiBuffer::from_vec(b"{".to_vec());
        // SAFETY: just made.
        assert!(matches!(unsafe { buffer.to_json::<u8>() }, Err(FfiError::Serialization(_))));
        ffi_buffer_free(buffer);
        // SAFETY: NULL is allowed.
        assert!(matches!(unsafe { FfiBuffer::null().to_json::<u8>() }, Err(FfiError::Serialization(_))));
        let not_json = std::collections::BTreeMap::from([(vec![1], 2)]);
        assert!(matches!(FfiBuffer::from_json(&not_json), Err(FfiError::Serialization(_))));
    }

    proptest! {
        #[test]
        fn bytes_come_back_as_they_went(bytes: Vec<u8>) {
            let (buffer, copy) = (FfiBuffer::from_vec(bytes.clone()), FfiBuffer::copy_of(&bytes).unwrap());
            // SAFETY: just made.
            prop_assert_eq!(unsafe { (buffer.as_slice(), copy.as_slice()) }, (&*bytes, &*bytes));
            ffi_buffer_free(buffer);
            ffi_buffer_free(copy);
        }

        #[test]
        fn text_comes_back_as_it_went_with_a_nul_behind_it(text: String) {
            // SAFETY: a str is as long as it says.
            let made = unsafe { ffi_string_alloc(text.as_ptr(), text.len()) };
            // SAFETY: just made.
            prop_assert_eq!(unsafe { made.as_str() }, &text);
            if !text.is_empty() {
                // SAFETY: `new` puts a NUL there.
                prop_assert_eq!(unsafe { *made.data.add(made.len) }, 0);
            }
            ffi_string_free(made);
        }

        #[test]
        fn bytes_that_are_not_utf8_make_no_string(bytes: Vec<u8>) {
            // SAFETY: as long as it says.
            let made = unsafe { ffi_string_alloc(bytes.as_ptr(), bytes.len()) };
            prop_assert_eq!(made.data.is_null(), bytes.is_empty() || std::str::from_utf8(&bytes).is_err());
            ffi_string_free(made);
        }

        #[test]
        fn json_comes_back_as_it_went(value: (String, Vec<i64>, Option<bool>)) {
            let buffer = FfiBuffer::from_json(&value).unwrap();
            // SAFETY: just made.
            prop_assert_eq!(unsafe { buffer.to_json::<(String, Vec<i64>, Option<bool>)>() }, Ok(value));
            ffi_buffer_free(buffer);
        }
    }
}
