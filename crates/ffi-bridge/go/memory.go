package ffibridge

// #include <stdlib.h>
// #include "ffi.h"
import "C"

import "unsafe"

// AllocBuffer allocates a buffer, to be freed by FreeBuffer, once.
func AllocBuffer(capacity int) C.FfiBuffer {
	if capacity <= 0 {
		return C.FfiBuffer{}
	}
	buf := C.ffi_buffer_alloc(C.size_t(capacity))
	if buf.data == nil {
		// As Go does when it has no memory left.
		panic("ffibridge: out of memory")
	}
	return buf
}

// FreeBuffer frees what AllocBuffer returned.
func FreeBuffer(buf C.FfiBuffer) {
	C.ffi_buffer_free(buf)
}

// AllocFfiString copies s, which has to be UTF-8. The copy is to be freed by FreeFfiString, once.
func AllocFfiString(s string) C.FfiString {
	text := C.CString(s)
	defer C.free(unsafe.Pointer(text))
	return C.ffi_string_alloc(text, C.size_t(len(s)))
}

// FreeFfiString frees what AllocFfiString returned.
func FreeFfiString(s C.FfiString) {
	C.ffi_string_free(s)
}

// GoStringFromFfiString copies s.
func GoStringFromFfiString(s C.FfiString) string {
	if s.data == nil {
		return ""
	}
	return string(unsafe.Slice((*byte)(unsafe.Pointer(s.data)), int(s.len)))
}

// bytesOf is the memory of buf that is in use, not a copy.
func bytesOf(buf C.FfiBuffer) []byte {
	if buf.data == nil {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(buf.data)), int(buf.len))
}
