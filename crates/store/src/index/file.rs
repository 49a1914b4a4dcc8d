//! One index file: the newest one with its slots in memory, the older ones read by position.
//!
//! Slots are loaded page by page when they are first needed and written back when they changed; entries are collected
//! and written by runs. Slots and header on disk may lag behind; entries never lie behind what was noted as durable, and
//! slots that are ahead of them are put right by their chains ([`Active::put_right`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gantry_disk::{Disk, File, New, Open};
use gantry_message::Millis;

use crate::dispatcher::IndexKey;
use crate::figures::Counters;
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
    pub(crate) layout: Layout,
    /// Header, first and last entry and the slot of that fit each other.
    pub(crate) is_sound: bool,
    /// It has the length that its layout has.
    pub(crate) is_whole: bool,
    file: Arc<dyn File>,
    damage_is_named: AtomicBool,
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
    damage_is_named: AtomicBool,
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
    /// Opens a file with that one of the `likely` layouts that fits what it holds, else as one that is not sound.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        likely: &[Layout],
        otherwise: Layout,
    ) -> io::Result<Self> {
        let file = disk.open(path, Open::Write)?;
        let mut bytes = [0; narrow(HEADER_LEN)];
        file.read_at(&mut bytes, 0)?;
        let header = Header::decode(&bytes);
        let sound = likely
            .iter()
            .find(|layout| is_sound(&*file, &header, **layout));
        let layout = *sound.or(likely.first()).unwrap_or(&otherwise);
        Ok(Self {
            path: path.to_owned(),
            header,
            layout,
            is_sound: sound.is_some(),
            is_whole: file.len()? == layout.file_len(),
            file,
            damage_is_named: AtomicBool::new(false),
        })
    }

    pub(crate) fn name(&self) -> String {
        name(&self.path)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.header.next >= self.layout.entries
    }

    /// Log offsets of what is wanted, newest first. Damage ends a chain, and an unreadable file has nothing to say; both
    /// are named once.
    pub(crate) fn find(&self, wanted: &Wanted, found: &mut Vec<u64>, counters: &Counters) {
        let slot = self.layout.slot_of(wanted.hash);
        let mut bytes = [0; 4];
        let read = self
            .file
            .read_exact_at(&mut bytes, self.layout.slot_at(slot));
        let walked = read.and_then(|()| {
            let newest = u32::from_be_bytes(bytes);
            let read = |number| read_entry(&*self.file, self.layout, number);
            walk(newest, (&self.header, self.layout), wanted, found, read)
        });
        let why = match walked {
            Ok(None) => return,
            Ok(Some(damage)) => damage.to_owned(),
            Err(error) => error.to_string(),
        };
        name_damage(&self.path, slot, &why, &self.damage_is_named, counters);
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
            damage_is_named: AtomicBool::new(false),
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
    pub(crate) fn find(
        &mut self,
        wanted: &Wanted,
        found: &mut Vec<u64>,
        counters: &Counters,
    ) -> io::Result<()> {
        let slot = self.layout.slot_of(wanted.hash);
        let newest = self.slot(slot)?;
        let (buffered, from) = (&self.buffered, self.buffered_from);
        let of = (&self.header, self.layout);
        let damage = walk(newest, of, wanted, found, |number| {
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
        })?;
        if let Some(why) = damage {
            name_damage(&self.path, slot, why, &self.damage_is_named, counters);
        }
        Ok(())
    }

    /// After a crash: takes only the entries below `next` that point below `log_end`, and makes slots and header such as
    /// they would be with these. A slot that was written later points to an entry that was durable before it was
    /// ([`Active::sync`]), and the chain from there leads to the right one. Reads the slots once and keeps those that change.
    pub(crate) fn put_right(&mut self, next: u32, log_end: u64) -> io::Result<()> {
        let next = self.count_below(next.clamp(1, self.layout.entries), log_end)?;
        self.buffered.clear();
        (self.header.slots_used, self.header.next) = (0, next);
        let first_page = HEADER_LEN / PAGE;
        for number in first_page..wide(self.pages.len()) {
            let mut bytes = [0; narrow(PAGE)];
            self.file.read_at(&mut bytes, number * PAGE)?;
            if bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            for slot in self
                .layout
                .slots_between(number * PAGE, (number + 1) * PAGE)
            {
                let within = narrow(self.layout.slot_at(slot) - number * PAGE);
                let newest = bytes[within..]
                    .first_chunk()
                    .map_or(0, |slot| u32::from_be_bytes(*slot));
                let right = self.newest_below(next, slot, newest)?;
                if right != newest {
                    self.set_slot(slot, right)?;
                }
                self.header.slots_used += u32::from(right != 0);
            }
        }
        if next > 1 {
            let last = read_entry(&*self.file, self.layout, next - 1)?;
            self.header.end_offset = last.offset;
            // The entry knows whole seconds only.
            let seconds = i64::from(last.seconds) * 1000;
            self.header.end_time = self.header.begin_time.plus(seconds + 999);
        }
        self.buffered_from = next;
        self.is_header_dirty = true;
        Ok(())
    }

    /// The first of the numbers up to `next` whose entry does not point below `log_end`. Entries point ever further.
    fn count_below(&self, next: u32, log_end: u64) -> io::Result<u32> {
        let (mut low, mut high) = (1, next);
        while low < high {
            let middle = low + (high - low) / 2;
            if read_entry(&*self.file, self.layout, middle)?.offset < log_end {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The newest entry of a slot below `next`, on the chain that begins with `number`; 0: none.
    fn newest_below(&self, next: u32, slot: u32, mut number: u32) -> io::Result<u32> {
        if number < next {
            return Ok(number);
        }
        while number >= next {
            if number >= self.layout.entries {
                return Ok(0);
            }
            let previous = read_entry(&*self.file, self.layout, number)?.previous;
            number = if previous < number { previous } else { 0 };
        }
        if number == 0 {
            return Ok(0);
        }
        let entry = read_entry(&*self.file, self.layout, number)?;
        let is_of_slot = self.layout.slot_of(entry.hash) == slot;
        Ok(if is_of_slot { number } else { 0 })
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

    /// Writes entries, makes them durable, then slots and header: so no slot that survives a power cut points to an entry
    /// that does not.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write_entries()?;
        self.file.sync()?;
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
            is_sound: true,
            is_whole: true,
            file: self.file,
            damage_is_named: self.damage_is_named,
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

/// Whether a header fits the first and the last entry and the slot of that.
fn is_sound(file: &dyn File, header: &Header, layout: Layout) -> bool {
    if header.next > layout.entries {
        return false;
    }
    let Some(last_number) = header.next.checked_sub(1).filter(|&last| last > 0) else {
        return true;
    };
    let first = read_entry(file, layout, 1);
    let last = read_entry(file, layout, last_number);
    let (Ok(first), Ok(last)) = (first, last) else {
        return false;
    };
    let mut slot = [0; 4];
    let read = file.read_exact_at(&mut slot, layout.slot_at(layout.slot_of(last.hash)));
    let millis = header.end_time.0.checked_sub(header.begin_time.0);
    let seconds = millis.map(|millis| millis.clamp(0, i64::from(i32::MAX) * 1000) / 1000);
    read.is_ok()
        && first.offset == header.begin_offset
        && last.offset == header.end_offset
        // Apache counts the first entry's seconds from the end of the file before.
        && (last_number == 1 || seconds == Some(i64::from(last.seconds)))
        && u32::from_be_bytes(slot) == last_number
}

fn name_damage(path: &Path, slot: u32, why: &str, is_named: &AtomicBool, counters: &Counters) {
    counters.damaged_chains.fetch_add(1, Ordering::Relaxed);
    if !is_named.swap(true, Ordering::Relaxed) {
        tracing::error!(file = %path.display(), slot, why, "an index file is damaged, some keys are not found");
    }
}

/// Follows a slot's chain from its newest entry. Numbers only fall along it, so it ends whatever the file holds. Returns
/// what is wrong with it.
fn walk(
    newest: u32,
    (header, layout): (&Header, Layout),
    wanted: &Wanted,
    found: &mut Vec<u64>,
    read: impl Fn(u32) -> io::Result<Entry>,
) -> io::Result<Option<&'static str>> {
    let slot = layout.slot_of(wanted.hash);
    let mut number = if newest < header.next { newest } else { 0 };
    while number > 0 && found.len() < wanted.max {
        let entry = read(number)?;
        if layout.slot_of(entry.hash) != slot {
            return Ok(Some("an entry of another slot"));
        }
        let time = header.begin_time.plus(i64::from(entry.seconds) * 1000);
        // Entries know whole seconds only, and like Apache's we take them at their word.
        if time < wanted.begin {
            break;
        }
        if entry.hash == wanted.hash && time <= wanted.end && !found.contains(&entry.offset) {
            found.push(entry.offset);
        }
        if number <= entry.previous {
            return Ok(Some("an entry before which a later one comes"));
        }
        number = entry.previous;
    }
    Ok(None)
}
