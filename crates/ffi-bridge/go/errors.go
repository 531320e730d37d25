package ffibridge

// #include "ffi.h"
import "C"

import "fmt"

// ErrorCode says what went wrong. The numbers are stable.
type ErrorCode int32

// The codes of error_codes.h.
const (
	ErrOK             ErrorCode = C.FFI_OK
	ErrNullPointer    ErrorCode = C.FFI_ERR_NULL_POINTER
	ErrBufferTooSmall ErrorCode = C.FFI_ERR_BUFFER_TOO_SMALL
	ErrInvalidUTF8    ErrorCode = C.FFI_ERR_INVALID_UTF8
	ErrSerialization  ErrorCode = C.FFI_ERR_SERIALIZATION
	ErrPanic          ErrorCode = C.FFI_ERR_PANIC
	ErrTimeout        ErrorCode = C.FFI_ERR_TIMEOUT
	ErrNotFound       ErrorCode = C.FFI_ERR_NOT_FOUND
	ErrLockPoisoned   ErrorCode = C.FFI_ERR_LOCK_POISONED
	ErrUnknown        ErrorCode = C.FFI_ERR_UNKNOWN
)

// String returns the code's name, or error_N if it has none.
func (c ErrorCode) String() string {
	switch c {
	case ErrOK:
		return "ok"
	case ErrNullPointer:
		return "null_pointer"
	case ErrBufferTooSmall:
		return "buffer_too_small"
	case ErrInvalidUTF8:
		return "invalid_utf8"
	case ErrSerialization:
		return "serialization"
	case ErrPanic:
		return "panic"
	case ErrTimeout:
		return "timeout"
	case ErrNotFound:
		return "not_found"
	case ErrLockPoisoned:
		return "lock_poisoned"
	default:
		return fmt.Sprintf("error_%d", int32(c))
	}
}

// FfiError is an error that came over the boundary.
type FfiError struct {
	Code    ErrorCode
	Message string
}

// Error returns code and message.
func (e *FfiError) Error() string {
	return fmt.Sprintf("ffi error [%s]: %s", e.Code, e.Message)
}

// CheckResult takes result over: it gives its payload as a Buffer, or its error as an *FfiError, and frees the rest.
// The result is not to be used again.
func CheckResult(result C.FfiResult) (*Buffer, error) {
	// What the Buffer got is not there any more when this runs.
	defer func() { C.ffi_result_free(result) }()
	if result.error_code != C.FFI_OK {
		return nil, &FfiError{Code: ErrorCode(result.error_code), Message: GoStringFromFfiString(result.error_message)}
	}
	payload := own(result.payload)
	result.payload = C.FfiBuffer{}
	return payload, nil
}
