use std::io;

/// A directory of files: everything the journal asks of an operating system.
///
/// [`Directory`](crate::Directory) is the real one; `fault::Disk` fails on demand.
pub trait Storage: Send + 'static {
    /// An open file.
    type File: StorageFile;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file; fails if the name is taken. The name is durable after [`Storage::sync_dir`].
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and, if the file system allows, writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file. It is durably gone after [`Storage::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file of a [`Storage`]. There is no shared position; all access names its offset.
pub trait StorageFile: Send + Sync + 'static {
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Reads some bytes; 0 means the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some bytes.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts the file.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes the content and the size durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

/// Fills as much of `buf` as the file has, and says how much that is.
pub(crate) fn read_full(file: &dyn StorageFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Writes all of `buf`. `done` counts the bytes that got there, also when it fails.
pub(crate) fn write_full(file: &dyn StorageFile, buf: &[u8], offset: u64, done: &mut u32) -> io::Result<()> {
    let mut rest = buf;
    let mut at = offset;
    while !rest.is_empty() {
        match file.write_at(rest, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                rest = &rest[n..];
                at += n as u64;
                *done += n as u32;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
