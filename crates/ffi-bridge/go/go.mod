module github.com/ChainPrimitives/ffi-bridge

go 1.19
