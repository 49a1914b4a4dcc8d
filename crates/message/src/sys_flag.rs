//! The flag word of a record: how its body is stored, which transaction step it is, how wide its hosts are.
//!
//! The layout is Apache's. Bits that describe the record are the server's: see [`SysFlag::from_client`].

use std::fmt;

/// The flag word of a record (`sysFlag`).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SysFlag(pub u32);

impl SysFlag {
    /// The body is compressed.
    pub const COMPRESSED: u32 = 0x1;
    /// The topic's messages carry several tags.
    pub const MULTI_TAGS: u32 = 0x2;
    /// The two bits of the transaction step.
    pub const TRANSACTION_MASK: u32 = 0xC;
    /// A half message.
    pub const PREPARED: u32 = 0x4;
    /// A committed message.
    pub const COMMIT: u32 = 0x8;
    /// A rolled back message; never in a queue, never in the index.
    pub const ROLLBACK: u32 = 0xC;
    /// The born host has 16 address bytes.
    pub const BORN_V6: u32 = 0x10;
    /// The store host has 16 address bytes.
    pub const STORE_V6: u32 = 0x20;
    /// Reserved for batches.
    pub const NEED_UNWRAP: u32 = 0x40;
    /// Reserved for batches.
    pub const INNER_BATCH: u32 = 0x80;
    /// The three bits of the compression type (0: zlib as 4.x writes it).
    pub const COMPRESSION_TYPE_MASK: u32 = 0x700;

    /// What a client may say about its message; everything that describes the record is taken out.
    #[must_use]
    pub fn from_client(flag: i32) -> Self {
        let client = Self::COMPRESSED
            | Self::MULTI_TAGS
            | Self::TRANSACTION_MASK
            | Self::COMPRESSION_TYPE_MASK;
        Self(flag.cast_unsigned() & client)
    }

    /// Whether all bits of `mask` are set.
    #[must_use]
    pub fn has(self, mask: u32) -> bool {
        self.0 & mask == mask
    }

    /// This flag with the bits of `mask` set.
    #[must_use]
    pub fn with(self, mask: u32) -> Self {
        Self(self.0 | mask)
    }

    /// This flag with the bits of `mask` cleared.
    #[must_use]
    pub fn without(self, mask: u32) -> Self {
        Self(self.0 & !mask)
    }

    /// The transaction step: 0, [`Self::PREPARED`], [`Self::COMMIT`] or [`Self::ROLLBACK`].
    #[must_use]
    pub fn transaction(self) -> u32 {
        self.0 & Self::TRANSACTION_MASK
    }

    /// Whether a record with this flag gets a queue entry: half and rolled back ones do not.
    #[must_use]
    pub fn is_queued(self) -> bool {
        matches!(self.transaction(), 0 | Self::COMMIT)
    }
}

impl fmt::Debug for SysFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysFlag({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_claim_how_the_record_is_laid_out() {
        assert_eq!(SysFlag::from_client(-1), SysFlag(0x70F));
        assert_eq!(SysFlag::from_client(0x31), SysFlag(SysFlag::COMPRESSED));
    }

    #[test]
    fn half_and_rolled_back_records_are_not_queued() {
        assert!(SysFlag(0).is_queued());
        assert!(SysFlag(SysFlag::COMMIT).is_queued());
        assert!(!SysFlag(SysFlag::PREPARED).is_queued());
        assert!(!SysFlag(SysFlag::ROLLBACK).is_queued());
    }
}
