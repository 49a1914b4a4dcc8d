//! The files as Java's broker wrote them: read completely, and written back with the same bytes but for the order of entries.

use gantry_message::{QueueId, QueueOffset};

use super::Home;

const TOPICS: &str = include_str!("golden/topics.json");
const GROUPS: &str = include_str!("golden/subscriptionGroup.json");
const OFFSETS: &str = include_str!("golden/consumerOffset.json");

/// The lines of a file, entries of the table sorted: Java's order is that of its hashes. An entry's last line has a comma unless it is
/// the last entry.
fn sorted(text: &str) -> Vec<String> {
    let is_entry = |line: &str| line.starts_with("\t\t\"") && line.contains("\":{");
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|line| is_entry(line)).unwrap();
    let mut entries: Vec<String> = Vec::new();
    let mut rest: Vec<String> = lines[..first].iter().map(|&line| line.to_owned()).collect();
    for line in &lines[first..] {
        match entries.last_mut() {
            _ if is_entry(line) => entries.push((*line).to_owned()),
            Some(entry) if line.starts_with("\t\t") => {
                entry.push('\n');
                entry.push_str(line.strip_suffix("},").map_or(line, |_| "\t\t}"));
            }
            _ => rest.push((*line).to_owned()),
        }
    }
    entries.sort_unstable();
    entries.extend(rest);
    entries
}

/// The version moves with the change that makes a table be written.
fn without_version(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .filter(|line| !line.contains("\"counter\":") && !line.contains("\"timestamp\":"))
        .collect()
}

#[test]
fn javas_topics_file_is_read_and_written_back_the_same() {
    let home = Home::with(|config| config.trace_topic_enable = true);
    home.write("topics.json", TOPICS);
    let topics = home.topics();
    assert_eq!(topics.version().counter, 6);
    let ours = topics.get("TopicA").unwrap();
    assert_eq!(
        (
            ours.read_queue_nums,
            ours.write_queue_nums,
            ours.perm,
            ours.order
        ),
        (4, 6, 6, false)
    );
    assert!(topics.is_order("OrderA") && !topics.is_order("TopicA") && !topics.is_order("Unknown"));
    topics.touch(super::NOW).unwrap();
    assert_eq!(
        without_version(sorted(&home.read("topics.json"))),
        without_version(sorted(TOPICS))
    );
    assert_eq!(home.read("topics.json.bak"), TOPICS);
}

#[test]
fn javas_groups_file_is_read_and_written_back_the_same() {
    let home = Home::new();
    home.write("subscriptionGroup.json", GROUPS);
    let groups = home.groups();
    assert_eq!(groups.version().counter, 2);
    let ours = groups.get("GroupA").unwrap();
    assert_eq!(
        (
            ours.retry_max_times,
            ours.consume_from_min_enable,
            ours.consume_broadcast_enable
        ),
        (3, false, false)
    );
    groups.put((*ours).clone(), super::NOW).unwrap();
    assert_eq!(
        without_version(sorted(&home.read("subscriptionGroup.json"))),
        without_version(sorted(GROUPS))
    );
}

#[test]
fn javas_offsets_file_is_read_and_written_back_the_same() {
    let home = Home::new();
    home.write("consumerOffset.json", OFFSETS);
    let offsets = home.offsets();
    let (group, topic) = ("consumer-mwtf3y8a", "round-trip-mwtf3y8a");
    let at = |queue| {
        offsets
            .query(group, topic, QueueId(queue))
            .map(|offset| offset.0)
    };
    assert_eq!(
        [at(0), at(1), at(2), at(3), at(4)],
        [Some(2), Some(2), Some(3), Some(3), None]
    );
    offsets
        .commit(group, topic, QueueId(0), QueueOffset(9))
        .unwrap();
    offsets.flush().unwrap();
    let expected = OFFSETS.replace("{0:2,", "{0:9,");
    assert_eq!(sorted(&home.read("consumerOffset.json")), sorted(&expected));
}

#[test]
fn a_fresh_broker_knows_the_topics_and_groups_that_javas_knows() {
    let home = Home::with(|config| config.trace_topic_enable = true);
    let (topics, groups) = (home.topics(), home.groups());
    let made_later = [
        "TopicA",
        "OrderA",
        "round-trip-mwtf3y8a",
        "%RETRY%consumer-mwtf3y8a",
        "RMQ_SYS_TRANS_HALF_TOPIC",
    ];
    let java = Home::with(|config| config.trace_topic_enable = true);
    java.write("topics.json", TOPICS);
    for (name, expected) in &java.topics().all().entries {
        let known = topics.get(name);
        if made_later.contains(&&**name) {
            assert_eq!(known, None, "{name}");
        } else {
            assert_eq!(known.as_ref(), Some(expected), "{name}");
        }
    }
    assert_eq!(
        topics.all().entries.len() + made_later.len(),
        java.topics().all().entries.len()
    );
    java.write("subscriptionGroup.json", GROUPS);
    let mut expected: Vec<String> = java
        .groups()
        .all()
        .entries
        .keys()
        .map(|name| name.to_string())
        .collect();
    expected.retain(|name| name != "GroupA" && name != "consumer-mwtf3y8a");
    expected.sort_unstable();
    let mut names: Vec<String> = groups
        .all()
        .entries
        .keys()
        .map(|name| name.to_string())
        .collect();
    names.sort_unstable();
    assert_eq!(names, expected);
}
