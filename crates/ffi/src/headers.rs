//! Makes `include/quicprochat.h` of the Rust source, and checks that the one checked in is this.
//! `UPDATE_HEADERS=1 cargo test -p quicprochat-ffi headers` writes it.

use c_header::{Item, check, items, parameters, plain_c_type};
use std::fmt::Write;
use std::path::Path;

const ABOUT: &str = r#"/* quicprochat.h - end-to-end-encrypted messaging for C programs.
 *
 * Link with -lquicprochat_ffi -lpthread -ldl -lm, or ask pkg-config for quicprochat_ffi.
 *
 * Generated from crates/ffi/src by `UPDATE_HEADERS=1 cargo test -p quicprochat-ffi headers`.
 *
 * Strings. Every const char * parameter is NUL-terminated UTF-8, is read during the call only, and must not be NULL
 * unless its description says so; NULL or invalid UTF-8 gives an error code, not a crash.
 *
 * Ownership. What a function stores through its last parameter is the caller's until it is given back, once, to the
 * function that its description names; free() is not for it. It stays good when the handle is gone.
 *
 * Errors. A function that returns int32_t returns one of the status codes, and qpc_last_error says more, unless its
 * description says otherwise. Nothing takes effect by halves: a call that fails has done nothing, or says what it has.
 *
 * Threads. A handle may be used from any thread, but by one at a time: a second call gets QPC_ERROR, and a handle that was
 * given back QPC_NOT_CONNECTED as long as no other has its address. Calls on different handles do not block each
 * other. The library starts no thread that outlives a call, except while the system's resolver is still busy with a name
 * for which a call had no more time; it installs no signal handler and never exits the process.
 *
 * State. Keys and conversations are kept, encrypted, in $QPC_STATE_DIR, or else $XDG_STATE_HOME/quicprochat, or else
 * ~/.local/state/quicprochat, in one folder for each relay and user. One process at a time can be logged in from a
 * folder; a second one gets QPC_ERROR and a message that says so. If a copy of the folder is used elsewhere, the later
 * login has the session: calls on the other handle give QPC_ERROR until it logs in again.
 *
 * Structs begin with their size. Those that the caller makes have it set by the caller; those that the library makes can
 * be larger in a later version, and never mean something else. */
#ifndef QUICPROCHAT_H
#define QUICPROCHAT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
"#;

const END: &str = "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n";

const FILES: [&str; 6] = [
    include_str!("handle.rs"),
    include_str!("logging.rs"),
    include_str!("options.rs"),
    include_str!("client.rs"),
    include_str!("messages.rs"),
    include_str!("account.rs"),
];

#[test]
fn the_header_is_that_of_the_source() {
    let mut made = ABOUT.to_owned();
    for source in FILES.into_iter().chain([include_str!("events.rs")]) {
        let mut constants = false;
        for item in items(source) {
            let constant = item.text.starts_with("pub const QPC_");
            if !constant || !constants {
                made.push('\n');
            }
            constants = constant;
            declare(&item, &mut made);
        }
    }
    made += END;
    // Private items leave their blank line.
    while made.contains("\n\n\n") {
        made = made.replace("\n\n\n", "\n\n");
    }
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("include/quicprochat.h"), &made);
}

fn declare(item: &Item, out: &mut String) {
    let comment = || item.comment();
    if let Some(constant) = item.text.strip_prefix("pub const QPC_") {
        let (name, value) = constant.trim_end_matches(';').split_once(": ").unwrap();
        let value = value.split(" = ").nth(1).unwrap();
        writeln!(out, "{}#define QPC_{name} {value}", comment()).unwrap();
    } else if item.text.starts_with("pub struct Qp") {
        let name = item.text.trim_start_matches("pub struct ").split(' ').next().unwrap();
        let members = item.members();
        // Those with members that C knows are laid out as in C; the others are only pointed to.
        if members.iter().all(|(docs, _)| !docs.is_empty()) {
            writeln!(out, "{}typedef struct {name} {{", comment()).unwrap();
            for (docs, member) in members {
                let (field, of) = member.split_once(": ").unwrap();
                let field = format!("{};", c_header::declared(of, field, c_type));
                writeln!(out, "    {field:32} /* {} */", docs.join(" ")).unwrap();
            }
            writeln!(out, "}} {name};").unwrap();
        } else {
            writeln!(out, "{}typedef struct {name} {name};", comment()).unwrap();
        }
    } else if item.is_type() && item.text.starts_with("pub ") {
        let (name, signature) = item.signature();
        let (takes, gives) = parameters(signature, c_type);
        writeln!(out, "{}typedef {} (*{name})({takes});", comment(), c_type(&gives)).unwrap();
    } else if item.is_function() {
        let (name, signature) = item.signature();
        let (takes, gives) = parameters(signature, c_type);
        writeln!(out, "{}{}({takes});", comment(), c_header::declared(&gives, name, c_type)).unwrap();
    }
}

fn c_type(of: &str) -> String {
    if let Some(name) = plain_c_type(of) {
        return name.to_owned();
    }
    if let Some(of) = of.strip_prefix("*mut *mut ") {
        return format!("{of} **");
    }
    if let Some(of) = of.strip_prefix("*const *const ") {
        return format!("const {of} *const *");
    }
    if let Some(of) = of.strip_prefix("*mut ") {
        return format!("{of} *");
    }
    if let Some(of) = of.strip_prefix("*const ") {
        return format!("const {of} *");
    }
    of.strip_prefix("Option<").and_then(|of| of.strip_suffix('>')).unwrap_or(of).to_owned()
}
