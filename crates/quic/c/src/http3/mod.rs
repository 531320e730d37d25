//! HTTP/3 for C: what `include/coquic/ffi/http3.h` declares, over [`http3::whole`].

mod builtin;
mod functions;
mod input;
mod side;
mod types;
mod view;
