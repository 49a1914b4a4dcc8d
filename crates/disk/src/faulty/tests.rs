//! What the faults leave behind is what they say they leave behind.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{FaultyDisk, Operation};
use crate::{Disk, File, New, Open};

fn file(disk: &FaultyDisk, name: &str) -> Arc<dyn File> {
    disk.create_dirs(Path::new("/d")).unwrap();
    disk.open(&Path::new("/d").join(name), Open::Create)
        .unwrap()
}

fn content(disk: &FaultyDisk, name: &str) -> Option<Vec<u8>> {
    disk.content(&Path::new("/d").join(name))
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let synced = file(&disk, "a");
        synced.write_at(&[1; 2000], 0).unwrap();
        synced.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        synced.write_at(&[2; 1000], 1000).unwrap();
        disk.power_cut();
        let after = content(&disk, "a").unwrap();
        assert!(after[..1000].iter().all(|&byte| byte == 1), "seed {seed}");
        assert!(
            after[1000..].iter().all(|&byte| byte == 1 || byte == 2),
            "seed {seed}"
        );
    }
}

#[test]
fn power_cuts_keep_nothing_or_all_or_some_of_the_rest() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let disk = FaultyDisk::new(seed);
        let torn = file(&disk, "a");
        torn.set_len(1024).unwrap();
        torn.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        torn.write_at(&[7; 1024], 0).unwrap();
        disk.power_cut();
        let after = content(&disk, "a").unwrap();
        seen.insert((after[0], after[512]));
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [(0, 0), (0, 7), (7, 0), (7, 7)]
    );
}

#[test]
fn a_killed_process_leaves_everything_it_wrote() {
    let disk = FaultyDisk::new(1);
    file(&disk, "a").write_at(b"x", 0).unwrap();
    disk.kill();
    assert_eq!(content(&disk, "a").unwrap(), b"x");
}

#[test]
fn after_the_stop_nothing_works_and_the_last_write_may_be_torn() {
    let disk = FaultyDisk::new(3);
    let stopping = file(&disk, "a");
    disk.stop_after(2);
    stopping.write_at(&[1; 100], 0).unwrap();
    assert!(stopping.write_at(&[2; 100], 100).is_err());
    assert!(stopping.len().is_err() && disk.list(Path::new("/d")).is_err());
    disk.kill();
    assert!((100..=200).contains(&content(&disk, "a").unwrap().len()));
}

#[test]
fn failures_come_as_often_as_asked_and_with_the_errno_asked() {
    let disk = FaultyDisk::new(4);
    let failing = file(&disk, "a");
    disk.fail(Operation::Sync, 1, nix::libc::EIO);
    assert_eq!(
        failing.sync().unwrap_err().raw_os_error(),
        Some(nix::libc::EIO)
    );
    failing.sync().unwrap();
    disk.set_room(Some(10));
    assert_eq!(
        failing.allocate(11).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    failing.allocate(10).unwrap();
}

#[test]
fn what_a_failed_sync_did_not_sync_no_later_one_does() {
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        let failing = file(&disk, "a");
        failing.set_len(3).unwrap();
        failing.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        failing.write_at(&[1], 0).unwrap();
        disk.fail(Operation::Sync, 1, nix::libc::EIO);
        assert!(failing.sync().is_err());
        failing.write_at(&[2], 1).unwrap();
        failing.sync().unwrap();
        assert_eq!(content(&disk, "a").unwrap(), [1, 2, 0]);
        disk.power_cut();
        assert_eq!(content(&disk, "a").unwrap(), [0, 2, 0]);
    }
}

#[test]
fn names_that_were_not_synced_may_be_lost_and_moves_replace() {
    let disk = FaultyDisk::new(5);
    file(&disk, "a").write_at(b"old", 0).unwrap();
    file(&disk, "b").write_at(b"new", 0).unwrap();
    disk.rename(Path::new("/d/b"), Path::new("/d/a")).unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"new");
    assert_eq!(content(&disk, "b"), None);
    let lost = (0..20).any(|seed| {
        let disk = FaultyDisk::new(seed);
        file(&disk, "a");
        disk.power_cut();
        content(&disk, "a").is_none()
    });
    assert!(lost);
}

#[test]
fn one_lock_at_a_time() {
    let disk = FaultyDisk::new(6);
    disk.create_dirs(Path::new("/d")).unwrap();
    let held = disk.lock(Path::new("/d/lock")).unwrap();
    assert!(held.is_some() && disk.lock(Path::new("/d/lock")).unwrap().is_none());
    drop(held);
    assert!(disk.lock(Path::new("/d/lock")).unwrap().is_some());
}

#[test]
fn a_fork_is_a_disk_of_its_own() {
    let disk = FaultyDisk::new(7);
    file(&disk, "a").write_at(b"x", 0).unwrap();
    let fork = disk.fork();
    fork.put(Path::new("/d/a"), b"other");
    assert_eq!(content(&disk, "a").unwrap(), b"x");
    assert_eq!(content(&fork, "a").unwrap(), b"other");
}

#[test]
fn names_of_different_directories_may_be_lost_independently() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let disk = FaultyDisk::new(seed);
        disk.reorder_names();
        for dir in ["/a", "/b"] {
            disk.create_dirs(Path::new(dir)).unwrap();
        }
        disk.sync_dir(Path::new("/")).unwrap();
        for path in ["/a/1", "/b/1", "/a/2"] {
            disk.open(Path::new(path), Open::Create).unwrap();
        }
        disk.sync_dir(Path::new("/b")).unwrap();
        disk.power_cut();
        seen.insert(disk.files());
    }
    let kept = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| Path::new(path).to_owned())
            .collect()
    };
    let all: [Vec<_>; 3] = [
        kept(&["/a/1", "/a/2", "/b/1"]),
        kept(&["/a/1", "/b/1"]),
        kept(&["/b/1"]),
    ];
    assert_eq!(seen, all.into_iter().collect());
}

#[test]
fn what_lies_in_a_lost_directory_is_lost() {
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        disk.reorder_names();
        disk.create_dirs(Path::new("/a/b")).unwrap();
        disk.open(Path::new("/a/b/1"), Open::Create).unwrap();
        disk.sync_dir(Path::new("/a/b")).unwrap();
        disk.power_cut();
        let has_dir = disk.list(Path::new("/a/b")).is_ok();
        assert_eq!(disk.files().len(), usize::from(has_dir), "seed {seed}");
    }
}

#[test]
fn a_move_that_is_durable_late_leaves_a_new_file_of_the_old_name_alone() {
    for seed in 1..=20 {
        let disk = FaultyDisk::new(seed);
        let (here, there) = (Path::new("/here"), Path::new("/there"));
        disk.create_dirs(here).unwrap();
        disk.create_dirs(there).unwrap();
        disk.sync_all(here).unwrap();
        disk.reorder_names();
        let new = |start| New {
            len: 3,
            start,
            ..New::default()
        };
        let old = disk.create(&here.join("f"), new(b"old")).unwrap();
        old.sync().unwrap();
        disk.sync_dir(here).unwrap();
        disk.rename(&here.join("f"), &there.join("f")).unwrap();
        let file = disk.create(&here.join("f"), new(b"new")).unwrap();
        file.sync().unwrap();
        disk.sync_dir(here).unwrap();
        disk.power_cut();
        assert_eq!(
            disk.content(&here.join("f")).unwrap(),
            b"new",
            "seed {seed}"
        );
    }
}

#[test]
fn a_bad_range_fails_the_reads_that_touch_it() {
    let disk = FaultyDisk::new(1);
    let path = Path::new("/file");
    disk.put(path, &[7; 100]);
    let file = disk.open(path, Open::Read).unwrap();
    disk.spoil(path, 40..50);
    let mut bytes = [0; 10];
    for (at, fails) in [(30, false), (31, true), (40, true), (49, true), (50, false)] {
        assert_eq!(file.read_at(&mut bytes, at).is_err(), fails, "{at}");
    }
    disk.spoil(path, 0..0);
    assert_eq!(file.read_at(&mut bytes, 40).unwrap(), 10);
}
