//! Looking at the files of a data directory while they pass.

use std::path::Path;

/// Told of every file of a data directory, one after another. Each inspector has a thread of its own.
pub trait Inspector: Send {
    /// A file begins; its path within the data directory, tablespaces as `pg_tblspc/OID/…`.
    fn begin(&mut self, path: &Path);
    fn bytes(&mut self, bytes: &[u8]);
    /// One block of a file that began with others: what is between them lies in what it builds upon.
    fn block(&mut self, number: u32, bytes: &[u8]);
    /// It has no more bytes.
    fn end(&mut self);
}
