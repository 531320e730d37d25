package ffibridge

// #include "ffi.h"
import "C"

import (
	"encoding/json"
	"runtime"
	"sync"
)

// Buffer owns memory of the library. The zero value is an empty one.
type Buffer struct {
	// Held for reading while the memory is in use, for writing while it is freed.
	mu    sync.RWMutex
	inner C.FfiBuffer
	freed bool
}

// own makes inner's memory the Buffer's, which frees it once.
func own(inner C.FfiBuffer) *Buffer {
	b := &Buffer{inner: inner}
	runtime.SetFinalizer(b, (*Buffer).Free)
	return b
}

// NewBuffer returns an empty buffer with room for capacity bytes.
func NewBuffer(capacity int) *Buffer {
	return own(AllocBuffer(capacity))
}

// FromBytes returns a copy of data.
func FromBytes(data []byte) *Buffer {
	inner := AllocBuffer(len(data))
	inner.len = C.size_t(len(data))
	copy(bytesOf(inner), data)
	return own(inner)
}

// FromJSON returns v as JSON.
func FromJSON(v any) (*Buffer, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return FromBytes(data), nil
}

// lend runs use with b's memory, unless there is none any more; it says whether it did.
func (b *Buffer) lend(use func(C.FfiBuffer)) bool {
	if b == nil {
		return false
	}
	b.mu.RLock()
	// Until then b is in use, so that no finalizer frees its memory.
	defer b.mu.RUnlock()
	if b.freed {
		return false
	}
	use(b.inner)
	return true
}

// Bytes returns a copy of what is in b; nil if b is nil or freed.
func (b *Buffer) Bytes() []byte {
	var data []byte
	b.lend(func(inner C.FfiBuffer) {
		data = append([]byte{}, bytesOf(inner)...)
	})
	return data
}

// ToJSON reads the JSON in b into v.
func (b *Buffer) ToJSON(v any) error {
	return json.Unmarshal(b.Bytes(), v)
}

// Len returns how many bytes are in b; 0 if b is nil or freed.
func (b *Buffer) Len() int {
	return int(InspectBuffer(b).Len)
}

// IsEmpty says whether nothing is in b.
func (b *Buffer) IsEmpty() bool {
	return b.Len() == 0
}

// Free frees b's memory, once calls that use it are over. Freeing it again does nothing.
func (b *Buffer) Free() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.freed {
		return
	}
	b.freed = true
	if b.inner.data != nil {
		runtime.SetFinalizer(b, nil)
		C.ffi_buffer_free(b.inner)
		b.inner = C.FfiBuffer{}
	}
}
