//! A bounded number of windows of queue files, so that a walk over the log can look up entries of many queues.

use rustc_hash::FxHashMap;

/// So many windows are kept.
pub(crate) const WINDOWS_MAX: usize = 16 << 10;

/// A bounded number of windows, by queue and number of the first entry.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    windows: FxHashMap<(usize, u64), (Vec<u8>, u64)>,
    uses: u64,
}

impl Windows {
    pub(crate) fn get(&mut self, key: (usize, u64)) -> Option<&[u8]> {
        self.uses += 1;
        let (window, used) = self.windows.get_mut(&key)?;
        *used = self.uses;
        Some(window)
    }

    pub(crate) fn put(&mut self, key: (usize, u64), window: Vec<u8>) {
        if self.windows.len() >= WINDOWS_MAX {
            // Half go at once, so that finding them costs little a window.
            let mut uses: Vec<u64> = self.windows.values().map(|(_, used)| *used).collect();
            let (_, &mut median, _) = uses.select_nth_unstable(WINDOWS_MAX / 2);
            self.windows.retain(|_, (_, used)| *used > median);
        }
        self.windows.insert(key, (window, self.uses));
    }
}
