//! What a copied table means for ours: the same, another one, or nothing that can be used.
//!
//! Pure. Bodies are those of Java's masters too, which have the shape of the files.

use std::collections::BTreeSet;

use gantry_message::topic;
use gantry_wire::bodies::{
    BodyError, ConsumerOffsets, DataVersion, DelayOffsets, SubscriptionGroupTable, TopicConfigTable,
};

use super::merge;

/// What to do with a table that was read.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict<T> {
    /// It is what we have.
    Same,
    /// It takes the place of ours.
    Replace(T),
}

/// Why a table is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it cannot be read: {0}")]
    Body(#[from] BodyError),
    /// Every broker has some, so this one has just lost its own.
    #[error("it has no entries")]
    Empty,
}

/// Judges the answer to 21.
pub(super) fn topics(
    body: &[u8],
    ours: DataVersion,
) -> Result<Verdict<TopicConfigTable>, Unusable> {
    let mut table = TopicConfigTable::parse(body)?;
    if table.data_version == ours {
        return Ok(Verdict::Same);
    }
    table
        .topic_config_table
        .retain(|name, config| is_name(name) && config.topic_name == *name);
    if table.topic_config_table.is_empty() {
        return Err(Unusable::Empty);
    }
    Ok(Verdict::Replace(table))
}

/// Judges the answer to 201.
pub(super) fn groups(
    body: &[u8],
    ours: DataVersion,
) -> Result<Verdict<SubscriptionGroupTable>, Unusable> {
    let mut table = SubscriptionGroupTable::parse(body)?;
    if table.data_version == ours {
        return Ok(Verdict::Same);
    }
    table
        .subscription_group_table
        .retain(|name, config| is_name(name) && config.group_name == *name);
    if table.subscription_group_table.is_empty() {
        return Err(Unusable::Empty);
    }
    Ok(Verdict::Replace(table))
}

/// Judges the answer to 43.
pub(super) fn offsets(body: &[u8]) -> Result<merge::Table, Unusable> {
    Ok(merge::clean(ConsumerOffsets::parse(body)?.offset_table))
}

/// Judges the answer to 45.
pub(super) fn delay(body: &[u8]) -> Result<DelayOffsets, Unusable> {
    Ok(DelayOffsets::parse(body)?)
}

/// The topics that the new table does not have any more, if it is a later one: a master that came back with an old table, or
/// that lost its table and counts its changes anew, has not deleted anything.
pub(super) fn vanished<'a>(
    before: impl Iterator<Item = &'a str>,
    version: DataVersion,
    new: &TopicConfigTable,
) -> BTreeSet<String> {
    let DataVersion { counter, timestamp } = new.data_version;
    let later = version.timestamp <= timestamp && version.counter <= counter;
    before
        .filter(|name| later && !new.topic_config_table.contains_key(*name))
        .map(str::to_owned)
        .collect()
}

/// Refuses a table that counts fewer changes than the one that was taken over last, and lacks something: the master has lost
/// its own, or came back with an older one, and nobody has deleted anything. Clocks may go back.
pub(super) fn is_no_loss<'a>(
    last: Option<DataVersion>,
    new: DataVersion,
    mut lacking: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let Some(last) = last.filter(|last| new.counter < last.counter) else {
        return Ok(());
    };
    let Some(first) = lacking.next() else {
        return Ok(());
    };
    let (more, now, before) = (lacking.count(), new.counter, last.counter);
    Err(format!(
        "its table lacks {first} and {more} more, and counts {now} changes where it counted {before}: it has lost them. Make them \
         there again, or start this slave again, which gives them up"
    ))
}

/// A topic is a folder's name, too.
fn is_name(name: &str) -> bool {
    !name.is_empty() && topic::can_be_stored(name)
}

/// The address of a broker's second listener, which answers when the first one is busy with messages.
pub(super) fn vip(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?.checked_sub(2)?;
    (0 < port).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: DataVersion = DataVersion {
        counter: 3,
        timestamp: 100,
    };

    /// As Apache's broker answers, `topicName` and all.
    const APACHE: &[u8] = br#"{"dataVersion":{"counter":4,"timestamp":100},"topicConfigTable":{"T":{"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":4},"../x":{"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"../x","topicSysFlag":0,"writeQueueNums":4}}}"#;

    #[test]
    fn another_version_replaces_the_topics_and_none_gets_out_of_its_folder() {
        let Ok(Verdict::Replace(table)) = topics(APACHE, OURS) else {
            panic!("it is another version");
        };
        assert_eq!(table.data_version.counter, 4);
        let names: Vec<_> = table.topic_config_table.keys().collect();
        assert_eq!(names, ["T"]);
        assert_eq!(topics(APACHE, table.data_version).unwrap(), Verdict::Same);
    }

    #[test]
    fn bad_bodies_are_named_and_change_nothing() {
        for body in [&b""[..], b"{", b"[1]", b"\xff\xff", br#"{"dataVersion":7}"#] {
            assert!(topics(body, OURS).is_err(), "{body:?}");
            assert!(groups(body, OURS).is_err(), "{body:?}");
        }
        for body in [&b"{"[..], b"[1]", b"\xff\xff"] {
            assert!(offsets(body).is_err(), "{body:?}");
            assert!(delay(body).is_err(), "{body:?}");
        }
        let none = br#"{"dataVersion":{"counter":9,"timestamp":1},"topicConfigTable":{}}"#;
        assert!(matches!(topics(none, OURS), Err(Unusable::Empty)));
        let empty = br#"{"offsetTable":{}}"#;
        assert_eq!(offsets(empty).unwrap(), merge::Table::new());
    }

    #[test]
    fn a_table_that_counts_anew_and_lacks_something_was_lost() {
        let version = |counter, timestamp| DataVersion { counter, timestamp };
        let judge =
            |last, new, lacking: &[&'static str]| is_no_loss(last, new, lacking.iter().copied());
        let last = Some(version(17, 100));
        let lost = judge(last, version(2, 200), &["T", "U"]).unwrap_err();
        assert!(
            lost.contains("lacks T and 1 more, and counts 2 changes where it counted 17"),
            "{lost}"
        );
        for (last, new, lacking) in [
            (last, version(18, 99), &["T"][..]),
            (last, version(2, 200), &[]),
            (None, version(2, 200), &["T"]),
        ] {
            assert_eq!(judge(last, new, lacking), Ok(()), "{last:?} {new:?}");
        }
    }

    #[test]
    fn only_a_later_table_takes_topics_away() {
        let Ok(Verdict::Replace(table)) = topics(APACHE, OURS) else {
            panic!("it is another version");
        };
        let gone = |version| vanished(["T", "Old"].into_iter(), version, &table);
        assert_eq!(gone(OURS), BTreeSet::from(["Old".to_owned()]));
        let newer = DataVersion {
            counter: 1,
            timestamp: 101,
        };
        assert!(gone(newer).is_empty());
        let of_more_changes = DataVersion {
            counter: 5,
            timestamp: 99,
        };
        assert!(gone(of_more_changes).is_empty());
    }

    #[test]
    fn the_second_listener_is_two_ports_below() {
        assert_eq!(vip("10.0.0.5:10911").as_deref(), Some("10.0.0.5:10909"));
        assert_eq!(vip("[::1]:10911").as_deref(), Some("[::1]:10909"));
        for odd in ["10.0.0.5", "h:2", "h:x", "h:70000", ""] {
            assert_eq!(vip(odd), None, "{odd}");
        }
    }
}
