//! The files of consume queues: which there are, and what can be said of their entries without the log.
//!
//! Every place for an entry is read once, in order; holes of sparse files are passed over. What the log says is compared
//! in `queues`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gantry_store::format::entry::{self, Entry};
use gantry_store::format::name;

use crate::log::{narrow, queue_dir, wide};
use crate::report::{Class, Finding, Findings};
use crate::target::{DoctorError, Target};

/// So much of a file is read at once when all of it is read.
pub(crate) const CHUNK: u64 = 20 * 3277;

/// A file of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueFile {
    pub(crate) base: u64,
    pub(crate) len: u64,
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topic: Box<str>,
    pub(crate) id: u32,
    /// Whether there is a directory.
    pub(crate) exists: bool,
    pub(crate) file_size: u64,
    /// Sorted by base.
    pub(crate) files: Vec<QueueFile>,
    /// Behind the last entry.
    pub(crate) end: u64,
    /// Entries that point to or behind the first byte of the log.
    pub(crate) counted: u64,
    /// Entries that a record asked for.
    pub(crate) matched: u64,
    /// The offset the next record in the log should have.
    pub(crate) next: Option<u64>,
    /// Damage in the log since the last record of this queue.
    pub(crate) epoch: u64,
    pub(crate) missing: Run,
    pub(crate) lagging: Run,
    pub(crate) jumped: Run,
    pub(crate) is_bad: bool,
}

/// Messages in the order of the log that have one thing in common.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) count: u64,
    /// Queue offset and log offset.
    pub(crate) first: (u64, u64),
    pub(crate) last: (u64, u64),
}

impl Run {
    pub(crate) fn add(&mut self, at: (u64, u64)) {
        if self.count == 0 {
            self.first = at;
        }
        self.last = at;
        self.count += 1;
    }
}

/// The length that queue files of this store have: the configured one if any has it, else the most frequent.
pub(crate) fn usual_file_size(target: &Target) -> Result<u64, DoctorError> {
    let configured = target.shape.queue_file_size.unwrap_or(DEFAULT_FILE_SIZE);
    let configured = configured
        .clamp(entry::LEN, FILE_SIZE_MAX)
        .div_ceil(entry::LEN)
        * entry::LEN;
    let mut votes: BTreeMap<u64, u64> = BTreeMap::new();
    each_dir(target, &mut |_, _, dir| {
        for one in target.list(dir).map_err(DoctorError::io("list", dir))? {
            let is_file = !one.is_dir && name::parse(&one.name).is_some();
            if is_file && one.len > 0 && one.len.is_multiple_of(entry::LEN) {
                *votes.entry(one.len).or_default() += 1;
            }
        }
        Ok(())
    })?;
    if votes.contains_key(&configured) {
        return Ok(configured);
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
    Ok(most.map_or(configured, |(len, _)| len))
}

/// Files are not longer.
pub(crate) const FILE_SIZE_MAX: u64 = i32::MAX as u64;
pub(crate) const DEFAULT_FILE_SIZE: u64 = 300_000 * entry::LEN;

/// Calls `see` with topic, number and directory of every queue.
pub(crate) fn each_dir(
    target: &Target,
    see: &mut dyn FnMut(&str, u32, &Path) -> Result<(), DoctorError>,
) -> Result<(), DoctorError> {
    let root = target.root.join("consumequeue");
    for topic in target.list(&root).map_err(DoctorError::io("list", &root))? {
        if !topic.is_dir {
            continue;
        }
        let dir = root.join(&topic.name);
        for queue in target.list(&dir).map_err(DoctorError::io("list", &dir))? {
            if let Some(id) = queue.name.parse().ok().filter(|_| queue.is_dir) {
                see(&topic.name, id, &dir.join(&queue.name))?;
            }
        }
    }
    Ok(())
}

/// So many wrong entries of a queue are named one by one.
pub(crate) const BAD_MAX: usize = 1000;

impl Queue {
    pub(crate) fn without_files(topic: &str, id: u32) -> Self {
        Self {
            topic: topic.into(),
            id,
            exists: false,
            file_size: DEFAULT_FILE_SIZE,
            files: Vec::new(),
            end: 0,
            counted: 0,
            matched: 0,
            next: None,
            epoch: 0,
            missing: Run::default(),
            lagging: Run::default(),
            jumped: Run::default(),
            is_bad: false,
        }
    }

    pub(crate) fn place(&self, target: &Target, number: u64) -> (PathBuf, u64) {
        let byte = number.saturating_mul(entry::LEN);
        let base = byte - byte % self.file_size.max(1);
        let dir = queue_dir(&target.root, &self.topic, self.id);
        if self.exists {
            (dir.join(name::of(base)), byte - base)
        } else {
            (dir, 0)
        }
    }
}

/// Reads one queue's files.
pub(crate) fn load_queue(
    target: &Target,
    (topic, id, dir): (&str, u32, &Path),
    (usual, log_min): (u64, u64),
    findings: &mut Findings,
) -> Result<Queue, DoctorError> {
    let mut queue = Queue {
        exists: true,
        ..Queue::without_files(topic, id)
    };
    let listed = target.list(dir).map_err(DoctorError::io("list", dir))?;
    let files = listed
        .iter()
        .filter(|one| !one.is_dir)
        .filter_map(|one| Some((name::parse(&one.name)?, one)));
    let files: Vec<_> = files.collect();
    let is_whole = |len: u64| len > 0 && len.is_multiple_of(entry::LEN);
    let mut lens = files.iter().map(|(_, one)| one.len);
    queue.file_size = if lens.clone().any(|len| len == usual) {
        usual
    } else {
        lens.find(|&len| is_whole(len)).unwrap_or(usual)
    };
    for one in &listed {
        if one.is_dir || name::parse(&one.name).is_none() {
            let text =
                "not a queue file; Gantry leaves it alone, Apache's broker does not start with it";
            let path = dir.join(&one.name);
            findings.add(Finding::note(Class::Consumequeue, "stray", &path, text));
        }
    }
    let size = queue.file_size;
    for (base, one) in files {
        let path = dir.join(&one.name);
        let fault = |code, text: String| Finding::fault(Class::Consumequeue, code, &path, text);
        findings.file(Class::Consumequeue, one.len);
        if !base.is_multiple_of(size) {
            let text = format!("its name is not where a file of {size} bytes starts");
            findings.add(fault("queue-file-name", text));
            queue.is_bad = true;
            continue;
        }
        if one.len != size {
            let text = format!("{} bytes long, files of this queue have {size}", one.len);
            findings.add(fault("queue-file-length", text).at(one.len.min(size)));
            queue.is_bad = true;
        }
        let before = queue.files.last().map(|before| before.base + size);
        if let Some(before) = before.filter(|&before| before != base) {
            let text = format!("the files of {topic}/{id} from {before} to {base} are missing");
            let missing = dir.join(name::of(before));
            let finding = Finding::fault(Class::Consumequeue, "queue-file-missing", &missing, text);
            findings.add(finding);
            queue.is_bad = true;
        }
        queue.files.push(QueueFile { base, len: one.len });
    }
    scan(target, &mut queue, log_min, findings)?;
    Ok(queue)
}

/// What a scan has seen.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) end: u64,
    pub(crate) counted: u64,
    entries: u64,
    pub(crate) last: Option<u64>,
    hole: Option<u64>,
    garbage: Option<u64>,
    wrong: Vec<(u64, &'static str, String)>,
}

impl Scan {
    fn see(&mut self, number: u64, bytes: &[u8], log_min: u64) {
        let Some(entry) = Entry::decode(bytes) else {
            if self.hole.is_none() {
                self.hole = Some(number);
            }
            if self.garbage.is_none() && bytes.iter().any(|&byte| byte != 0) {
                self.garbage = Some(number);
            }
            return;
        };
        if let Some(from) = self.hole.take() {
            self.garbage = None;
            let text = format!("no entries from number {from} to {}", number - 1);
            self.say(from, "queue-hole", text);
        }
        self.end = number + 1;
        if entry.is_filler() {
            return;
        }
        self.entries += 1;
        let points_to = entry.log_offset.0;
        if let Some(last) = self.last.filter(|&last| points_to <= last) {
            let text = format!("entry {number} points to {points_to}, the one before it to {last}");
            self.say(number, "entry-order", text);
        }
        self.last = Some(points_to);
        if points_to >= log_min {
            self.counted += 1;
        }
    }

    fn say(&mut self, number: u64, code: &'static str, text: String) {
        if self.wrong.len() < BAD_MAX {
            self.wrong.push((number, code, text));
        }
    }
}

pub(crate) fn scan(
    target: &Target,
    queue: &mut Queue,
    log_min: u64,
    findings: &mut Findings,
) -> Result<(), DoctorError> {
    let mut scan = Scan::default();
    each_raw(target, queue, findings, &mut |number, bytes| {
        scan.see(number, bytes, log_min);
    })?;
    if let Some(from) = scan.garbage {
        let text = format!("what stands from number {from} on is neither an entry nor zeros");
        scan.say(from, "queue-garbage", text);
    }
    (queue.end, queue.counted) = (scan.end, scan.counted);
    queue.end = queue.end.max(
        queue
            .files
            .first()
            .map_or(0, |first| first.base / entry::LEN),
    );
    findings.class(Class::Consumequeue).records += scan.entries;
    for (number, code, text) in scan.wrong {
        queue.is_bad = true;
        let (path, offset) = queue.place(target, number);
        let text = format!("{}/{}: {text}", queue.topic, queue.id);
        findings.add(Finding::fault(Class::Consumequeue, code, &path, text).at(offset));
    }
    Ok(())
}

pub(crate) fn each_entry(
    target: &Target,
    queue: &Queue,
    see: &mut dyn FnMut(u64, Option<Entry>),
    findings: &mut Findings,
) -> Result<(), DoctorError> {
    each_raw(target, queue, findings, &mut |number, bytes| {
        see(number, Entry::decode(bytes));
    })
}

/// Calls `see` with the number and the bytes of every place for an entry.
pub(crate) fn each_raw(
    target: &Target,
    queue: &Queue,
    findings: &mut Findings,
    see: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), DoctorError> {
    let dir = queue_dir(&target.root, &queue.topic, queue.id);
    let mut chunk = vec![0; narrow(CHUNK.min(queue.file_size))];
    for file in &queue.files {
        let path = dir.join(name::of(file.base));
        let opened = match target.open(&path) {
            Ok(opened) => opened,
            Err(error) => {
                findings.refused(Class::Consumequeue, &path, &error);
                continue;
            }
        };
        let len = file.len.min(queue.file_size);
        let mut at = 0;
        while at < len {
            // Files are sparse behind their last entry.
            let data = match opened.next_data(at) {
                Ok(data) => data.unwrap_or(len).min(len),
                Err(error) => {
                    findings.refused(Class::Consumequeue, &path, &error);
                    break;
                }
            };
            let data = data - data % entry::LEN;
            if at < data {
                see((file.base + at) / entry::LEN, &[0; 20]);
                at = data;
                continue;
            }
            let step = narrow((len - at).min(wide(chunk.len())));
            let read = match opened.read_at(&mut chunk[..step], at) {
                Ok(read) => read,
                Err(error) => {
                    findings.refused(Class::Consumequeue, &path, &error);
                    break;
                }
            };
            let first = (file.base + at) / entry::LEN;
            for (number, bytes) in (first..).zip(chunk[..read].chunks_exact(narrow(entry::LEN))) {
                see(number, bytes);
            }
            if read < step {
                break;
            }
            at += wide(step);
        }
    }
    Ok(())
}

/// Names beside the directories of queues.
pub(crate) fn strays(target: &Target, findings: &mut Findings) -> Result<(), DoctorError> {
    let root = target.root.join("consumequeue");
    for topic in target.list(&root).map_err(DoctorError::io("list", &root))? {
        let dir = root.join(&topic.name);
        if !topic.is_dir {
            let text = "not the directory of a topic, left alone";
            findings.add(Finding::note(Class::Consumequeue, "stray", &dir, text));
            continue;
        }
        for queue in target.list(&dir).map_err(DoctorError::io("list", &dir))? {
            if !queue.is_dir || queue.name.parse::<u32>().is_err() {
                let text = "not the directory of a queue, left alone";
                let path = dir.join(&queue.name);
                findings.add(Finding::note(Class::Consumequeue, "stray", &path, text));
            }
        }
    }
    Ok(())
}
