package ffibridge

// #include <stdlib.h>
// #include "ffi.h"
import "C"

import (
	"strings"
	"unsafe"
)

// InvokeCallback calls what is registered under name. The input (nil is an empty one) stays the caller's, who frees
// the result too. Errors are of the type *FfiError.
func InvokeCallback(name string, input *Buffer) (*Buffer, error) {
	if strings.IndexByte(name, 0) >= 0 {
		// C would see the name end there.
		return nil, &FfiError{Code: ErrNotFound, Message: "not found: " + name}
	}
	if input == nil {
		input = &Buffer{}
	}
	cName := C.CString(name)
	defer C.free(unsafe.Pointer(cName))
	var result C.FfiResult
	if !input.lend(func(inner C.FfiBuffer) { result = C.ffi_invoke_callback(cName, inner) }) {
		return nil, &FfiError{Code: ErrNullPointer, Message: "the input has been freed"}
	}
	return CheckResult(result)
}

// InvokeCallbackJSON calls what is registered under name with req as JSON, and reads the JSON it answers with into
// resp.
func InvokeCallbackJSON(name string, req, resp any) error {
	input, err := FromJSON(req)
	if err != nil {
		return err
	}
	defer input.Free()
	output, err := InvokeCallback(name, input)
	if err != nil {
		return err
	}
	defer output.Free()
	return output.ToJSON(resp)
}
