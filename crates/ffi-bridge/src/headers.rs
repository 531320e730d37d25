//! Makes `shared/ffi.h` and `shared/error_codes.h` of the Rust source, and checks that the ones checked in are these.
//! `UPDATE_HEADERS=1 cargo test -p ffi-bridge headers` writes them.

use crate::errors::FfiErrorCode;
use c_header::{Item, items, parameters, plain_c_type};
use std::fmt::Write;
use std::path::Path;

const ERROR_CODES_ABOUT: &str = r#"/* error_codes.h - the error codes of ffi-bridge, for whoever needs nothing else; ffi.h includes it.
 *
 * Generated from crates/ffi-bridge/src by `UPDATE_HEADERS=1 cargo test -p ffi-bridge headers`. */
#ifndef FFI_BRIDGE_ERROR_CODES_H
#define FFI_BRIDGE_ERROR_CODES_H

#ifdef __cplusplus
extern "C" {
#endif
"#;

const FFI_ABOUT: &str = r#"/* ffi.h - buffers, results and callbacks by name, over a C boundary.
 *
 * Link with -lffi_bridge, or ask pkg-config for ffi_bridge.
 *
 * Generated from crates/ffi-bridge/src by `UPDATE_HEADERS=1 cargo test -p ffi-bridge headers`.
 *
 * Ownership. What this library makes, it frees, once: a buffer by ffi_buffer_free, a string by ffi_string_free, a
 * result, with all that is in it, by ffi_result_free. free() is not for them. A buffer that goes into a call stays
 * the caller's, and only has to be readable until the call is over; its memory may be of any kind.
 *
 * Callbacks. The input is borrowed: it is not to be freed or kept. What a callback returns belongs to the caller from
 * then on, so its message comes from ffi_string_alloc and its payload from ffi_buffer_alloc; or the payload is the
 * input or a part of it, of which the caller gets a copy, or memory that is always there, with a `capacity` of 0. On
 * success the caller sees no message, on error no payload. An error code that is none of FfiErrorCode reaches the
 * caller as FFI_ERR_UNKNOWN, with the message it came with. An empty input arrives as all zeros. A callback is not
 * left by longjmp or by an exception.
 *
 * Threads. Every function may be called from every thread. A callback runs in the thread that calls it, in several at
 * once, and holds up no other; it may register, call and unregister callbacks, also the one it is. Memory may be
 * freed in another thread than it was made in.
 *
 * Errors. No function lets a panic out. None ends the process, but for lack of memory for a message or a name. */
#ifndef FFI_BRIDGE_H
#define FFI_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

#include "error_codes.h"

#ifdef __cplusplus
extern "C" {
#endif
"#;

const END: &str = "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n";

#[test]
fn the_headers_are_those_of_the_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shared");
    for (name, made) in [("error_codes.h", error_codes()), ("ffi.h", ffi())] {
        c_header::check(&folder.join(name), &made);
    }
}

fn error_codes() -> String {
    let item =
        items(include_str!("errors.rs")).into_iter().find(|item| item.is("enum FfiErrorCode")).unwrap();
    let mut out = format!("{ERROR_CODES_ABOUT}\n{}typedef enum FfiErrorCode {{\n", item.first_paragraph());
    let mut cases = String::new();
    let mut members = 0;
    for (docs, member) in item.members() {
        let (variant, number) = member.split_once(" = ").unwrap();
        let code = FfiErrorCode::from_number(number.parse().unwrap()).unwrap();
        let name = c_name(variant);
        writeln!(out, "    {:32} /* {} */", format!("{name} = {number},"), docs.join(" ")).unwrap();
        writeln!(cases, "    case {name}: return \"{code}\";").unwrap();
        members += 1;
    }
    assert_eq!(members, FfiErrorCode::ALL.len());
    out += "} FfiErrorCode;\n\n/* A word or two about a code. */\n";
    out += "static inline const char *ffi_error_code_str(FfiErrorCode code) {\n    switch (code) {\n";
    out + &cases + "    default: return \"unrecognized error code\";\n    }\n}\n" + END
}

fn ffi() -> String {
    let mut out = FFI_ABOUT.to_owned();
    let (memory, errors, c) =
        (items(include_str!("memory.rs")), items(include_str!("errors.rs")), items(include_str!("c.rs")));
    for name in ["FfiBuffer", "FfiString", "FfiResult"] {
        let is = |item: &&Item| item.is(&format!("struct {name}"));
        let item = memory.iter().chain(&errors).find(is).unwrap();
        write!(out, "\n{}typedef struct {name} {{\n", item.first_paragraph()).unwrap();
        for (docs, member) in item.members() {
            let (field, of) = member.split_once(": ").unwrap();
            writeln!(out, "    {:32} /* {} */", format!("{};", declared(of, field)), docs.join(" ")).unwrap();
        }
        writeln!(out, "}} {name};").unwrap();
    }
    out += "\n#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n\
        _Static_assert(sizeof(FfiErrorCode) == 4, \"compile without -fshort-enums\");\n#endif\n";
    for item in c.iter().filter(|item| item.is_type()) {
        let (name, signature) = item.signature();
        let (takes, gives) = parameters(signature, c_type);
        write!(
            out,
            "\n{}typedef {}({takes});\n",
            item.first_paragraph(),
            declared(&gives, &format!("(*{})", c_type(name)))
        )
        .unwrap();
    }
    let functions: Vec<_> = c.iter().filter(|item| item.is_function()).collect();
    assert_eq!(functions.len(), 12);
    for item in functions {
        let (name, signature) = item.signature();
        let (takes, gives) = parameters(signature, c_type);
        write!(out, "\n{}{}({takes});\n", item.first_paragraph(), declared(&gives, name)).unwrap();
    }
    out + END
}

fn declared(of: &str, what: &str) -> String {
    c_header::declared(of, what, c_type)
}

fn c_type(of: &str) -> String {
    let name = plain_c_type(of).unwrap_or_else(|| match of {
        "FfiBuffer" | "FfiString" | "FfiResult" | "FfiErrorCode" => of,
        // What may hold any error code has a type of its own on the Rust side.
        "AnyResult" => "FfiResult",
        "AnyCallback" | "Option<AnyCallback>" => "FfiCallback",
        "AnyUserCallback" | "Option<AnyUserCallback>" => "FfiUserCallback",
        "FreeUser" | "Option<FreeUser>" => "FfiFreeUser",
        _ => panic!("no C type is known for {of}"),
    });
    name.to_owned()
}

/// FFI_OK, FFI_ERR_NULL_POINTER.
fn c_name(variant: &str) -> String {
    let mut name = String::from(if variant == "Ok" { "FFI" } else { "FFI_ERR" });
    for letter in variant.chars() {
        if letter.is_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
