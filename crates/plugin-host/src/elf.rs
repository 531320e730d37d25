//! Whether a file is a library for this machine. The dynamic linker's own messages do not say what is wrong.

use crate::LoadError;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What is compared: class, byte order, machine.
#[derive(Clone, Copy, PartialEq)]
struct Target {
    class: u8,
    order: u8,
    machine: u16,
}

pub(crate) fn check(path: &Path) -> Result<(), LoadError> {
    let file = |source| LoadError::File { path: path.to_owned(), source };
    let plugin = target(path).map_err(file)?.ok_or_else(|| LoadError::NoLibrary(path.to_owned()))?;
    // Without /proc the dynamic linker decides.
    let Ok(Some(relay)) = target(Path::new("/proc/self/exe")) else { return Ok(()) };
    if plugin == relay {
        return Ok(());
    }
    Err(LoadError::Architecture { plugin: plugin.to_string(), relay: relay.to_string() })
}

fn target(path: &Path) -> std::io::Result<Option<Target>> {
    let mut header = Vec::new();
    File::open(path)?.take(20).read_to_end(&mut header)?;
    let [0x7f, b'E', b'L', b'F', class, order, .., low, high] = header[..] else { return Ok(None) };
    if header.len() < 20 {
        return Ok(None);
    }
    let machine = if order == BIG_ENDIAN { [low, high] } else { [high, low] };
    Ok(Some(Target { class, order, machine: u16::from_be_bytes(machine) }))
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.machine {
            3 => f.write_str("x86"),
            8 => f.write_str("MIPS"),
            20 | 21 => f.write_str("PowerPC"),
            40 => f.write_str("ARM"),
            62 => f.write_str("x86-64"),
            183 => f.write_str("AArch64"),
            243 => f.write_str("RISC-V"),
            258 => f.write_str("LoongArch"),
            other => write!(f, "machine {other}"),
        }?;
        let bits = if self.class == 2 { 64 } else { 32 };
        let order = if self.order == BIG_ENDIAN { "big" } else { "little" };
        write!(f, " ({bits} bit, {order}-endian)")
    }
}

const BIG_ENDIAN: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn says(header: &[u8]) -> String {
        let file = std::env::temp_dir().join(format!("qpc-elf-{}-{}", std::process::id(), header.len()));
        std::fs::write(&file, header).unwrap();
        let result = check(&file);
        std::fs::remove_file(&file).unwrap();
        result.unwrap_err().to_string()
    }

    #[test]
    fn other_machines_are_told_by_their_names() {
        let mut header = *b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0\0\x03\0\x08and more";
        assert!(says(&header).starts_with("it is built for MIPS (32 bit, big-endian), and this relay for "));
        (header[5], header[18], header[19]) = (1, 8, 0);
        assert!(says(&header[..27]).contains("MIPS (32 bit, little-endian)"));
        (header[4], header[18]) = (2, 250);
        assert!(says(&header[..26]).contains("machine 250 (64 bit, little-endian)"));
    }

    #[test]
    fn other_files_are_none() {
        for header in [&b""[..], b"\x7fELF\x02\x01\x01", b"#!/bin/sh\necho a plugin\n"] {
            assert!(says(header).ends_with("is not a shared library"));
        }
        let missing = check(Path::new("/nowhere/plugin.so")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/plugin.so: No such file"), "{missing}");
        check(&std::env::current_exe().unwrap()).unwrap();
    }
}
