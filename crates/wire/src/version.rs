//! Release numbers as they travel in the `version` member of a header.
//!
//! A number is the place of a release in Java's list of releases, where each release follows its own snapshot. The list
//! is regular from 3.0.1 on, so that it is computed here and not stored.

/// What our servers and clients say they are: 4.9.8. Clients remember it as the broker's version.
pub const CURRENT: i32 = 409;
/// First release whose clients get routes as standard JSON.
pub const STANDARD_JSON_ROUTE: i32 = 401;
/// First release whose brokers register with a list of filter servers around the topic table (V3_0_11).
pub const REGISTER_WITH_FILTER_SERVERS: i32 = 37;
/// First release whose consumers may override the number of retries (V3_4_9).
pub const OVERRIDE_RETRY_TIMES: i32 = 121;
/// First release whose consumers can be told to reset offsets (V3_0_7_SNAPSHOT).
pub const RESET_OFFSET: i32 = 28;
/// First release whose consumers can be asked for running info (V3_1_8_SNAPSHOT).
pub const RUNNING_INFO: i32 = 62;
/// Everything from here on is shown as `HIGHER_VERSION`.
pub const HIGHER: i32 = 612;

/// The name of a release as Java prints it, such as `V4_9_8`. Numbers below zero are shown as the first release's, like
/// numbers beyond the list as `HIGHER_VERSION`.
pub fn name(number: i32) -> String {
    if HIGHER <= number {
        return "HIGHER_VERSION".to_string();
    }
    let number = number.max(0);
    if let Some(early) = usize::try_from(number).ok().and_then(|at| EARLY.get(at)) {
        return format!("V3_0_0_{early}");
    }
    let (major, minor, patch) = release(number / 2);
    let snapshot = if number % 2 == 0 { "_SNAPSHOT" } else { "" };
    format!("V{major}_{minor}_{patch}{snapshot}")
}

/// The releases before 3.0.1 follow no rule.
const EARLY: [&str; 16] = [
    "SNAPSHOT",
    "ALPHA1",
    "BETA1",
    "BETA2",
    "BETA3",
    "BETA4",
    "BETA5",
    "BETA6_SNAPSHOT",
    "BETA6",
    "BETA7_SNAPSHOT",
    "BETA7",
    "BETA8_SNAPSHOT",
    "BETA8",
    "BETA9_SNAPSHOT",
    "BETA9",
    "FINAL",
];

/// The release at a place of the list counted in pairs (snapshot and release): 3.0.1 is 8.
fn release(pair: i32) -> (i32, i32, i32) {
    match pair {
        ..23 => (3, 0, pair - 7),                                 // 3.0.1 to 3.0.15
        23..43 => (3, 1 + (pair - 23) / 10, (pair - 23) % 10),    // 3.1.0 to 3.2.9
        43..106 => (3, 3 + (pair - 43) / 9, 1 + (pair - 43) % 9), // 3.3.1 to 3.9.9, no .0
        _ => (
            4 + (pair - 106) / 100,
            (pair - 106) / 10 % 10,
            (pair - 106) % 10,
        ), // 4.0.0 to 5.9.9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_javas_whole_list() {
        let golden = include_str!("../tests/golden/versions.txt");
        let mut count = 0;
        for (number, line) in golden.lines().enumerate() {
            assert_eq!(name(i32::try_from(number).unwrap()), line);
            count += 1;
        }
        assert_eq!(count, 613);
        assert_eq!(name(9999), "HIGHER_VERSION");
        assert_eq!(name(-5), "V3_0_0_SNAPSHOT");
        assert_eq!(name(CURRENT), "V4_9_8");
    }
}
