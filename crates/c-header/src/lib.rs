//! C headers, made of the Rust source of what they declare, for tests that compare them with those checked in.
//!
//! [`items`] finds constants, structs, enums, function types and functions with their documentation; what they are called
//! in C is up to the caller. It reads what rustfmt writes, not Rust: what it does not know is a panic, in a test.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "for tests")]

use std::path::Path;

/// Compares a header with the one checked in; writes it if `UPDATE_HEADERS` is set. Panics if they differ.
pub fn check(file: &Path, made: &str) {
    if std::env::var_os("UPDATE_HEADERS").is_some() {
        std::fs::write(file, made).unwrap();
    }
    let there = std::fs::read_to_string(file).unwrap_or_default();
    let package = std::env::var("CARGO_PKG_NAME").unwrap_or_default();
    assert!(
        there == made,
        "{} is not what the source makes: UPDATE_HEADERS=1 cargo test -p {package} headers",
        file.display()
    );
}

/// Something documented: its text up to the body of a function, attributes left out.
#[derive(Debug)]
pub struct Item {
    /// What stands behind `///`, without Rust's links.
    pub docs: Vec<String>,
    /// The text.
    pub text: String,
}

impl Item {
    /// Whether this is, for example, the `struct Name`.
    pub fn is(&self, what: &str) -> bool {
        self.text.starts_with(&format!("pub {what} {{"))
    }

    /// Whether this is a function for C.
    pub fn is_function(&self) -> bool {
        self.text.contains("extern \"C\" fn ") && !self.is_type()
    }

    /// Whether this is a type of functions.
    pub fn is_type(&self) -> bool {
        self.text.trim_start_matches("pub ").starts_with("type ")
    }

    /// Name and signature of a type or a function.
    pub fn signature(&self) -> (&str, &str) {
        let text = self.text.trim_start_matches("pub ");
        match text.strip_prefix("type ") {
            Some(named) => named.split_once(" = ").unwrap(),
            None => {
                let (_, rest) = text.split_once("fn ").unwrap();
                (rest.split('(').next().unwrap(), rest)
            }
        }
    }

    /// The members of a struct or enum, each with its documentation.
    pub fn members(&self) -> Vec<(Vec<String>, String)> {
        let (mut members, mut docs) = (Vec::new(), Vec::new());
        for line in self.text.lines().skip(1).map(str::trim) {
            if let Some(doc) = line.strip_prefix("/// ") {
                docs.push(plain(doc));
            } else if let Some(member) = line.strip_suffix(',') {
                members.push((std::mem::take(&mut docs), member.trim_start_matches("pub ").to_owned()));
            }
        }
        members
    }

    /// The documentation up to its first heading, which is for readers of Rust, as a C comment.
    pub fn comment(&self) -> String {
        self.comment_until(|line| line.starts_with("# "))
    }

    /// The first paragraph, as a C comment.
    pub fn first_paragraph(&self) -> String {
        self.comment_until(str::is_empty)
    }

    fn comment_until(&self, ends: impl Fn(&str) -> bool) -> String {
        let docs: Vec<&str> = self.docs.iter().map(String::as_str).take_while(|line| !ends(line)).collect();
        let docs = docs.join("\n");
        assert!(!docs.trim().is_empty(), "without documentation: {}", self.text);
        format!("/* {} */\n", docs.trim().replace('\n', "\n * ").replace(" * \n", " *\n"))
    }
}

/// What a source file has of them, in its order.
pub fn items(source: &str) -> Vec<Item> {
    let (mut items, mut docs, mut lines) = (Vec::new(), Vec::new(), source.lines());
    while let Some(line) = lines.next() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(plain(doc.strip_prefix(' ').unwrap_or(doc)));
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let item = line.trim_start_matches("pub ");
        let ends = match item {
            _ if line.starts_with("pub struct ") || line.starts_with("pub enum ") => "}",
            _ if item.starts_with("type ") || line.starts_with("pub const ") => ";",
            _ if item.contains("extern \"C\" fn ") => "{",
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

/// What a function takes and gives in C.
pub fn parameters(signature: &str, c_type: impl Fn(&str) -> String + Copy) -> (String, String) {
    let (_, rest) = signature.split_once('(').unwrap();
    let (takes, gives) = rest.rsplit_once(')').unwrap();
    let takes: Vec<String> = takes
        .split(',')
        .map(str::trim)
        .filter(|argument| !argument.is_empty())
        .map(|argument| {
            let (name, of) = argument.split_once(": ").unwrap();
            declared(of, name, c_type)
        })
        .collect();
    let gives = gives.trim_end_matches(['{', ';', '>', ' ', '\n']).trim().trim_start_matches("->").trim();
    (if takes.is_empty() { "void".to_owned() } else { takes.join(", ") }, gives.to_owned())
}

/// `what` declared as being `of` this Rust type.
pub fn declared(of: &str, what: &str, c_type: impl Fn(&str) -> String) -> String {
    if let Some((of, count)) =
        of.strip_prefix('[').and_then(|array| array.strip_suffix(']')?.split_once("; "))
    {
        return format!("{} {what}[{count}]", c_type(of));
    }
    let of = c_type(of);
    if of.ends_with('*') { format!("{of}{what}") } else { format!("{of} {what}") }
}

/// The names in C of Rust's types of numbers, and of pointers to them and to characters.
pub fn plain_c_type(of: &str) -> Option<&'static str> {
    Some(match of {
        "" => "void",
        "usize" => "size_t",
        "i32" => "int32_t",
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        "u8" => "uint8_t",
        "*const u8" => "const uint8_t *",
        "*mut u8" => "uint8_t *",
        "*const c_char" => "const char *",
        "*mut c_char" | "*mut std::ffi::c_char" => "char *",
        "*mut *mut c_char" => "char **",
        "*mut c_void" => "void *",
        _ => return None,
    })
}

fn plain(doc: &str) -> String {
    doc.replace("[`", "").replace("`]", "")
}
