//! Makes `shared/ffi.h` and `shared/error_codes.h` of the Rust source, and checks that the ones checked in are these.
//! `UPDATE_HEADERS=1 cargo test -p ffi-bridge headers` writes them.

use crate::errors::FfiErrorCode;
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
        let file = folder.join(name);
        if std::env::var_os("UPDATE_HEADERS").is_some() {
            std::fs::write(&file, &made).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            there == made,
            "{name} is not what the source makes: UPDATE_HEADERS=1 cargo test -p ffi-bridge headers"
        );
    }
}

fn error_codes() -> String {
    let item =
        items(include_str!("errors.rs")).into_iter().find(|item| item.is("enum FfiErrorCode")).unwrap();
    let mut out = format!("{ERROR_CODES_ABOUT}\n{}typedef enum FfiErrorCode {{\n", comment(&item.docs));
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
        write!(out, "\n{}typedef struct {name} {{\n", comment(&item.docs)).unwrap();
        for (docs, member) in item.members() {
            let (field, of) = member.trim_start_matches("pub ").split_once(": ").unwrap();
            writeln!(out, "    {:32} /* {} */", format!("{};", declared(of, field)), docs.join(" ")).unwrap();
        }
        writeln!(out, "}} {name};").unwrap();
    }
    out += "\n#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n\
        _Static_assert(sizeof(FfiErrorCode) == 4, \"compile without -fshort-enums\");\n#endif\n";
    for item in c.iter().filter(|item| item.text.starts_with("type ")) {
        let (name, signature) = item.text.trim_start_matches("type ").split_once(" = ").unwrap();
        let (takes, gives) = signature_of(signature);
        write!(
            out,
            "\n{}typedef {}({takes});\n",
            comment(&item.docs),
            declared(gives, &format!("(*{})", c_type(name)))
        )
        .unwrap();
    }
    let functions: Vec<_> = c.iter().filter(|item| item.text.contains("extern \"C\" fn ")).collect();
    assert_eq!(functions.len(), 12);
    for item in functions {
        let (_, signature) = item.text.split_once("fn ").unwrap();
        let name = signature.split('(').next().unwrap();
        let (takes, gives) = signature_of(signature);
        write!(out, "\n{}{}({takes});\n", comment(&item.docs), declared(gives, name)).unwrap();
    }
    out + END
}

/// A documented struct, enum, type or function: its text up to the body of a function, attributes left out.
struct Item {
    docs: Vec<String>,
    text: String,
}

impl Item {
    fn is(&self, what: &str) -> bool {
        self.text.starts_with(&format!("pub {what} {{"))
    }

    /// The members of a struct or enum, each with its documentation.
    fn members(&self) -> Vec<(Vec<String>, String)> {
        let (mut members, mut docs) = (Vec::new(), Vec::new());
        for line in self.text.lines().skip(1).map(str::trim) {
            if let Some(doc) = line.strip_prefix("/// ") {
                docs.push(plain(doc));
            } else if let Some(member) = line.strip_suffix(',') {
                members.push((std::mem::take(&mut docs), member.to_owned()));
            }
        }
        members
    }
}

/// What a source file has of them. It counts on rustfmt's layout.
fn items(source: &str) -> Vec<Item> {
    let (mut items, mut docs, mut lines) = (Vec::new(), Vec::new(), source.lines());
    while let Some(line) = lines.next() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(plain(doc.trim()));
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let ends = match line {
            _ if line.starts_with("pub struct ") || line.starts_with("pub enum ") => "}",
            _ if line.contains("extern \"C\" fn ") && !line.starts_with("type ") => "{",
            _ if line.starts_with("type ") => ";",
            _ => {
                docs.clear();
                continue;
            }
        };
        let mut text = line.to_owned();
        while !text.ends_with(ends) {
            text = text + "\n" + lines.next().unwrap();
        }
        items.push(Item { docs: std::mem::take(&mut docs), text });
    }
    items
}

/// Documentation without Rust's links.
fn plain(doc: &str) -> String {
    doc.replace("[`", "").replace("`]", "")
}

/// The first paragraph, as a C comment.
fn comment(docs: &[String]) -> String {
    let first: Vec<&str> = docs.iter().map(String::as_str).take_while(|line| !line.is_empty()).collect();
    assert!(!first.is_empty(), "an item without documentation");
    format!("/* {} */\n", first.join("\n * "))
}

/// What a function takes and gives, of the text from its name on.
fn signature_of(signature: &str) -> (String, &str) {
    let (_, rest) = signature.split_once('(').unwrap();
    let (takes, gives) = rest.rsplit_once(')').unwrap();
    let takes: Vec<String> = takes
        .split(',')
        .map(str::trim)
        .filter(|argument| !argument.is_empty())
        .map(|argument| {
            let (name, of) = argument.split_once(": ").unwrap();
            declared(of, name)
        })
        .collect();
    let gives = gives.trim().trim_start_matches("->").trim_end_matches(['{', ';']).trim();
    (if takes.is_empty() { "void".to_owned() } else { takes.join(", ") }, gives)
}

/// `what` declared as being `of` this Rust type.
fn declared(of: &str, what: &str) -> String {
    let of = c_type(of);
    if of.ends_with('*') { format!("{of}{what}") } else { format!("{of} {what}") }
}

fn c_type(of: &str) -> &str {
    match of {
        "" => "void",
        "usize" => "size_t",
        "i32" => "int32_t",
        "*mut u8" => "uint8_t *",
        "*const c_char" => "const char *",
        "*mut std::ffi::c_char" => "char *",
        "*mut c_void" => "void *",
        "FfiBuffer" | "FfiString" | "FfiResult" | "FfiErrorCode" => of,
        // What may hold any error code has a type of its own on the Rust side.
        "AnyResult" => "FfiResult",
        "AnyCallback" | "Option<AnyCallback>" => "FfiCallback",
        "AnyUserCallback" | "Option<AnyUserCallback>" => "FfiUserCallback",
        "FreeUser" | "Option<FreeUser>" => "FfiFreeUser",
        _ => panic!("no C type is known for {of}"),
    }
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
