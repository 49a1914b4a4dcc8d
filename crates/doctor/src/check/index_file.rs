//! One index file: its header, its slots and the chains of its entries, without the log.

use std::path::PathBuf;
use std::sync::Arc;

use gantry_disk::File;
use gantry_store::format::index::{ENTRY_LEN, Entry, Header, Layout, SLOT_LEN};

use crate::log::{narrow, wide};
use crate::progress::Progress;
use crate::report::{Class, Finding, Findings, Severity};

/// So many slots are followed at once.
pub(crate) const SLOTS_AT_ONCE: u32 = 8 << 20;
/// So many wrong entries of a file are named one by one.
pub(crate) const NAMED_MAX: u64 = 100;

/// One index file.
#[derive(Debug)]
pub(crate) struct IndexFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) layout: Layout,
    pub(crate) header: Header,
    /// What is wrong with it the next start makes good without being asked.
    pub(crate) is_doubted: bool,
    pub(crate) named: u64,
}

impl IndexFile {
    pub(crate) fn severity(&self) -> Severity {
        if self.is_doubted {
            Severity::Note
        } else {
            Severity::Fault
        }
    }

    pub(crate) fn say(
        &mut self,
        findings: &mut Findings,
        code: &'static str,
        at: u64,
        text: String,
    ) {
        self.named += 1;
        if self.named <= NAMED_MAX {
            let finding = Finding::fault(Class::Index, code, &self.path, text).at(at);
            findings.add(finding.as_bad_as(self.severity()));
        }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        u64::from(self.header.next.saturating_sub(1)) * ENTRY_LEN
    }

    /// Calls `see` with every entry.
    pub(crate) fn each(&self, see: &mut dyn FnMut(u32, Entry)) -> std::io::Result<()> {
        let mut chunk = vec![0; narrow(ENTRY_LEN) << 12];
        let mut number = 1;
        while number < self.header.next {
            let left = u64::from(self.header.next - number) * ENTRY_LEN;
            let len = narrow(left.min(wide(chunk.len())));
            self.file
                .read_exact_at(&mut chunk[..len], self.layout.entry_at(number))?;
            for bytes in chunk[..len].chunks_exact(narrow(ENTRY_LEN)) {
                if let Some(bytes) = bytes.first_chunk() {
                    see(number, Entry::decode(bytes));
                }
                number += 1;
            }
        }
        Ok(())
    }

    /// Follows the chains of the slots from `from` to `to`: every entry names the one before it in its slot, and the slot
    /// the newest. Returns how many of the slots are used.
    pub(crate) fn follow_slots(
        &mut self,
        from: u32,
        to: u32,
        findings: &mut Findings,
        progress: &Progress,
    ) -> std::io::Result<u32> {
        let mut newest = vec![0_u32; narrow(u64::from(to - from))];
        let mut wrong = Vec::new();
        let layout = self.layout;
        let mut count = 0_u64;
        self.each(&mut |number, entry| {
            count += 1;
            let slot = layout.slot_of(entry.hash);
            let Some(newest) = slot
                .checked_sub(from)
                .and_then(|slot| newest.get_mut(narrow(u64::from(slot))))
            else {
                return;
            };
            let before = std::mem::replace(newest, number);
            if entry.previous != before && wide(wrong.len()) <= NAMED_MAX {
                wrong.push((number, entry.previous, before));
            }
        })?;
        progress.further(count * ENTRY_LEN);
        for (number, says, is) in wrong {
            let text = format!(
                "entry {number} names {says} as the one before it in its slot, that is {is}"
            );
            self.say(findings, "index-chain", layout.entry_at(number), text);
        }
        self.compare_slots(from, &newest, findings)?;
        Ok(u32::try_from(newest.iter().filter(|&&newest| newest != 0).count()).unwrap_or(u32::MAX))
    }

    fn compare_slots(
        &mut self,
        from: u32,
        newest: &[u32],
        findings: &mut Findings,
    ) -> std::io::Result<()> {
        let mut chunk = vec![0; 64 << 10];
        let mut slot = from;
        for expected in newest.chunks(chunk.len() / narrow(SLOT_LEN)) {
            let bytes = &mut chunk[..expected.len() * narrow(SLOT_LEN)];
            self.file.read_exact_at(bytes, self.layout.slot_at(slot))?;
            let bytes = bytes.to_vec();
            for (&expected, bytes) in expected.iter().zip(bytes.chunks_exact(narrow(SLOT_LEN))) {
                let says = bytes
                    .first_chunk()
                    .map_or(0, |bytes| u32::from_be_bytes(*bytes));
                if says != expected && !self.is_doubted {
                    let text = format!("slot {slot} names entry {says}, its newest is {expected}");
                    self.say(findings, "index-slot", self.layout.slot_at(slot), text);
                }
                slot = slot.saturating_add(1);
            }
        }
        Ok(())
    }
}
