//! A disk on which everything that changes something panics: looking gets by without.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod harness;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use gantry_disk::faulty::FaultyDisk;
use gantry_disk::{Disk, File, Holder, Listed, Lock, Meta, New, Open, Usage};
use gantry_doctor::dump::{self, Bodies, Form};
use gantry_doctor::repair::{Mode, repair};
use gantry_doctor::{CheckOptions, Progress, Selection, Shape, Target, check, export};
use harness::{CLEAN, Home, ROOT, UNCLEAN, apache};

#[derive(Debug)]
struct LookOnly(FaultyDisk);

impl Disk for LookOnly {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        assert_eq!(how, Open::Read, "{}", path.display());
        self.0.open(path, how)
    }

    fn create(&self, path: &Path, _new: New<'_>) -> io::Result<Arc<dyn File>> {
        panic!("makes {}", path.display())
    }

    fn meta(&self, path: &Path) -> io::Result<Option<Meta>> {
        self.0.meta(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.0.list(dir)
    }

    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        panic!("makes {}", dir.display())
    }

    fn rename(&self, from: &Path, _to: &Path) -> io::Result<()> {
        panic!("renames {}", from.display())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        panic!("removes {}", path.display())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        panic!("removes {}", dir.display())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        panic!("syncs {}", dir.display())
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        panic!("syncs {}", dir.display())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        panic!("locks {}", path.display())
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<Holder>> {
        self.0.lock_holder(path)
    }

    fn usage(&self, path: &Path) -> io::Result<Usage> {
        self.0.usage(path)
    }

    fn set_modified(&self, path: &Path, _time: SystemTime) -> io::Result<()> {
        panic!("sets the time of {}", path.display())
    }

    fn boot(&self) -> Option<String> {
        self.0.boot()
    }
}

#[test]
fn whoever_looks_opens_for_reading_and_changes_nothing() {
    let damaged = Home::healthy();
    for dir in ["commitlog", "consumequeue", "index", "config"] {
        for path in damaged.below(dir) {
            damaged.change(&path, |bytes| {
                let middle = bytes.len() / 3;
                bytes[middle] ^= 1;
            });
        }
    }
    for disk in [
        Home::healthy().disk,
        damaged.disk,
        apache(CLEAN),
        apache(UNCLEAN),
    ] {
        let disk = Arc::new(LookOnly(disk));
        let target = Target::new(disk, Path::new(ROOT), Shape::default()).unwrap();
        let hidden = Progress::hidden();
        check(&target, CheckOptions::default(), &hidden).unwrap();
        let mut out = Vec::new();
        let all = Selection::default();
        dump::records(
            &target,
            &all,
            (Form::Text, Bodies::Shown),
            &mut out,
            &hidden,
        )
        .unwrap();
        dump::index(&target, &all, Form::Text, &mut out).unwrap();
        dump::checkpoint(&target, Form::Text, &mut out).unwrap();
        let queue = Selection {
            topic: Some("Events".to_owned()),
            queue: Some(0),
            ..Selection::default()
        };
        dump::queue(&target, &queue, Form::Text, &mut out).unwrap();
        export::export(&target, &all, &mut out, &mut |_| {}, &hidden).unwrap();
        repair(&target, Mode::DryRun, &mut out, &hidden).unwrap();
        assert!(out.len() > 1000, "{}", String::from_utf8_lossy(&out));
    }
}
