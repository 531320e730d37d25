// Command basic shows buffers, JSON and errors from Go. Callbacks come from Rust or C: see internal/ctest.
package main

import (
	"errors"
	"fmt"
	"log"

	ffibridge "github.com/ChainPrimitives/ffi-bridge"
)

func main() {
	fmt.Println("libffi_bridge", ffibridge.Version())

	buf, err := ffibridge.FromJSON(map[string]int{"answer": 42})
	if err != nil {
		log.Fatal(err)
	}
	defer buf.Free()
	fmt.Printf("%d bytes: %s\n", buf.Len(), buf.Bytes())

	_, err = ffibridge.InvokeCallback("nobody", buf)
	var ffi *ffibridge.FfiError
	if errors.As(err, &ffi) && ffi.Code == ffibridge.ErrNotFound {
		fmt.Println(err)
	}
}
