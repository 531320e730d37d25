//! The header is written by hand; what it declares has to be what the source defines.

use c_header::{items, parameters, plain_c_type};

#[test]
fn the_header_declares_what_the_source_defines() {
    let header = include_str!("../include/libipc.h").split_whitespace().collect::<Vec<_>>().join(" ");
    let functions: Vec<_> =
        items(include_str!("../src/lib.rs")).into_iter().filter(c_header::Item::is_function).collect();
    // The 16 of other implementations, and one of ours.
    assert_eq!(functions.len(), 17);
    for function in functions {
        let (name, signature) = function.signature();
        let (takes, gives) = parameters(signature, c_type);
        let prototype =
            format!("{} {name}({});", c_type(&gives), takes.replace(" r#in", "").replace(" out", ""));
        assert!(header.contains(&prototype), "the header has no\n{prototype}");
    }
}

fn c_type(of: &str) -> String {
    let name = match of {
        "c_int" => "int",
        "u16" => "uint16_t",
        "*mut c_int" => "int *",
        "*mut usize" => "size_t *",
        "*mut *mut c_void" => "void **",
        // With the name in it.
        "Option<CInput>" => "char (*in)(int orig, char *payload, size_t *mlen)",
        "Option<COutput>" => "char (*out)(int dest, const char *payload, size_t mlen)",
        _ => plain_c_type(of).unwrap_or_else(|| panic!("no C type is known for {of}")),
    };
    name.to_owned()
}
