//! Names of files that are named by where they start: 20 decimal digits.

/// The name of the file that starts at `offset`.
#[must_use]
pub fn of(offset: u64) -> String {
    format!("{offset:020}")
}

/// Where the file of that name starts; `None` for every other name.
#[must_use]
pub fn parse(name: &str) -> Option<u64> {
    let digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    let offset = digits.then(|| name.parse().ok())??;
    i64::try_from(offset).is_ok().then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_nothing_else_is_one() {
        assert_eq!(of(1 << 30), "00000000001073741824");
        assert_eq!(parse("00000000001073741824"), Some(1 << 30));
        for name in [
            "",
            "0",
            "lost+found",
            "0000000000107374182x",
            "+0000000001073741824",
            "99999999999999999999",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
