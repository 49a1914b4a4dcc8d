//! How many slots and entries the files of an index have: configured, the default, or as their content tells.

use gantry_disk::File;
use gantry_store::format::index::{
    ENTRIES_MAX, ENTRY_LEN, Entry, HEADER_LEN, Header, Layout, SLOT_LEN, SLOTS_MAX, hashes,
};
use gantry_store::offline::{Cursor, Step};

use crate::log::{Log, wide};
use crate::target::{DoctorError, Target};

/// Apache's default.
pub(crate) const DEFAULT: Layout = Layout {
    slots: 5_000_000,
    entries: 20_000_000,
};

pub(crate) const NAME_LEN: usize = 17;

/// Finds out how many slots a file has: the first entry belongs to the message that the header names, so its place tells.
pub(crate) fn infer(
    log: &Log,
    file: &dyn File,
    len: u64,
    header: &Header,
) -> std::io::Result<Option<Layout>> {
    if header.next <= 1 || len < HEADER_LEN + SLOT_LEN + 2 * ENTRY_LEN {
        return Ok(None);
    }
    let hashes: Vec<u32> = match Cursor::new(&log.chain, false).step(header.begin_offset) {
        Step::Record(view) => hashes(&view).collect(),
        _ => Vec::new(),
    };
    let hash = hashes.first().copied();
    let first = Entry {
        hash: hash.unwrap_or(0),
        offset: header.begin_offset,
        seconds: 0,
        previous: 0,
    };
    // Without its message, the hash of the first entry is not known.
    let first = first.encode();
    let skip = if hash.is_some() { 0 } else { 4 };
    let wanted = &first[skip..];
    let mut chunk = vec![0; 1 << 20];
    let mut at = HEADER_LEN;
    while at < len {
        let read = file.read_at(&mut chunk, at)?;
        let bytes = &chunk[..read];
        let mut look = 0;
        while let Some(found) = find(bytes.get(look..).unwrap_or_default(), wanted) {
            let entry_at = (at + wide(look + found)).checked_sub(wide(skip));
            if let Some(layout) = entry_at.and_then(|at| layout_with(len, at))
                && fits(file, layout, header)?
                && (hash.is_some() || ends(file, layout, header)?)
            {
                return Ok(Some(layout));
            }
            look += found + 1;
        }
        if read < chunk.len() {
            break;
        }
        at += wide(read - first.len());
    }
    Ok(None)
}

/// The layout of a file of `len` bytes whose first entry lies at `entry_at`.
pub(crate) fn layout_with(len: u64, entry_at: u64) -> Option<Layout> {
    let slots = entry_at.checked_sub(HEADER_LEN + ENTRY_LEN)?;
    let entries = len.checked_sub(entry_at)? + ENTRY_LEN;
    let is_whole = slots.is_multiple_of(SLOT_LEN) && entries.is_multiple_of(ENTRY_LEN);
    let slots = u32::try_from(slots / SLOT_LEN).ok()?;
    let entries = u32::try_from(entries / ENTRY_LEN).ok()?;
    let is_possible = is_whole && (1..=SLOTS_MAX).contains(&slots) && entries <= ENTRIES_MAX;
    is_possible.then_some(Layout { slots, entries })
}

/// Whether the first entry's slot leads to an entry of that slot.
pub(crate) fn fits(file: &dyn File, layout: Layout, header: &Header) -> std::io::Result<bool> {
    let mut entry = [0; 20];
    file.read_exact_at(&mut entry, layout.entry_at(1))?;
    let slot_of_first = layout.slot_of(Entry::decode(&entry).hash);
    let mut slot = [0; 4];
    file.read_exact_at(&mut slot, layout.slot_at(slot_of_first))?;
    let newest = u32::from_be_bytes(slot);
    if newest == 0 || newest >= header.next || newest >= layout.entries {
        return Ok(false);
    }
    file.read_exact_at(&mut entry, layout.entry_at(newest))?;
    Ok(layout.slot_of(Entry::decode(&entry).hash) == slot_of_first)
}

/// Whether the last entry is of the message that the header names.
pub(crate) fn ends(file: &dyn File, layout: Layout, header: &Header) -> std::io::Result<bool> {
    if header.next > layout.entries {
        return Ok(false);
    }
    let mut entry = [0; 20];
    file.read_exact_at(&mut entry, layout.entry_at(header.next - 1))?;
    Ok(Entry::decode(&entry).offset == header.end_offset)
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// The layout that the store's index has, as its files tell it; the configured or default one without files.
pub(crate) fn layout_of_store(target: &Target, log: &Log) -> Result<Layout, DoctorError> {
    let usual = target.layout().unwrap_or(DEFAULT);
    let dir = target.root.join("index");
    for one in target.list(&dir).map_err(DoctorError::io("list", &dir))? {
        if one.is_dir || one.name.len() != NAME_LEN {
            continue;
        }
        if one.len == usual.file_len() {
            return Ok(usual);
        }
        if one.len == DEFAULT.file_len() {
            return Ok(DEFAULT);
        }
        let path = dir.join(&one.name);
        let mut head = [0; 40];
        let inferred = target.open(&path).and_then(|file| {
            file.read_exact_at(&mut head, 0)?;
            infer(log, &*file, one.len, &Header::decode(&head))
        });
        if let Ok(Some(layout)) = inferred {
            return Ok(layout);
        }
    }
    Ok(usual)
}
