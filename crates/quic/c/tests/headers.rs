//! The header is written by hand; what it declares has to be what the source defines. Layouts are compared with the same numbers
//! on both sides: in `src/types.rs` when it is compiled, in `tests/c/layout.c` by a C compiler.

use c_header::{declared, items, parameters, plain_c_type};

fn header() -> String {
    include_str!("../include/coquic/ffi/core.h").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_header_declares_the_functions_of_the_source() {
    let header = header();
    let functions: Vec<_> =
        items(include_str!("../src/functions.rs")).into_iter().filter(c_header::Item::is_function).collect();
    assert_eq!(functions.len(), 44);
    for function in functions {
        let (name, signature) = function.signature();
        let (takes, gives) = parameters(signature, |of| c_type(name, of));
        let prototype = format!("{}({takes});", declared(&gives, name, |of| c_type(name, of)));
        assert!(header.contains(&prototype), "the header has no\n{prototype}");
    }
}

#[test]
fn the_header_has_the_numbers_and_members_of_the_source() {
    let header = header();
    let mut count = 0;
    for item in items(include_str!("../src/types.rs")) {
        if let Some(constant) = item.text.strip_prefix("pub const ") {
            let (name, of) = constant.trim_end_matches(';').split_once(": ").unwrap();
            let (_, value) = of.split_once(" = ").unwrap();
            assert!(header.contains(&format!("#define {name} {value} ")), "the header has no {name} {value}");
            count += 1;
        } else if item.text.starts_with("pub struct ") {
            for (_, member) in item.members() {
                let (field, of) = member.split_once(": ").unwrap();
                if field != "r#as" {
                    let member = format!("{};", declared(of, field, |of| c_type("", of)));
                    assert!(header.contains(&member), "the header has no {member}");
                }
            }
            count += 1;
        }
    }
    assert_eq!(count, 71 + 38);
}

fn c_type(function: &str, of: &str) -> String {
    let name = match of {
        "Out" => "coquic_result_t **",
        "*mut *mut Handle" => "coquic_endpoint_t **",
        "*mut Handle" => "coquic_endpoint_t *",
        "*const Handle" => "const coquic_endpoint_t *",
        "*mut Output" => "coquic_result_t *",
        "*const Output" => "const coquic_result_t *",
        "u16" => "uint16_t",
        "*const u32" => "const uint32_t *",
        _ => match of.split_once(' ') {
            Some(("*mut", of)) => return format!("{of} *"),
            Some(("*const", of)) if of.starts_with("coquic_") => return format!("const {of} *"),
            _ if of.starts_with("coquic_") => of,
            _ => plain_c_type(of).unwrap_or_else(|| panic!("{function}: no C type is known for {of}")),
        },
    };
    name.to_owned()
}
