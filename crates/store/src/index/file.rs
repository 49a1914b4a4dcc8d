//! One index file: the newest one with its slots in memory, the older ones read by position.
//!
//! Slots are loaded page by page when they are first needed and written back when they changed; entries are collected
//! and written by runs. Slots and header on disk may lag behind; entries never lie behind what was noted as durable, and
//! slots can always be made from entries again ([`Active::rebuild`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_disk::{Disk, File, New, Open};
use gantry_message::Millis;

use crate::dispatcher::IndexKey;
use crate::format::index::{ENTRY_LEN, Entry, HEADER_LEN, Header, Layout, SLOT_LEN};
use crate::width::{narrow, wide};

const PAGE: u64 = 4096;
/// So many entries are collected before they are written.
const RUN: usize = 64 << 10;

/// An index file that is not added to any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    layout: Layout,
    file: Arc<dyn File>,
}

/// The index file that is added to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    layout: Layout,
    file: Arc<dyn File>,
    pages: Vec<Option<Box<Page>>>,
    /// Invariant: the entries from number `buffered_from` on, not yet written.
    buffered: Vec<u8>,
    buffered_from: u32,
    is_header_dirty: bool,
}

#[derive(Debug)]
struct Page {
    bytes: [u8; PAGE as usize],
    is_dirty: bool,
}

/// What is looked for in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) hash: u32,
    pub(crate) begin: Millis,
    pub(crate) end: Millis,
    pub(crate) max: usize,
}

impl Header {
    /// Whether messages of that time may be in the file.
    pub(crate) fn overlaps(&self, begin: Millis, end: Millis) -> bool {
        begin <= self.end_time && self.begin_time <= end
    }
}

impl Sealed {
    pub(crate) fn open(disk: &dyn Disk, path: &Path, layout: Layout) -> io::Result<Self> {
        let file = disk.open(path, Open::Write)?;
        let mut bytes = [0; narrow(HEADER_LEN)];
        file.read_exact_at(&mut bytes, 0)?;
        let mut header = Header::decode(&bytes);
        // A damaged one must not send searches beyond the file.
        header.next = header.next.min(layout.entries);
        Ok(Self {
            path: path.to_owned(),
            header,
            layout,
            file,
        })
    }

    pub(crate) fn name(&self) -> String {
        name(&self.path)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.header.next >= self.layout.entries
    }

    /// Log offsets of what is wanted, newest first.
    pub(crate) fn find(&self, wanted: &Wanted, found: &mut Vec<u64>) -> io::Result<()> {
        let mut slot = [0; 4];
        self.file.read_exact_at(
            &mut slot,
            self.layout.slot_at(self.layout.slot_of(wanted.hash)),
        )?;
        let newest = u32::from_be_bytes(slot);
        walk(newest, &self.header, wanted, found, |number| {
            read_entry(&*self.file, self.layout, number)
        })
    }

    /// Goes on adding to it.
    pub(crate) fn into_active(self) -> Active {
        Active::with(self.path, self.header, self.layout, self.file)
    }
}

impl Active {
    /// Makes the file at its full size, sparse.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        layout: Layout,
        before: Option<&Header>,
    ) -> io::Result<Self> {
        let new = New {
            len: layout.file_len(),
            ..New::default()
        };
        let file = disk.create(path, new)?;
        let made = path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir));
        if let Err(error) = made {
            // The first error is the one to report.
            let _ = disk.remove(path);
            return Err(error);
        }
        let mut header = Header {
            next: 1,
            ..Header::default()
        };
        if let Some(before) = before {
            (header.begin_time, header.end_time) = (before.end_time, before.end_time);
            (header.begin_offset, header.end_offset) = (before.end_offset, before.end_offset);
        }
        Ok(Self::with(path.to_owned(), header, layout, file))
    }

    fn with(path: PathBuf, header: Header, layout: Layout, file: Arc<dyn File>) -> Self {
        let pages = layout.entry_at(0).div_ceil(PAGE);
        Self {
            path,
            header,
            layout,
            file,
            pages: std::iter::repeat_with(|| None)
                .take(narrow(pages))
                .collect(),
            buffered: Vec::new(),
            buffered_from: header.next,
            is_header_dirty: true,
        }
    }

    pub(crate) fn name(&self) -> String {
        name(&self.path)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.header.next >= self.layout.entries
    }

    /// Adds a key. The file must not be full.
    pub(crate) fn put(&mut self, key: &IndexKey) -> io::Result<()> {
        assert!(
            !self.is_full(),
            "index file {} is full",
            self.path.display()
        );
        let header = self.header;
        let slot = self.layout.slot_of(key.hash);
        let previous = self.slot(slot)?;
        let previous = if previous < header.next { previous } else { 0 };
        if header.next == 1 {
            (self.header.begin_time, self.header.begin_offset) = (key.time, key.offset);
        }
        let seconds = key
            .time
            .since(self.header.begin_time)
            .clamp(0, i64::from(i32::MAX) * 1000)
            / 1000;
        let seconds = u32::try_from(seconds).unwrap_or(0);
        let entry = Entry {
            hash: key.hash,
            offset: key.offset,
            seconds,
            previous,
        };
        self.buffered.extend_from_slice(&entry.encode());
        self.set_slot(slot, header.next)?;
        if previous == 0 {
            self.header.slots_used += 1;
        }
        self.header.next += 1;
        (self.header.end_time, self.header.end_offset) = (key.time, key.offset);
        self.is_header_dirty = true;
        if self.buffered.len() >= RUN {
            self.write_entries()
        } else {
            Ok(())
        }
    }

    /// Log offsets of what is wanted, newest first.
    pub(crate) fn find(&mut self, wanted: &Wanted, found: &mut Vec<u64>) -> io::Result<()> {
        let newest = self.slot(self.layout.slot_of(wanted.hash))?;
        let (buffered, from) = (&self.buffered, self.buffered_from);
        walk(newest, &self.header, wanted, found, |number| {
            match number.checked_sub(from) {
                None => read_entry(&*self.file, self.layout, number),
                Some(skipped) => {
                    let at = narrow(u64::from(skipped) * ENTRY_LEN);
                    buffered[at..]
                        .first_chunk()
                        .map(Entry::decode)
                        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
                }
            }
        })
    }

    /// Takes only the entries below `next` that point below `log_end`, and makes slots and header from them again.
    pub(crate) fn rebuild(&mut self, next: u32, log_end: u64) -> io::Result<()> {
        let next = next.clamp(1, self.layout.entries);
        self.buffered.clear();
        self.pages.iter_mut().for_each(|page| {
            *page = Some(Box::new(Page {
                bytes: [0; 4096],
                is_dirty: true,
            }))
        });
        (self.header.slots_used, self.header.next) = (0, 1);
        let mut chunk = vec![0; RUN / narrow(ENTRY_LEN) * narrow(ENTRY_LEN)];
        'entries: while self.header.next < next {
            let room = narrow(u64::from(next - self.header.next) * ENTRY_LEN).min(chunk.len());
            let at = self.layout.entry_at(self.header.next);
            self.file.read_exact_at(&mut chunk[..room], at)?;
            for bytes in chunk[..room].chunks_exact(narrow(ENTRY_LEN)) {
                let entry = bytes.first_chunk().map(Entry::decode);
                let Some(entry) = entry.filter(|entry| entry.offset < log_end) else {
                    break 'entries;
                };
                self.take_over(&entry)?;
            }
        }
        self.buffered_from = self.header.next;
        self.is_header_dirty = true;
        Ok(())
    }

    /// Enters the next entry, which is in the file already, into slots and header.
    fn take_over(&mut self, entry: &Entry) -> io::Result<()> {
        let slot = self.layout.slot_of(entry.hash);
        if self.slot(slot)? == 0 {
            self.header.slots_used += 1;
        }
        self.set_slot(slot, self.header.next)?;
        self.header.next += 1;
        self.header.end_offset = entry.offset;
        // The entry knows whole seconds only.
        let seconds = i64::from(entry.seconds) * 1000;
        self.header.end_time = self.header.begin_time.plus(seconds + 999);
        Ok(())
    }

    /// Writes the collected entries.
    pub(crate) fn write_entries(&mut self) -> io::Result<()> {
        if !self.buffered.is_empty() {
            self.file
                .write_at(&self.buffered, self.layout.entry_at(self.buffered_from))?;
            self.buffered.clear();
            self.buffered_from = self.header.next;
        }
        Ok(())
    }

    /// Writes entries, then slots, then the header, and makes them durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write_entries()?;
        let end = self.layout.entry_at(0);
        for (number, page) in self.pages.iter_mut().enumerate() {
            let Some(page) = page.as_mut().filter(|page| page.is_dirty) else {
                continue;
            };
            // The first page begins with the header, the last one ends with entries: neither is the slots' to write.
            let at = wide(number) * PAGE;
            let (from, to) = (at.max(HEADER_LEN), (at + PAGE).min(end));
            self.file
                .write_at(&page.bytes[narrow(from - at)..narrow(to - at)], from)?;
            page.is_dirty = false;
        }
        if self.is_header_dirty {
            self.file.write_at(&self.header.encode(), 0)?;
            self.is_header_dirty = false;
        }
        self.file.sync()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.is_header_dirty
    }

    /// Adds no more to it. Everything must have been synced.
    pub(crate) fn into_sealed(self) -> Sealed {
        assert!(
            self.buffered.is_empty(),
            "{} entries were not written",
            self.buffered.len() / narrow(ENTRY_LEN)
        );
        Sealed {
            path: self.path,
            header: self.header,
            layout: self.layout,
            file: self.file,
        }
    }

    fn slot(&mut self, slot: u32) -> io::Result<u32> {
        let at = self.layout.slot_at(slot);
        let within = narrow(at % PAGE);
        let page = self.page(at / PAGE)?;
        Ok(page.bytes[within..]
            .first_chunk()
            .map_or(0, |slot| u32::from_be_bytes(*slot)))
    }

    fn set_slot(&mut self, slot: u32, value: u32) -> io::Result<()> {
        let at = self.layout.slot_at(slot);
        let within = narrow(at % PAGE);
        let page = self.page(at / PAGE)?;
        page.bytes[within..within + narrow(SLOT_LEN)].copy_from_slice(&value.to_be_bytes());
        page.is_dirty = true;
        Ok(())
    }

    fn page(&mut self, number: u64) -> io::Result<&mut Page> {
        let page = &mut self.pages[narrow(number)];
        if page.is_none() {
            let mut loaded = Box::new(Page {
                bytes: [0; 4096],
                is_dirty: false,
            });
            self.file.read_at(&mut loaded.bytes, number * PAGE)?;
            return Ok(page.insert(loaded));
        }
        page.as_deref_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const _: () = assert!(
    HEADER_LEN.is_multiple_of(SLOT_LEN) && PAGE.is_multiple_of(SLOT_LEN),
    "no slot lies on two pages"
);

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn read_entry(file: &dyn File, layout: Layout, number: u32) -> io::Result<Entry> {
    let mut bytes = [0; narrow(ENTRY_LEN)];
    file.read_exact_at(&mut bytes, layout.entry_at(number))?;
    Ok(Entry::decode(&bytes))
}

/// Follows a slot's chain from its newest entry. Numbers only fall along it, so it ends whatever the file holds.
fn walk(
    newest: u32,
    header: &Header,
    wanted: &Wanted,
    found: &mut Vec<u64>,
    read: impl Fn(u32) -> io::Result<Entry>,
) -> io::Result<()> {
    let mut number = if newest < header.next { newest } else { 0 };
    while number > 0 && found.len() < wanted.max {
        let entry = read(number)?;
        let time = header.begin_time.plus(i64::from(entry.seconds) * 1000);
        // Entries know whole seconds only, and like Apache's we take them at their word.
        if time < wanted.begin {
            break;
        }
        if entry.hash == wanted.hash && time <= wanted.end {
            found.push(entry.offset);
        }
        number = if entry.previous < number {
            entry.previous
        } else {
            0
        };
    }
    Ok(())
}
