//! The events that operators search for, by the numbers under which the journal keeps them (`journalctl MESSAGE_ID=`)
//! and explains them (`journalctl -x`, from `packaging/common/gantry.catalog`).
//!
//! A log line becomes one of them by its field `message_id`. Numbers are for ever: another event gets another one.

/// It serves.
pub const SERVING: &str = "5b0f7d0f3c1e4e2b9a6d1f0c7e8a4b31";
/// It begins to stop.
pub const STOPPING: &str = "9c2d6e14a7b84f0dbb5a3e9f1c6d7082";
/// It has stopped, and everything is written.
pub const STOPPED: &str = "e41a8c7590d24b6f8f3b2d6c5a19e7f4";
/// It has stopped, and the next start will recover the store.
pub const STOPPED_UNCLEAN: &str = "17f3b9ad62c5480e9d4e8a0b7c61f25a";
/// It cannot go on.
pub const FAILED: &str = "c86e05d2f91b47a3a0d7e4b85f3c912d";
/// The store takes no messages until a restart: a write or a sync failed.
pub const LATCHED: &str = "2a9de7b4183f4c65b1c08f6d9e5a7734";
/// Everybody may administer it.
pub const INSECURE: &str = "b3751fc8e6a04d92974e2cd1805fab68";
/// The configuration was read again.
pub const RELOADED: &str = "64cd82e97f1b4a30851fd3be0a97c5e6";
/// The configuration was read again and has errors.
pub const NOT_RELOADED: &str = "f08b3ac14d7e4f59a26c91e7b5d0438f";
/// Something does not get on, and the watchdog gets no sign of life.
pub const STUCK: &str = "8d14f6a2bc9e4730bd85c07f2e61a9d3";
/// It gets on again.
pub const UNSTUCK: &str = "3f7ac05be8d1426495b2e86d7f4c10a8";
/// It serves, and not every name server has it.
pub const NOT_REGISTERED: &str = "d95e2b7c04a84f1e8c3d6fa1b7e09254";
/// A broker of this name was promoted elsewhere: this master takes no messages any more.
pub const FENCED: &str = "bd4e9f17a0c84d2f8e5b36c1f7a2d905";
/// This slave is the master from now on.
pub const PROMOTED: &str = "46a7f3d0c51e4b8894d2e9b07c3f1a68";
/// This broker is a slave from now on.
pub const REJOINED: &str = "e09c5b28d7f64a13b6a1d84f20c97e5b";
/// Lines like others were left out.
pub const SUPPRESSED: &str = "7e60c4d8f2a94b1393adb50e6f8c2d17";
/// An administrator asked for something.
pub const AUDIT: &str = "a12b94ef706d4c38b5e8d73c9f0a6e52";
/// A broken invariant.
pub const PANIC: &str = "05c8d7e3ba6f4912ae47f9b2d16c83e0";

/// All of them.
pub const ALL: [&str; 18] = [
    SERVING,
    STOPPING,
    STOPPED,
    STOPPED_UNCLEAN,
    FAILED,
    LATCHED,
    INSECURE,
    RELOADED,
    NOT_RELOADED,
    STUCK,
    UNSTUCK,
    NOT_REGISTERED,
    FENCED,
    PROMOTED,
    REJOINED,
    SUPPRESSED,
    AUDIT,
    PANIC,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `journalctl -x` explains every event and no other.
    #[test]
    fn the_catalog_has_the_same_events() {
        let catalog = include_str!("../../../packaging/common/gantry.catalog");
        let entries = catalog
            .lines()
            .filter_map(|line| line.strip_prefix("-- "))
            .collect::<Vec<_>>();
        let known: BTreeSet<&str> = ALL.into_iter().collect();
        assert_eq!(known.len(), ALL.len(), "a number stands for one event");
        assert_eq!(entries.iter().copied().collect::<BTreeSet<_>>(), known);
        assert_eq!(entries.len(), ALL.len());
        for id in ALL {
            let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(id.len() == 32 && id.chars().all(is_hex), "{id}");
        }
    }
}
