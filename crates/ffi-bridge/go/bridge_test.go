package ffibridge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	ffibridge "github.com/ChainPrimitives/ffi-bridge"
	"github.com/ChainPrimitives/ffi-bridge/internal/ctest"
)

const payload = 64 * 1024 // of ctest.large

func TestBufferHoldsACopy(t *testing.T) {
	data := []byte("a\x00b")
	buf := ffibridge.FromBytes(data)
	defer buf.Free()
	data[0] = 'X'
	if got := buf.Bytes(); string(got) != "a\x00b" || buf.Len() != 3 || buf.IsEmpty() {
		t.Fatalf("got %q, %d bytes", got, buf.Len())
	}
	buf.Bytes()[0] = 'Y'
	if got := buf.Bytes(); string(got) != "a\x00b" {
		t.Fatalf("changed to %q by writing to what Bytes returned", got)
	}
}

func TestNewBufferIsEmptyWithRoom(t *testing.T) {
	buf := ffibridge.NewBuffer(64)
	defer buf.Free()
	if raw := ffibridge.InspectBuffer(buf); raw.Len != 0 || raw.Capacity != 64 || !buf.IsEmpty() {
		t.Fatalf("got %+v", raw)
	}
}

func TestEmptyBuffers(t *testing.T) {
	for _, buf := range []*ffibridge.Buffer{
		ffibridge.NewBuffer(0), ffibridge.NewBuffer(-1), ffibridge.FromBytes(nil), {}, nil,
	} {
		if !buf.IsEmpty() || buf.ToJSON(new(any)) == nil {
			t.Fatalf("%v is not empty", buf)
		}
		buf.Free()
		buf.Free()
	}
}

func TestFreeIsIdempotent(t *testing.T) {
	buf := ffibridge.FromBytes([]byte("x"))
	buf.Free()
	buf.Free()
	if buf.Bytes() != nil || buf.Len() != 0 || (ffibridge.InspectBuffer(buf) != ffibridge.BufferRaw{}) {
		t.Fatal("something is left")
	}
	_, err := ffibridge.InvokeCallback("ctest.identity", buf)
	wantError(t, err, ffibridge.ErrNullPointer, "the input has been freed")
}

func TestJSON(t *testing.T) {
	type value struct {
		Name  string
		Count int
	}
	buf, err := ffibridge.FromJSON(value{"x", 7})
	if err != nil {
		t.Fatal(err)
	}
	defer buf.Free()
	var got value
	if err := buf.ToJSON(&got); err != nil || (got != value{"x", 7}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if _, err := ffibridge.FromJSON(make(chan int)); err == nil {
		t.Fatal("a channel became JSON")
	}
	var syntax *json.SyntaxError
	if err := ffibridge.FromBytes([]byte("{")).ToJSON(&got); !errors.As(err, &syntax) {
		t.Fatalf("got %v", err)
	}
}

func TestErrorCodes(t *testing.T) {
	names := map[ffibridge.ErrorCode]string{
		0: "ok", 1: "null_pointer", 2: "buffer_too_small", 3: "invalid_utf8", 4: "serialization", 5: "panic", 6: "timeout",
		7: "not_found", 8: "lock_poisoned", 99: "error_99", -3: "error_-3",
	}
	for code, name := range names {
		if code.String() != name {
			t.Errorf("%d is %q", int(code), code)
		}
	}
	if ffibridge.ErrPanic != 5 || ffibridge.ErrUnknown != 99 {
		t.Error("a code was renumbered")
	}
	err := &ffibridge.FfiError{Code: ffibridge.ErrTimeout, Message: "too late"}
	if err.Error() != "ffi error [timeout]: too late" {
		t.Errorf("got %q", err)
	}
}

func TestVersion(t *testing.T) {
	if got := ffibridge.Version(); got != "1.0.0" {
		t.Fatalf("got %q", got)
	}
}

func wantError(t *testing.T, err error, code ffibridge.ErrorCode, message string) {
	t.Helper()
	var ffi *ffibridge.FfiError
	if !errors.As(err, &ffi) || ffi.Code != code || ffi.Message != message {
		t.Fatalf("got %v", err)
	}
}

func TestInvoke(t *testing.T) {
	input := ffibridge.FromBytes([]byte("xyz"))
	defer input.Free()
	result, err := ffibridge.InvokeCallback("ctest.large", input)
	if err != nil || !bytes.Equal(result.Bytes(), bytes.Repeat([]byte("x"), payload)) {
		t.Fatalf("got %d bytes, %v", result.Len(), err)
	}
	result.Free()
	result, err = ffibridge.InvokeCallback("ctest.large", nil)
	if err != nil || result.Len() != payload {
		t.Fatalf("got %d bytes, %v", result.Len(), err)
	}
	result.Free()
}

func TestInvokeJSON(t *testing.T) {
	var got []string
	if err := ffibridge.InvokeCallbackJSON("ctest.identity", []string{"a", "b"}, &got); err != nil || strings.Join(got, "") != "ab" {
		t.Fatalf("got %v, %v", got, err)
	}
	if err := ffibridge.InvokeCallbackJSON("ctest.identity", make(chan int), &got); err == nil {
		t.Fatal("a channel became JSON")
	}
	wantError(t, ffibridge.InvokeCallbackJSON("ctest.late", 1, &got), ffibridge.ErrTimeout, "no answer from row 7")
}

func TestErrorsKeepCodeAndMessage(t *testing.T) {
	for _, c := range []struct {
		name    string
		code    ffibridge.ErrorCode
		message string
	}{
		{"ctest.late", ffibridge.ErrTimeout, "no answer from row 7"},
		{"ctest.unknown", ffibridge.ErrUnknown, "a code of our own"},
		{"nobody", ffibridge.ErrNotFound, "not found: nobody"},
		{"ctest.identity\x00", ffibridge.ErrNotFound, "not found: ctest.identity\x00"},
	} {
		_, err := ffibridge.InvokeCallback(c.name, nil)
		wantError(t, err, c.code, c.message)
	}
	_, err := ffibridge.InvokeCallback("\xff", nil)
	var ffi *ffibridge.FfiError
	if !errors.As(err, &ffi) || ffi.Code != ffibridge.ErrInvalidUTF8 {
		t.Fatalf("got %v", err)
	}
}

func TestInputGivenBackIsACopy(t *testing.T) {
	input := ffibridge.FromBytes([]byte("the same"))
	result, err := ffibridge.InvokeCallback("ctest.identity", input)
	if err != nil {
		t.Fatal(err)
	}
	input.Free()
	if got := result.Bytes(); string(got) != "the same" {
		t.Fatalf("got %q", got)
	}
	result.Free()
}

func TestNothingLeaksInManyCalls(t *testing.T) {
	input := ffibridge.FromBytes([]byte("x"))
	defer input.Free()
	before := ctest.Allocated()
	for n := 0; n < 100_000; n++ {
		name := []string{"ctest.identity", "ctest.late", "nobody", "ctest.large"}[n%4]
		result, _ := ffibridge.InvokeCallback(name, input)
		result.Free()
	}
	if grown := ctest.Allocated() - before; grown > 100*payload {
		t.Fatalf("%d bytes are left", grown)
	}
}

func TestFinalizersFreeWhatWasForgotten(t *testing.T) {
	const forgotten = 1000
	before := ctest.Allocated()
	func() {
		for n := 0; n < forgotten/2; n++ {
			ffibridge.NewBuffer(payload)
			if _, err := ffibridge.InvokeCallback("ctest.large", nil); err != nil {
				t.Fatal(err)
			}
		}
	}()
	for deadline := time.Now().Add(time.Minute); ; {
		runtime.GC()
		left := ctest.Allocated() - before
		if left < 10*payload {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes are left", left, forgotten*payload)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFreeDuringUse(t *testing.T) {
	for round := 0; round < 200; round++ {
		buf := ffibridge.FromBytes(bytes.Repeat([]byte("x"), 4096))
		var all sync.WaitGroup
		for n := 0; n < 4; n++ {
			all.Add(2)
			go func() {
				defer all.Done()
				if result, err := ffibridge.InvokeCallback("ctest.identity", buf); err == nil {
					if result.Len() != 4096 {
						t.Errorf("got %d bytes", result.Len())
					}
					result.Free()
				} else if got := buf.Bytes(); got != nil {
					t.Errorf("%v, but %d bytes are left", err, len(got))
				}
			}()
			go func() {
				defer all.Done()
				buf.Free()
			}()
		}
		all.Wait()
	}
}

func BenchmarkFromBytes1K(b *testing.B) {
	data := make([]byte, 1024)
	b.ReportAllocs()
	for n := 0; n < b.N; n++ {
		ffibridge.FromBytes(data).Free()
	}
}

func BenchmarkInvoke(b *testing.B) {
	input := ffibridge.FromBytes([]byte("x"))
	defer input.Free()
	b.ReportAllocs()
	for n := 0; n < b.N; n++ {
		result, err := ffibridge.InvokeCallback("ctest.identity", input)
		if err != nil {
			b.Fatal(err)
		}
		result.Free()
	}
}
