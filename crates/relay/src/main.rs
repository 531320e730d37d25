//! The relay's program; all of it is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    qpc_relay::cli::main()
}
