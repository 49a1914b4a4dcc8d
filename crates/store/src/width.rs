//! Lengths in memory and on disk are the same numbers here: the server runs on 64-bit machines only.

const _: () = assert!(usize::BITS == u64::BITS);

/// A length in memory as a length on disk.
pub(crate) const fn wide(len: usize) -> u64 {
    len as u64
}

/// A length on disk as a length in memory.
pub(crate) const fn narrow(len: u64) -> usize {
    len as usize
}
