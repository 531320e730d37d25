// Package ctest has callbacks written in C for the tests of ffibridge, whose own tests cannot have C in them.
package ctest

// #cgo CFLAGS: -I${SRCDIR}/../../../shared -Wall -Wextra -Werror
// #cgo LDFLAGS: -L${SRCDIR}/../../../../../target/release -lffi_bridge
// #include "ctest.h"
import "C"

func init() {
	if C.register_all() != 0 {
		panic("the callbacks were refused")
	}
}

// Allocated returns how many bytes C and Rust have allocated.
func Allocated() int {
	return int(C.allocated())
}
