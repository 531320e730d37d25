// Package ffibridge calls libffi_bridge from Go: buffers, errors, and callbacks by name.
//
// All memory that crosses is the library's. A [Buffer] owns one piece of it and frees it once: by Free, or, if that
// is forgotten, when the garbage collector finds the Buffer gone. All functions and methods may be used from several
// goroutines at once.
//
// Callbacks are registered from Rust or C. Go functions cannot be: the library would call them in threads it knows
// nothing of.
package ffibridge

// #cgo CFLAGS: -I${SRCDIR}/../shared
// #cgo LDFLAGS: -L${SRCDIR}/../../../target/release -lffi_bridge
// #include "ffi.h"
import "C"

// BufferRaw is what a Buffer's C struct says, without its pointer.
type BufferRaw struct {
	Len      uint64
	Capacity uint64
}

// InspectBuffer returns what b's C struct says; zeros if b is nil or freed.
func InspectBuffer(b *Buffer) BufferRaw {
	var raw BufferRaw
	b.lend(func(inner C.FfiBuffer) {
		raw = BufferRaw{Len: uint64(inner.len), Capacity: uint64(inner.capacity)}
	})
	return raw
}

// Version returns the library's version, such as "1.0.0".
func Version() string {
	version := own(C.ffi_version())
	defer version.Free()
	return string(version.Bytes())
}
