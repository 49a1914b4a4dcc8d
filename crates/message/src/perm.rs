//! Permission bits of topics and brokers, as they stand in tables and on the wire.

/// The topic may be read.
pub const READ: i32 = 4;
/// The topic may be written.
pub const WRITE: i32 = 2;
/// New topics may take this one as their template.
pub const INHERIT: i32 = 1;

/// Whether reading is allowed.
#[must_use]
pub fn is_readable(perm: i32) -> bool {
    perm & READ == READ
}

/// Whether writing is allowed.
#[must_use]
pub fn is_writable(perm: i32) -> bool {
    perm & WRITE == WRITE
}

/// Whether new topics may take this one as their template.
#[must_use]
pub fn is_inherited(perm: i32) -> bool {
    perm & INHERIT == INHERIT
}

/// The text form Java prints: `RW-`, `R--`, `RWX`.
#[must_use]
pub fn text(perm: i32) -> String {
    let letter = |set: bool, letter: char| if set { letter } else { '-' };
    [
        letter(is_readable(perm), 'R'),
        letter(is_writable(perm), 'W'),
        letter(is_inherited(perm), 'X'),
    ]
    .iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_print_as_java_prints_them() {
        for (perm, expected) in [
            (6, "RW-"),
            (7, "RWX"),
            (4, "R--"),
            (2, "-W-"),
            (1, "--X"),
            (0, "---"),
        ] {
            assert_eq!(text(perm), expected);
        }
    }
}
