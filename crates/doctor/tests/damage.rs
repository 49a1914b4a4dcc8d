//! Every kind of damage is named with file and place; a repair makes it good, and only what was destroyed is missing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::faulty::FaultyDisk;
use gantry_doctor::repair::{Mode, repair};
use gantry_doctor::{
    CheckOptions, Class, Progress, Report, Selection, Severity, Shape, Target, export,
};
use gantry_message::RecordView;
use gantry_store::Store;
use harness::{CLEAN, EXT, Home, ROOT, SEGMENT, UNCLEAN, apache, examine, faults, target, tree};

/// Topic, queue, offset, body of every message, as consumers get them.
type Messages = BTreeSet<(String, u32, u64, Vec<u8>)>;

fn consumed(store: &Store) -> Messages {
    let mut messages = Messages::new();
    for topic in store.topics() {
        for queue in store.queues_of(&topic) {
            let mut next = queue.min();
            while next < queue.max() {
                let found = store.read(&queue, next, 32, &|_| true);
                assert!(found.next > next, "a read does not move on");
                for slice in &found.slices {
                    let mut rest = &slice[..];
                    while !rest.is_empty() {
                        let view = RecordView::parse(rest).unwrap();
                        let id = view.queue_id().0;
                        let body = view.body().to_vec();
                        messages.insert((topic.clone(), id, view.queue_offset().0, body));
                        rest = &rest[view.len()..];
                    }
                }
                next = found.next;
            }
        }
    }
    messages
}

/// The offsets of all records of the log.
fn records(disk: &FaultyDisk) -> Vec<u64> {
    let mut out = Vec::new();
    let selection = Selection::default();
    let hidden = Progress::hidden();
    export::export(&target(disk), &selection, &mut out, &mut |_| {}, &hidden).unwrap();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["offset"].as_u64().unwrap()
    };
    String::from_utf8(out).unwrap().lines().map(line).collect()
}

fn mend(disk: &FaultyDisk) -> (Report, String) {
    let mut said = Vec::new();
    let report = repair(&target(disk), Mode::ForReal, &mut said, &Progress::hidden()).unwrap();
    (report, String::from_utf8(said).unwrap())
}

struct Damage {
    name: &'static str,
    /// Done to a healthy store; returns the file that the finding must name.
    harm: fn(&Home) -> PathBuf,
    code: &'static str,
    /// Where in the file.
    offset: Option<u64>,
    lost: Lost,
}

/// What is gone for good.
#[derive(Clone, Copy)]
enum Lost {
    Nothing,
    One,
    /// Messages whose records have bytes there.
    Range(u64, u64),
}

impl Lost {
    fn count(self, records: &[u64]) -> usize {
        let overlaps = |from: u64, to: u64| {
            let ends = records.iter().skip(1).chain([&u64::MAX]);
            let both = records.iter().zip(ends);
            // Between the last record of a segment and the next there is only the blank record.
            both.filter(|&(&start, &end)| {
                start < to && from < end.min(start - start % SEGMENT + SEGMENT - 8)
            })
            .count()
        };
        match self {
            Self::Nothing => 0,
            Self::One => 1,
            Self::Range(from, to) => overlaps(from, to),
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn segment(at: u64) -> PathBuf {
    file("commitlog").join(format!("{:020}", at - at % SEGMENT))
}

fn queue_file(nth: u64) -> PathBuf {
    file("consumequeue/Events/0").join(format!("{:020}", nth * 320))
}

fn change_log(home: &Home, at: u64, change: impl FnOnce(&mut [u8])) -> PathBuf {
    let path = segment(at);
    let within = usize::try_from(at % SEGMENT).unwrap();
    home.change(&path, |bytes| change(&mut bytes[within..]));
    path
}

fn changed(home: &Home, path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    home.change(&path, change);
    path
}

/// The record in the middle of the log.
fn middle(home: &Home) -> u64 {
    let records = records(&home.disk);
    records[records.len() / 2]
}

fn index_file(home: &Home) -> PathBuf {
    home.below("index")[1].clone()
}

const INDEX_SLOT: usize = 40;
const INDEX_ENTRY: usize = 40 + 7 * 4 + 20;

/// The first slot that is used.
fn used_slot(bytes: &[u8]) -> usize {
    (0..7)
        .map(|slot| INDEX_SLOT + 4 * slot)
        .find(|&at| bytes[at..at + 4] != [0; 4])
        .unwrap()
}

const DAMAGES: &[Damage] = &[
    Damage {
        name: "a body changed",
        harm: |home| change_log(home, middle(home), |bytes| bytes[90] ^= 1),
        code: "log-damaged",
        offset: None,
        lost: Lost::One,
    },
    Damage {
        name: "a magic number changed",
        harm: |home| change_log(home, middle(home), |bytes| bytes[5] ^= 1),
        code: "log-damaged",
        offset: None,
        lost: Lost::One,
    },
    Damage {
        name: "a record that says it lies elsewhere",
        harm: |home| change_log(home, middle(home), |bytes| bytes[34] ^= 1),
        code: "log-damaged",
        offset: None,
        lost: Lost::One,
    },
    Damage {
        name: "tags of a record changed",
        harm: |home| {
            let at = middle(home);
            change_log(home, at, |bytes| {
                let tags = bytes.windows(5).position(|five| five == b"TAGS\x01");
                bytes[tags.unwrap() + 5] ^= 1;
            });
            // The finding is about the entry, because it comes first.
            file("consumequeue")
        },
        code: "entry-tags",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "a record that says another number in its queue",
        harm: |home| {
            change_log(home, middle(home), |bytes| bytes[25] ^= 1);
            // The finding is about the entry, which is right.
            file("consumequeue")
        },
        code: "queue-offset",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "a segment in the middle is missing",
        harm: |home| {
            home.disk.take(&segment(2 * SEGMENT));
            segment(2 * SEGMENT)
        },
        code: "segment-missing",
        offset: Some(0),
        lost: Lost::Range(2 * SEGMENT, 3 * SEGMENT),
    },
    Damage {
        name: "a segment is cut",
        harm: |home| changed(home, segment(SEGMENT), |bytes| bytes.truncate(1000)),
        code: "segment-length",
        offset: Some(1000),
        lost: Lost::Range(SEGMENT + 1000, 2 * SEGMENT),
    },
    Damage {
        name: "a segment is emptied",
        harm: |home| changed(home, segment(SEGMENT), Vec::clear),
        code: "segment-length",
        offset: Some(0),
        lost: Lost::Range(SEGMENT, 2 * SEGMENT),
    },
    Damage {
        name: "a segment is too long",
        harm: |home| changed(home, segment(SEGMENT), |bytes| bytes.extend([7; 90])),
        code: "segment-length",
        offset: Some(SEGMENT),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a file where no segment starts",
        harm: |home| {
            let path = file("commitlog").join(format!("{:020}", 77));
            home.disk.put(&path, &[3; 4096]);
            path
        },
        code: "segment-name",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "the end of the log is zeros",
        harm: |home| {
            let last = *records(&home.disk).last().unwrap();
            change_log(home, last, |bytes| bytes.fill(0))
        },
        code: "log-short",
        offset: None,
        lost: Lost::One,
    },
    Damage {
        name: "the last record is torn",
        harm: |home| {
            let last = *records(&home.disk).last().unwrap();
            change_log(home, last, |bytes| bytes[60..].fill(0))
        },
        code: "log-end",
        offset: None,
        lost: Lost::One,
    },
    Damage {
        name: "a blank record says another length",
        harm: |home| {
            let records = records(&home.disk);
            let next = records.iter().position(|&at| at >= SEGMENT).unwrap();
            let last = records[next - 1];
            let bytes = home.disk.content(&segment(last)).unwrap();
            let within = usize::try_from(last).unwrap();
            let blank = within + RecordView::parse(&bytes[within..]).unwrap().len();
            changed(home, segment(0), |bytes| bytes[blank + 3] ^= 1)
        },
        code: "blank-length",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "a queue file in the middle is missing",
        harm: |home| {
            home.disk.take(&queue_file(1));
            queue_file(1)
        },
        code: "queue-file-missing",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "the last queue file is missing",
        harm: |home| {
            let path = home.below("consumequeue/Events/0").pop().unwrap();
            home.disk.take(&path);
            path
        },
        code: "entries-missing",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a whole queue is missing",
        harm: |home| {
            let files = home.below("consumequeue/Events/0");
            files.iter().for_each(|path| home.disk.take(path));
            queue_file(0)
        },
        code: "entries-missing",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a queue file is cut",
        harm: |home| changed(home, queue_file(1), |bytes| bytes.truncate(70)),
        code: "queue-file-length",
        offset: Some(70),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a queue file is emptied",
        harm: |home| changed(home, queue_file(0), Vec::clear),
        code: "queue-file-length",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a hole in a queue file",
        harm: |home| changed(home, queue_file(1), |bytes| bytes[40..80].fill(0)),
        code: "queue-hole",
        offset: Some(40),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an entry points elsewhere",
        harm: |home| changed(home, queue_file(1), |bytes| bytes[67] ^= 1),
        code: "entry-wrong",
        offset: Some(60),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an entry points behind the end",
        harm: |home| changed(home, queue_file(0), |bytes| bytes[2] = 1),
        code: "entries-ahead",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an entry says another size",
        harm: |home| changed(home, queue_file(1), |bytes| bytes[71] ^= 1),
        code: "entry-size",
        offset: Some(60),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an entry says another tags code",
        harm: |home| changed(home, queue_file(1), |bytes| bytes[79] ^= 1),
        code: "entry-tags",
        offset: Some(60),
        lost: Lost::Nothing,
    },
    Damage {
        name: "two entries have changed places",
        harm: |home| changed(home, queue_file(1), |bytes| bytes[..40].rotate_left(20)),
        code: "entry-order",
        offset: Some(20),
        lost: Lost::Nothing,
    },
    Damage {
        name: "garbage behind the last entry",
        harm: |home| {
            let path = home.below("consumequeue/Events/0").pop().unwrap();
            changed(home, path, |bytes| bytes[300..].fill(0xFF))
        },
        code: "queue-garbage",
        offset: Some(300),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an index file is missing",
        harm: |home| {
            home.disk.take(&index_file(home));
            file("index")
        },
        code: "keys-missing",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "the newest index file is missing",
        harm: |home| {
            home.disk.take(home.below("index").last().unwrap());
            file("index")
        },
        code: "keys-missing",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "an index file is cut",
        harm: |home| changed(home, index_file(home), |bytes| bytes.truncate(333)),
        code: "index-length",
        offset: Some(333),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an index file is emptied",
        harm: |home| changed(home, index_file(home), Vec::clear),
        code: "index-length",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an index says too many entries",
        harm: |home| changed(home, index_file(home), |bytes| bytes[38] = 1),
        code: "index-header",
        offset: Some(36),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an index says too few entries",
        harm: |home| changed(home, index_file(home), |bytes| bytes[39] -= 3),
        code: "index-slot",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "a slot of an index changed",
        harm: |home| {
            changed(home, index_file(home), |bytes| {
                let slot = used_slot(bytes);
                bytes[slot + 3] ^= 1;
            })
        },
        code: "index-slot",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "a chain of an index changed",
        harm: |home| {
            changed(home, index_file(home), |bytes| {
                bytes[INDEX_ENTRY + 20 * 9 + 19] ^= 1
            })
        },
        code: "index-chain",
        offset: Some(INDEX_ENTRY as u64 + 180),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a hash of an index changed",
        harm: |home| {
            changed(home, index_file(home), |bytes| {
                bytes[INDEX_ENTRY + 20 * 9] ^= 1
            })
        },
        code: "index-hash",
        offset: Some(INDEX_ENTRY as u64 + 180),
        lost: Lost::Nothing,
    },
    Damage {
        name: "an index entry points elsewhere",
        harm: |home| {
            changed(home, index_file(home), |bytes| {
                bytes[INDEX_ENTRY + 20 * 9 + 11] ^= 1
            })
        },
        code: "index-entry",
        offset: Some(INDEX_ENTRY as u64 + 180),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a time of an index changed",
        harm: |home| {
            changed(home, index_file(home), |bytes| {
                bytes[INDEX_ENTRY + 20 * 9 + 14] ^= 1
            })
        },
        code: "index-time",
        offset: Some(INDEX_ENTRY as u64 + 180),
        lost: Lost::Nothing,
    },
    Damage {
        name: "the checkpoint is emptied",
        harm: |home| changed(home, file("checkpoint"), Vec::clear),
        code: "checkpoint-length",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "the checkpoint is missing",
        harm: |home| {
            home.disk.take(&file("checkpoint"));
            file("checkpoint")
        },
        code: "checkpoint-missing",
        offset: None,
        lost: Lost::Nothing,
    },
    Damage {
        name: "the checkpoint is from the future",
        harm: |home| changed(home, file("checkpoint"), |bytes| bytes[9] = 7),
        code: "checkpoint-time",
        offset: Some(8),
        lost: Lost::Nothing,
    },
    Damage {
        name: "our checkpoint is emptied",
        harm: |home| changed(home, file("gantry.checkpoint"), Vec::clear),
        code: "progress-damaged",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "our checkpoint is changed",
        harm: |home| changed(home, file("gantry.checkpoint"), |bytes| bytes[40] ^= 1),
        code: "progress-damaged",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a table is emptied",
        harm: |home| changed(home, file("config/topics.json"), Vec::clear),
        code: "table-empty",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a table is cut",
        harm: |home| {
            changed(home, file("config/consumerOffset.json"), |bytes| {
                bytes.truncate(30)
            })
        },
        code: "table-damaged",
        offset: Some(30),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a backup is garbage",
        harm: |home| {
            changed(home, file("config/topics.json.bak"), |bytes| {
                bytes.fill(b'x')
            })
        },
        code: "table-damaged",
        offset: Some(0),
        lost: Lost::Nothing,
    },
    Damage {
        name: "a table is missing",
        harm: |home| {
            home.disk.take(&file("config/subscriptionGroup.json"));
            file("config/subscriptionGroup.json")
        },
        code: "table-missing",
        offset: None,
        lost: Lost::Nothing,
    },
];

#[test]
fn every_damage_is_named_and_a_repair_loses_only_what_was_destroyed() {
    let healthy = {
        let home = Home::healthy();
        consumed(&home.open())
    };
    assert_eq!(healthy.len(), 150);
    let all = records(&Home::healthy().disk);
    for damage in DAMAGES {
        let name = damage.name;
        let home = Home::healthy();
        let harmed = (damage.harm)(&home);
        let before = tree(&home.disk);
        let report = examine(&home.disk);
        assert_eq!(report.exit_code(), 1, "{name}\n{report}");
        let found = report.findings.iter().find(|finding| {
            finding.severity == Severity::Fault
                && finding.code == damage.code
                && Path::new(&finding.file).starts_with(&harmed)
        });
        let found = found.unwrap_or_else(|| panic!("{name}: {}\n{report}", harmed.display()));
        if damage.offset.is_some() {
            assert_eq!(found.offset, damage.offset, "{name}\n{report}");
        }
        assert!(
            tree(&home.disk) == before,
            "{name}: a check changed something"
        );

        let (after, said) = mend(&home.disk);
        assert_eq!(faults(&after), [""; 0], "{name}\n{said}");
        assert_eq!(faults(&examine(&home.disk)), [""; 0], "{name}\n{said}");
        let store = home.open();
        let left = consumed(&store);
        let lost: Vec<_> = healthy.difference(&left).collect();
        // Tags are no part of what is compared.
        assert!(left.is_subset(&healthy), "{name}: something new");
        assert_eq!(lost.len(), damage.lost.count(&all), "{name}\n{said}");
        harness::send(&store, 1000);
        store.shutdown().unwrap();
        assert_eq!(
            faults(&examine(&home.disk)),
            [""; 0],
            "{name}, gone on with"
        );
    }
}

#[test]
fn what_a_repair_drops_is_in_the_quarantine() {
    let home = Home::healthy();
    let record = middle(&home);
    change_log(&home, record, |bytes| bytes[90] ^= 1);
    home.change(&queue_file(1), |bytes| bytes[67] ^= 1);
    home.change(&index_file(&home), |bytes| bytes.truncate(333));
    home.change(&file("config/topics.json"), |bytes| bytes.truncate(20));
    let before = tree(&home.disk);
    let (_, said) = mend(&home.disk);
    let kept: Vec<Vec<u8>> = home
        .below("quarantine")
        .iter()
        .map(|path| home.disk.content(path).unwrap())
        .collect();
    for (path, content) in before {
        let now = home.disk.content(&path);
        let is_dropped = path.starts_with(file("index"))
            || path.starts_with(file("consumequeue/Events/0"))
            || path == file("config/topics.json");
        if is_dropped && now != content {
            let content = content.unwrap();
            assert!(
                kept.contains(&content),
                "{} is gone\n{said}",
                path.display()
            );
        }
    }
    let log = home.disk.files().into_iter().find(|path| {
        path.starts_with(file("quarantine"))
            && path
                .to_string_lossy()
                .contains(&format!("commitlog-{record:020}"))
    });
    assert!(log.is_some(), "no copy of the damaged record\n{said}");
    let topics = home.disk.content(&file("config/topics.json")).unwrap();
    assert_eq!(
        Some(topics),
        home.disk.content(&file("config/topics.json.bak"))
    );
}

#[test]
fn a_dry_run_changes_nothing_and_a_healthy_store_needs_nothing() {
    let home = Home::healthy();
    home.change(&queue_file(1), |bytes| bytes[67] ^= 1);
    let before = tree(&home.disk);
    let mut said = Vec::new();
    let hidden = Progress::hidden();
    let report = repair(&target(&home.disk), Mode::DryRun, &mut said, &hidden).unwrap();
    assert_eq!(report.exit_code(), 1);
    assert!(String::from_utf8(said).unwrap().contains("would do:"));
    assert!(tree(&home.disk) == before);
    let home = Home::healthy();
    let before = tree(&home.disk);
    let (report, said) = mend(&home.disk);
    assert_eq!((report.exit_code(), said.as_str()), (0, "nothing to do\n"));
    assert!(tree(&home.disk) == before);
}

#[test]
fn a_killed_store_is_recovered_by_a_repair() {
    let home = Home::new();
    let store = home.open();
    for n in 0..70 {
        harness::send(&store, n);
    }
    drop(store);
    home.disk.kill();
    let (report, said) = mend(&home.disk);
    assert_eq!((report.exit_code(), report.clean_stop), (0, true), "{said}");
    assert_eq!(consumed(&home.open()).len(), 70);
}

#[test]
fn a_store_of_apaches_is_repaired() {
    for golden in [CLEAN, UNCLEAN] {
        let disk = apache(golden);
        let count = records(&disk).len();
        for path in disk.files() {
            let is_second = path.ends_with("Events/1/00000000000000000000");
            if path.starts_with(file("index")) || is_second {
                disk.take(&path);
            }
        }
        // After a kill the next start of a broker makes them again.
        let expected = u8::from(golden == CLEAN);
        assert_eq!(examine(&disk).exit_code(), expected);
        // Nothing tells any more how large the files of the index were.
        let shape = Shape {
            index: Some((50, 20)),
            ..Shape::default()
        };
        let told = Target::new(Arc::new(disk.clone()), Path::new(ROOT), shape).unwrap();
        let mut said = Vec::new();
        let after = repair(&told, Mode::ForReal, &mut said, &Progress::hidden()).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(faults(&after), [""; 0], "{said}");
        assert_eq!(records(&disk).len(), count);
    }
}

#[test]
fn a_topic_that_was_deleted_is_no_fault_and_does_not_come_back() {
    let home = Home::healthy();
    let store = home.open();
    store.delete_topic("Orders").unwrap();
    store.shutdown().unwrap();
    let report = examine(&home.disk);
    assert_eq!(faults(&report), [""; 0], "{report}");
    home.change(&queue_file(1), |bytes| bytes[67] ^= 1);
    let (after, said) = mend(&home.disk);
    assert_eq!(faults(&after), [""; 0], "{said}");
    assert_eq!(home.open().topics(), ["Events"]);
}

#[test]
fn a_queue_that_apache_deleted_and_began_anew_survives_a_repair_of_the_index() {
    let home = Home::healthy();
    let store = home.open();
    store.delete_topic("Orders").unwrap();
    for n in 0..3 {
        harness::send(&store, n);
    }
    store.catch_up();
    store.shutdown().unwrap();
    drop(store);
    // Apache's broker writes down nothing of what it deletes.
    home.disk.take(&file("gantry.deleted"));
    let before = consumed(&home.open());
    home.open().shutdown().unwrap();
    home.change(&index_file(&home), |bytes| {
        let slot = used_slot(bytes);
        bytes[slot] ^= 0x40;
    });
    assert_ne!(faults(&examine(&home.disk)), [""; 0]);
    let (after, said) = mend(&home.disk);
    assert_eq!(faults(&after), [""; 0], "{said}");
    assert_eq!(consumed(&home.open()), before, "{said}");
}

/// Apache's store with its log in two directories.
fn told(disk: &FaultyDisk) -> Target {
    let shape = Shape {
        log_dirs: vec![file("log-a"), file("log-b")],
        ..Shape::default()
    };
    Target::new(Arc::new(disk.clone()), Path::new(ROOT), shape).unwrap()
}

#[test]
fn extended_tags_are_compared_and_given_up_when_they_are_wrong() {
    let hidden = Progress::hidden();
    let examine = |disk: &FaultyDisk| {
        gantry_doctor::check(&told(disk), CheckOptions::default(), &hidden).unwrap()
    };
    let report = examine(&apache(EXT));
    assert_eq!(faults(&report), [""; 0], "{report}");
    let units = |report: &Report| report.classes[&Class::ConsumequeueExt].records;
    assert_eq!(units(&report), 40, "{report}");
    let files = |disk: &FaultyDisk| {
        let mut files = disk.files();
        files.retain(|path| path.starts_with(file("consumequeue_ext")));
        files
    };
    for harm in [
        |content: &mut Vec<u8>| content[9] ^= 1,
        |content: &mut Vec<u8>| content[17] ^= 1,
        |content: &mut Vec<u8>| content.fill(0),
    ] {
        let disk = apache(EXT);
        let path = files(&disk)[0].clone();
        let mut content = disk.content(&path).unwrap();
        harm(&mut content);
        disk.put(&path, &content);
        let report = examine(&disk);
        let found = report.findings.iter().find(|one| one.code == "ext-unit");
        let found = found.unwrap_or_else(|| panic!("{report}"));
        assert_eq!((found.offset, Path::new(&found.file)), (Some(0), &*path));
        let mut said = Vec::new();
        let after = repair(&told(&disk), Mode::ForReal, &mut said, &hidden).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(faults(&after), [""; 0], "{said}");
        assert_eq!((after.log.messages, files(&disk).len()), (40, 0));
    }
}

#[test]
fn a_log_that_is_elsewhere_is_a_fault_and_no_reason_to_throw_queues_away() {
    let disk = apache(EXT);
    let before = tree(&disk);
    let report = examine(&disk);
    assert!(
        report.findings.iter().any(|one| one.code == "log-missing"),
        "{report}"
    );
    let mut said = Vec::new();
    let done = repair(
        &target(&disk),
        Mode::ForReal,
        &mut said,
        &Progress::hidden(),
    );
    let error = done.unwrap_err().to_string();
    assert!(error.contains("--commitlog"), "{error}");
    let left = disk
        .files()
        .into_iter()
        .filter(|path| !path.ends_with("lock"));
    let left: Vec<_> = left
        .map(|path| (path.clone(), disk.content(&path)))
        .collect();
    let kept = before.iter().filter(|(path, _)| !path.ends_with("lock"));
    assert!(kept.eq(&left), "something was changed");
}
