//! As `headers.rs`, for `http3.h`.

use c_header::{declared, items, parameters, plain_c_type};

fn header() -> String {
    include_str!("../include/coquic/ffi/http3.h").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_header_declares_the_functions_of_the_source() {
    let header = header();
    let source = items(include_str!("../src/http3/functions.rs"));
    let functions: Vec<_> = source.into_iter().filter(c_header::Item::is_function).collect();
    // The original's, and nine beyond them.
    assert_eq!(functions.len(), 70 + 9);
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
    for item in items(include_str!("../src/http3/types.rs")) {
        if let Some(constant) = item.text.strip_prefix("pub const ") {
            let (name, of) = constant.trim_end_matches(';').split_once(": ").unwrap();
            let (_, value) = of.split_once(" = ").unwrap();
            assert!(header.contains(&format!("#define {name} {value} ")), "the header has no {name} {value}");
            count += 1;
        } else if item.text.starts_with("pub struct ") {
            for (_, member) in item.members() {
                let (field, of) = member.split_once(": ").unwrap();
                let member = format!("{};", declared(of, field, |of| c_type("", of)));
                assert!(header.contains(&member), "the header has no {member}");
            }
            count += 1;
        }
    }
    assert_eq!(count, 21 + 23);
}

fn c_type(function: &str, of: &str) -> String {
    let name = match of {
        "*mut *mut Client" => "coquic_http3_client_t **",
        "*mut Client" => "coquic_http3_client_t *",
        "*const Client" => "const coquic_http3_client_t *",
        "*mut *mut ClientUpdate" => "coquic_http3_client_update_t **",
        "*mut ClientUpdate" => "coquic_http3_client_update_t *",
        "*const ClientUpdate" => "const coquic_http3_client_update_t *",
        "*mut *mut Server" => "coquic_http3_server_t **",
        "*mut Server" => "coquic_http3_server_t *",
        "*const Server" => "const coquic_http3_server_t *",
        "*mut *mut ServerUpdate" => "coquic_http3_server_update_t **",
        "*mut ServerUpdate" => "coquic_http3_server_update_t *",
        "*const ServerUpdate" => "const coquic_http3_server_update_t *",
        "*const Output" => "const coquic_result_t *",
        "*mut u64" => "uint64_t *",
        "*mut c_char" => "char *",
        "u16" => "uint16_t",
        _ => match of.split_once(' ') {
            Some(("*mut", of)) if of.starts_with("coquic_") => return format!("{of} *"),
            Some(("*const", of)) if of.starts_with("coquic_") => return format!("const {of} *"),
            _ if of.starts_with("coquic_") => of,
            _ => plain_c_type(of).unwrap_or_else(|| panic!("{function}: no C type is known for {of}")),
        },
    };
    name.to_owned()
}
