//! One counted thing over time: a few counters bumped by request handlers and their history in three windows.
//!
//! A [`Cell`] is written with relaxed atomics and read by the sampler alone. A [`History`] keeps what the sampler
//! saw in the last minute, hour and day; a cell at rest keeps no samples at all, so a hundred thousand quiet topics
//! cost their counters only. Nothing here knows the clock: every sample of one window is taken at one tick, and the
//! ticks' times are kept once by the owner ([`Ticks`]). Names and keys are one floor up, in `stats`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use gantry_message::{Millis, QueueId};

/// How many samples a window keeps, the tick before the first one included.
pub(super) const KEPT: [usize; 3] = [7, 7, 25];

/// The three spans figures are given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Seven samples ten seconds apart.
    Minute,
    /// Seven samples ten minutes apart.
    Hour,
    /// Twenty-five samples an hour apart.
    Day,
}

impl Span {
    /// All spans, shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Milliseconds between two samples.
    pub const fn period_ms(self) -> i64 {
        match self {
            Self::Minute => 10_000,
            Self::Hour => 600_000,
            Self::Day => 3_600_000,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Sum, rate and average of one counted thing over one span, as `BrokerStatsItem` carries them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// What was counted.
    pub sum: u64,
    /// How many times something was counted.
    pub times: u64,
    /// `sum` a second.
    pub tps: f64,
    /// `sum` a time.
    pub avgpt: f64,
}

impl Figures {
    /// Figures of `sum` counted in `times` steps within `elapsed_ms`.
    pub(super) fn of(sum: u64, times: u64, elapsed_ms: i64) -> Self {
        let tps = if elapsed_ms > 0 {
            sum as f64 * 1000.0 / elapsed_ms as f64
        } else {
            0.0
        };
        let avgpt = if times > 0 {
            sum as f64 / times as f64
        } else {
            0.0
        };
        Self {
            sum,
            times,
            tps,
            avgpt,
        }
    }
}

/// When each window was sampled last, oldest first. One for all cells.
#[derive(Debug, Default)]
pub(super) struct Ticks([VecDeque<Millis>; 3]);

impl Ticks {
    /// When the window is to be sampled next; `None` before its first tick.
    pub(super) fn due(&self, span: Span) -> Option<Millis> {
        self.0[span.index()]
            .back()
            .map(|last| Millis(last.0 + span.period_ms()))
    }

    /// Notes a tick. A clock that went back makes the older ticks worthless: they are moved along with it.
    pub(super) fn push(&mut self, span: Span, now: Millis) {
        let ticks = &mut self.0[span.index()];
        let step = span.period_ms();
        match ticks.back().copied() {
            None => ticks.push_back(Millis(now.0 - step)),
            Some(last) if now <= last => {
                let back = last.0 - now.0 + step;
                for tick in ticks.iter_mut() {
                    tick.0 -= back;
                }
            }
            Some(_) => {}
        }
        ticks.push_back(now);
        while ticks.len() > KEPT[span.index()] {
            ticks.pop_front();
        }
    }

    /// Milliseconds between the newest tick and the one `steps` before it.
    fn elapsed_ms(&self, span: Span, steps: usize) -> i64 {
        let ticks = &self.0[span.index()];
        let Some(last) = ticks.back() else { return 0 };
        let first = ticks.get(ticks.len().saturating_sub(1 + steps));
        first.map_or(0, |first| last.0 - first.0)
    }
}

/// Samples of `N` counters that are bumped together.
///
/// Invariant: a window without samples means that nothing has changed since `base` was seen.
#[derive(Debug)]
struct History<const N: usize> {
    windows: [Window<N>; 3],
}

#[derive(Debug)]
struct Window<const N: usize> {
    base: [u64; N],
    /// Whether `base` was seen in a whole window of samples, and not only in the first.
    rested: bool,
    samples: VecDeque<[u64; N]>,
}

impl<const N: usize> Window<N> {
    const EMPTY: Self = Self {
        base: [0; N],
        rested: false,
        samples: VecDeque::new(),
    };

    fn push(&mut self, value: [u64; N], kept: usize) {
        if self.samples.is_empty() {
            if value == self.base {
                return;
            }
            let before = if self.rested { kept - 1 } else { 1 };
            self.samples.resize(before, self.base);
        }
        self.samples.push_back(value);
        while self.samples.len() > kept {
            self.samples.pop_front();
        }
        if self.samples.len() == kept && self.samples.iter().all(|sample| *sample == value) {
            *self = Self {
                base: value,
                rested: true,
                samples: VecDeque::new(),
            };
        }
    }

    /// Differences between the oldest and the newest sample, and how many ticks lie between them.
    fn change(&self) -> Option<([u64; N], usize)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let mut change = [0; N];
        for (at, slot) in change.iter_mut().enumerate() {
            *slot = last[at].saturating_sub(first[at]);
        }
        Some((change, self.samples.len() - 1))
    }
}

/// `N` counters bumped together, with their history.
#[derive(Debug)]
pub(super) struct Cell<const N: usize> {
    counters: [AtomicU64; N],
    history: Mutex<Option<Box<History<N>>>>,
}

impl<const N: usize> Cell<N> {
    pub(super) fn new() -> Self {
        Self {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            history: Mutex::new(None),
        }
    }

    /// Adds to every counter; a hot path, and no more than `N` relaxed additions.
    pub(super) fn add(&self, amounts: [u64; N]) {
        for (counter, amount) in self.counters.iter().zip(amounts) {
            counter.fetch_add(amount, Relaxed);
        }
    }

    pub(super) fn value(&self) -> [u64; N] {
        std::array::from_fn(|at| self.counters[at].load(Relaxed))
    }

    /// Takes a sample of `value`, which is the cell's own or one computed from other cells.
    pub(super) fn sample(&self, span: Span, value: [u64; N]) {
        let mut history = self.history();
        if history.is_none() && value == [0; N] {
            return;
        }
        let history = history.get_or_insert_with(|| {
            Box::new(History {
                windows: [Window::EMPTY, Window::EMPTY, Window::EMPTY],
            })
        });
        history.windows[span.index()].push(value, KEPT[span.index()]);
    }

    /// Figures of the counter at `what`, counted in steps by the counter at `times` (or not counted in steps).
    pub(super) fn figures(
        &self,
        ticks: &Ticks,
        span: Span,
        what: usize,
        times: Option<usize>,
    ) -> Figures {
        let history = self.history();
        let change = history
            .as_ref()
            .and_then(|history| history.windows[span.index()].change());
        let Some((change, steps)) = change else {
            return Figures::default();
        };
        Figures::of(
            change[what],
            times.map_or(0, |times| change[times]),
            ticks.elapsed_ms(span, steps),
        )
    }

    fn history(&self) -> MutexGuard<'_, Option<Box<History<N>>>> {
        // Samples are plain numbers: a panic in the middle of a sample leaves nothing to repair.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One cell a queue, made when the queue is first counted, reached without a lock.
///
/// Blocks of 8, 16, 32 ... cells: queue ids up to 65,527 have their own cell, those beyond share the last block's.
#[derive(Debug)]
pub(super) struct PerQueue<const N: usize> {
    blocks: [OnceLock<Box<[OnceLock<Cell<N>>]>>; 13],
}

const FIRST_BLOCK: u32 = 8;

impl<const N: usize> PerQueue<N> {
    pub(super) fn new() -> Self {
        Self {
            blocks: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    pub(super) fn cell(&self, queue: QueueId) -> &Cell<N> {
        let (block, at) = place(queue, self.blocks.len());
        let cells = self.blocks[block]
            .get_or_init(|| (0..block_len(block)).map(|_| OnceLock::new()).collect());
        cells[at].get_or_init(Cell::new)
    }

    /// The queue's cell if it was ever counted.
    pub(super) fn find(&self, queue: QueueId) -> Option<&Cell<N>> {
        let (block, at) = place(queue, self.blocks.len());
        self.blocks[block].get()?.get(at)?.get()
    }

    /// Every cell with the queue it counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (QueueId, &Cell<N>)> {
        self.blocks.iter().enumerate().flat_map(|(block, cells)| {
            let first = FIRST_BLOCK * ((1 << block) - 1);
            let cells = cells.get().map(|cells| &**cells).unwrap_or_default();
            (first..)
                .zip(cells)
                .filter_map(|(id, cell)| Some((QueueId(id), cell.get()?)))
        })
    }

    /// All queues together.
    pub(super) fn sum(&self) -> [u64; N] {
        let mut sum = [0u64; N];
        for (_, cell) in self.iter() {
            for (total, part) in sum.iter_mut().zip(cell.value()) {
                *total = total.wrapping_add(part);
            }
        }
        sum
    }
}

fn block_len(block: usize) -> usize {
    (FIRST_BLOCK as usize) << block
}

/// Block and index of a queue: block b starts at 8 * (2^b - 1).
fn place(queue: QueueId, blocks: usize) -> (usize, usize) {
    let end = u64::from(FIRST_BLOCK) * ((1 << blocks) - 1);
    let id = u64::from(queue.0).min(end - 1);
    let block = (id / u64::from(FIRST_BLOCK) + 1).ilog2() as usize;
    let first = u64::from(FIRST_BLOCK) * ((1 << block) - 1);
    (block, usize::try_from(id - first).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(cell: &Cell<2>, ticks: &mut Ticks, span: Span, now: i64) {
        ticks.push(span, Millis(now));
        cell.sample(span, cell.value());
    }

    #[test]
    fn the_first_sample_counts_from_one_period_earlier_as_javas_does() {
        let (cell, mut ticks) = (Cell::<2>::new(), Ticks::default());
        cell.add([2, 50]);
        tick(&cell, &mut ticks, Span::Minute, 100_000);
        let figures = cell.figures(&ticks, Span::Minute, 1, Some(0));
        assert_eq!(
            figures,
            Figures {
                sum: 50,
                times: 2,
                tps: 5.0,
                avgpt: 25.0
            }
        );
    }

    #[test]
    fn a_window_forgets_what_is_older_than_its_span() {
        let (cell, mut ticks) = (Cell::<2>::new(), Ticks::default());
        cell.add([1, 600]);
        for step in 0..6 {
            tick(&cell, &mut ticks, Span::Minute, 100_000 + step * 10_000);
            assert_eq!(
                cell.figures(&ticks, Span::Minute, 1, Some(0)).sum,
                600,
                "step {step}"
            );
        }
        assert_eq!(cell.figures(&ticks, Span::Minute, 1, Some(0)).tps, 10.0);
        tick(&cell, &mut ticks, Span::Minute, 160_000);
        assert_eq!(
            cell.figures(&ticks, Span::Minute, 1, Some(0)),
            Figures::default()
        );
    }

    #[test]
    fn a_cell_at_rest_keeps_no_samples_and_starts_again_from_where_it_was() {
        let (cell, mut ticks) = (Cell::<2>::new(), Ticks::default());
        cell.add([1, 10]);
        for step in 0..8 {
            tick(&cell, &mut ticks, Span::Minute, step * 10_000);
        }
        assert!(
            cell.history()
                .as_ref()
                .is_some_and(|history| history.windows[0].samples.is_empty())
        );
        cell.add([1, 20]);
        tick(&cell, &mut ticks, Span::Minute, 80_000);
        assert_eq!(
            cell.figures(&ticks, Span::Minute, 1, Some(0)),
            Figures {
                sum: 20,
                times: 1,
                tps: 20.0 / 60.0,
                avgpt: 20.0
            }
        );
    }

    #[test]
    fn a_clock_set_back_never_yields_a_negative_or_infinite_rate() {
        let (cell, mut ticks) = (Cell::<2>::new(), Ticks::default());
        for (now, amount) in [
            (100_000, 10),
            (110_000, 10),
            (50_000, 10),
            (50_000, 10),
            (60_000, 10),
        ] {
            cell.add([1, amount]);
            tick(&cell, &mut ticks, Span::Minute, now);
            let figures = cell.figures(&ticks, Span::Minute, 1, Some(0));
            assert!(
                figures.tps.is_finite() && figures.tps > 0.0,
                "{now}: {figures:?}"
            );
        }
        assert_eq!(cell.figures(&ticks, Span::Minute, 1, Some(0)).tps, 1.0);
    }

    #[test]
    fn every_queue_has_its_own_cell_and_the_sum_is_all_of_them() {
        let queues = PerQueue::<1>::new();
        let ids = [0, 1, 7, 8, 9, 23, 24, 55, 56, 1023, 1024, 65_527];
        for (at, id) in ids.into_iter().enumerate() {
            queues.cell(QueueId(id)).add([1 << at]);
        }
        for (at, id) in ids.into_iter().enumerate() {
            assert_eq!(
                queues.find(QueueId(id)).map(Cell::value),
                Some([1 << at]),
                "queue {id}"
            );
        }
        assert!(queues.find(QueueId(2)).is_none());
        assert_eq!(queues.sum(), [(1 << ids.len()) - 1]);
        assert_eq!(queues.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn queue_ids_beyond_the_last_block_are_counted_together() {
        let queues = PerQueue::<1>::new();
        for id in [65_527, 65_528, u32::MAX] {
            queues.cell(QueueId(id)).add([1]);
        }
        assert_eq!(queues.sum(), [3]);
    }
}
