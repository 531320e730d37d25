//! The headers are written by hand; what they declare has to be what the source defines. Layouts are compared with the same
//! numbers on both sides: in `src/types.rs` and `src/http3/types.rs` when they are compiled, in `tests/c` by a C compiler.

#![allow(clippy::unwrap_used, reason = "for tests")]

use c_header::{declared, items, parameters, plain_c_type};

struct Header {
    text: &'static str,
    functions: &'static str,
    types: &'static str,
}

const CORE: Header = Header {
    text: include_str!("../include/coquic/ffi/core.h"),
    functions: include_str!("../src/functions.rs"),
    types: include_str!("../src/types.rs"),
};
const HTTP3: Header = Header {
    text: include_str!("../include/coquic/ffi/http3.h"),
    functions: include_str!("../src/http3/functions.rs"),
    types: include_str!("../src/http3/types.rs"),
};

impl Header {
    #[track_caller]
    fn declares(&self, declaration: &str) {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(declaration), "the header has no\n{declaration}");
    }

    /// How many functions the source has, each of which the header declares.
    fn functions(&self) -> usize {
        let functions = items(self.functions).into_iter().filter(c_header::Item::is_function);
        functions
            .map(|function| {
                let (name, signature) = function.signature();
                let (takes, gives) = parameters(signature, |of| c_type(name, of));
                self.declares(&format!("{}({takes});", declared(&gives, name, |of| c_type(name, of))));
            })
            .count()
    }

    /// How many constants and structs the source has, each of which the header has with its value and its members.
    fn types(&self) -> (usize, usize) {
        let (mut constants, mut structs) = (0, 0);
        for item in items(self.types) {
            if let Some(constant) = item.text.strip_prefix("pub const ") {
                let (name, of) = constant.trim_end_matches(';').split_once(": ").unwrap();
                let (_, value) = of.split_once(" = ").unwrap();
                self.declares(&format!("#define {name} {value} "));
                constants += 1;
            } else if item.text.starts_with("pub struct ") {
                for (_, member) in item.members() {
                    let (field, of) = member.split_once(": ").unwrap();
                    // The union, which has no name of its own in C.
                    if field != "r#as" {
                        self.declares(&format!("{};", declared(of, field, |of| c_type("", of))));
                    }
                }
                structs += 1;
            }
        }
        (constants, structs)
    }
}

#[test]
fn headers_declare_the_functions_of_the_source() {
    assert_eq!(CORE.functions(), 44);
    // The original's, and ten beyond them.
    assert_eq!(HTTP3.functions(), 70 + 10);
}

#[test]
fn headers_have_the_numbers_and_members_of_the_source() {
    assert_eq!(CORE.types(), (70, 39));
    assert_eq!(HTTP3.types(), (21, 23));
}

fn c_type(function: &str, of: &str) -> String {
    let plain = match of {
        "Out" => Some("coquic_result_t **"),
        "u16" => Some("uint16_t"),
        "*mut u64" => Some("uint64_t *"),
        "*const u32" => Some("const uint32_t *"),
        _ => plain_c_type(of),
    };
    if let Some(plain) = plain {
        return plain.to_owned();
    }
    let pointers =
        [("*mut *mut ", "", " **"), ("*mut ", "", " *"), ("*const ", "const ", " *"), ("", "", "")];
    let (named, before, behind) = pointers
        .into_iter()
        .find_map(|(rust, before, behind)| Some((of.strip_prefix(rust)?, before, behind)))
        .unwrap();
    let named = match named {
        "Handle" => "coquic_endpoint_t",
        "Output" => "coquic_result_t",
        "Client" => "coquic_http3_client_t",
        "ClientUpdate" => "coquic_http3_client_update_t",
        "Server" => "coquic_http3_server_t",
        "ServerUpdate" => "coquic_http3_server_update_t",
        _ if named.starts_with("coquic_") => named,
        _ => panic!("{function}: no C type is known for {of}"),
    };
    format!("{before}{named}{behind}")
}
