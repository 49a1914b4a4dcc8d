//! The few ways in which RocketMQ's tool formats values.

use jiff::{Timestamp, tz::TimeZone};

/// `yyyy-MM-dd HH:mm:ss,SSS` in the local time zone.
pub fn time_ms(ms: i64) -> String {
    local(ms, "%Y-%m-%d %H:%M:%S", true)
}

/// `yyyy-MM-dd HH:mm:ss` in the local time zone.
pub fn time(ms: i64) -> String {
    local(ms, "%Y-%m-%d %H:%M:%S", false)
}

fn local(ms: i64, format: &str, fraction: bool) -> String {
    // A time beyond the calendar's range is shown as the number it is.
    let Ok(timestamp) = Timestamp::from_millisecond(ms) else {
        return ms.to_string();
    };
    let text = timestamp
        .to_zoned(TimeZone::system())
        .strftime(format)
        .to_string();
    if fraction {
        format!("{text},{:03}", ms.rem_euclid(1000))
    } else {
        text
    }
}

/// The first `width` characters.
pub fn cut(text: &str, width: usize) -> &str {
    text.char_indices()
        .nth(width)
        .and_then(|(at, _)| text.get(..at))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_of_milliseconds() {
        assert!(time_ms(1_709_288_130_005).ends_with(",005"));
        assert_eq!(
            time_ms(1_709_288_130_005).len(),
            "2024-03-01 10:15:30,005".len()
        );
        assert_eq!(time(1_709_288_130_005).len(), "2024-03-01 10:15:30".len());
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("ab", 2), "ab");
        assert_eq!(cut("äöü", 2), "äö");
        assert_eq!(cut("", 0), "");
    }
}
