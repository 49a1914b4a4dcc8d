//! What the whole broker stored and handed out: totals, rates over 10, 60 and 600 seconds, put times, day counters.
//!
//! Request handlers only add to striped counters; [`Sampled::sample`] is called once a second by the owner and does
//! the rest. How long puts take is measured by the store and handed in. Figures are well-formed from the first moment on: a rate over a span that has not passed
//! yet is the rate since the start. Nothing here reads a clock.

use std::cell::Cell as ThreadCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use gantry_message::Millis;
use jiff::{Timestamp, ToSpan, tz::TimeZone};

const STRIPES: usize = 16;

/// What is counted, in the order of a stripe's slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages stored.
    pub put_messages: u64,
    /// Bytes of records stored.
    pub put_bytes: u64,
    /// Messages the store refused.
    pub put_failed: u64,
    /// Reads that found messages.
    pub get_found: u64,
    /// Reads that found none.
    pub get_missed: u64,
    /// Messages handed out.
    pub get_messages: u64,
}

#[repr(align(64))]
#[derive(Debug, Default)]
struct Stripe([AtomicU64; 6]);

/// Records by the time their commit took, as the store counts them.
pub type CommitTimes = [u64; 13];

/// Names that Java prints for the ranges of [`CommitTimes`], and where each ends (milliseconds; the last does not).
const RANGES: [(&str, u64); 13] = [
    ("[<=0ms]", 1),
    ("[0~10ms]", 10),
    ("[10~50ms]", 50),
    ("[50~100ms]", 100),
    ("[100~200ms]", 200),
    ("[200~500ms]", 500),
    ("[500ms~1s]", 1_000),
    ("[1~2s]", 2_000),
    ("[2~3s]", 3_000),
    ("[3~4s]", 4_000),
    ("[4~5s]", 5_000),
    ("[5~10s]", 10_000),
    ("[10s~]", u64::MAX),
];

/// Seconds kept for the rates: ten minutes and the sample before them.
const SAMPLES_KEPT: usize = 601;

/// Milliseconds after which the put times shown are replaced.
const PUT_TIMES_PERIOD_MS: i64 = 60_000;

/// Counters of the whole broker.
#[derive(Debug)]
pub(super) struct Totals {
    stripes: [Stripe; STRIPES],
    get_ms_max: AtomicU64,
}

thread_local! {
    /// Which stripe this thread adds to.
    static STRIPE: ThreadCell<Option<usize>> = const { ThreadCell::new(None) };
}

fn own_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    STRIPE.with(|stripe| {
        stripe.get().unwrap_or_else(|| {
            let own = NEXT.fetch_add(1, Relaxed) % STRIPES;
            stripe.set(Some(own));
            own
        })
    })
}

impl Totals {
    pub(super) fn new() -> Self {
        Self {
            stripes: std::array::from_fn(|_| Stripe::default()),
            get_ms_max: AtomicU64::new(0),
        }
    }

    /// Adds to the calling thread's stripe; zeros cost nothing.
    pub(super) fn add(&self, counts: Counts) {
        let Stripe(slots) = &self.stripes[own_stripe()];
        let Counts {
            put_messages,
            put_bytes,
            put_failed,
            get_found,
            get_missed,
            get_messages,
        } = counts;
        let amounts = [
            put_messages,
            put_bytes,
            put_failed,
            get_found,
            get_missed,
            get_messages,
        ];
        for (slot, amount) in slots.iter().zip(amounts) {
            if amount != 0 {
                slot.fetch_add(amount, Relaxed);
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut sums = [0u64; 6];
        for Stripe(slots) in &self.stripes {
            for (sum, slot) in sums.iter_mut().zip(slots) {
                *sum = sum.wrapping_add(slot.load(Relaxed));
            }
        }
        let [
            put_messages,
            put_bytes,
            put_failed,
            get_found,
            get_missed,
            get_messages,
        ] = sums;
        Counts {
            put_messages,
            put_bytes,
            put_failed,
            get_found,
            get_missed,
            get_messages,
        }
    }

    /// Notes that a read took `ms` milliseconds.
    pub(super) fn get_took(&self, ms: u64) {
        raise(&self.get_ms_max, ms);
    }

    pub(super) fn get_ms_max(&self) -> u64 {
        self.get_ms_max.load(Relaxed)
    }
}

/// A plain load first: the maximum is nearly always raised by nobody.
fn raise(max: &AtomicU64, value: u64) {
    if max.load(Relaxed) < value {
        max.fetch_max(value, Relaxed);
    }
}

/// How long puts took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PutTimes(CommitTimes);

impl PutTimes {
    fn between(earlier: &CommitTimes, later: &CommitTimes) -> Self {
        Self(std::array::from_fn(|at| {
            later[at].saturating_sub(earlier[at])
        }))
    }

    /// `[<=0ms]:12 [0~10ms]:0 ...`, each followed by a blank as Java writes it.
    pub(super) fn distribution_text(&self) -> String {
        let ranges = RANGES.iter().zip(self.0);
        ranges
            .map(|((name, _), count)| format!("{name}:{count} "))
            .collect()
    }

    /// Milliseconds that `share` (0 to 1) of the puts stayed below, interpolated within a range as Java does.
    pub(super) fn percentile_ms(&self, share: f64) -> f64 {
        let total: u64 = self.0.iter().sum();
        let rank = (total as f64 * share) as u64;
        let (mut passed, mut lower) = (0, 0);
        for ((_, upper), count) in RANGES.into_iter().zip(self.0) {
            if rank <= passed + count {
                if count == 0 {
                    break;
                }
                // The last range has no end to interpolate to.
                let width = if upper == u64::MAX { 0 } else { upper - lower };
                return lower as f64 + width as f64 * (rank - passed) as f64 / count as f64;
            }
            passed += count;
            lower = upper;
        }
        lower as f64
    }
}

/// Counters as they stood when a local day began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Morning {
    /// Messages stored until then.
    pub put_total: u64,
    /// Messages handed out until then.
    pub get_total: u64,
}

/// Rates a second over the last 10, 60 and 600 seconds.
pub type Rates = [f64; 3];

/// What the sampler remembers of [`Totals`]; owned by one sampler.
#[derive(Debug)]
pub(super) struct Sampled {
    zone: TimeZone,
    samples: VecDeque<(Millis, Counts)>,
    put_times_at: Millis,
    put_times_base: CommitTimes,
    /// Put times of the last full minute.
    pub(super) put_times: PutTimes,
    next_morning: Millis,
    /// Counters at the beginning of yesterday.
    pub(super) yesterday: Morning,
    /// Counters at the beginning of today.
    pub(super) today: Morning,
}

impl Sampled {
    pub(super) fn new(now: Millis, zone: TimeZone) -> Self {
        Self {
            next_morning: morning_after(now, &zone),
            zone,
            samples: VecDeque::from([(now, Counts::default())]),
            put_times_at: now,
            put_times_base: CommitTimes::default(),
            put_times: PutTimes::default(),
            yesterday: Morning::default(),
            today: Morning::default(),
        }
    }

    /// Takes the sample of this second. Samples that lie in the future (a clock set back) are worth nothing.
    pub(super) fn sample(&mut self, now: Millis, totals: &Totals, commit_times: &CommitTimes) {
        let counts = totals.counts();
        while self.samples.back().is_some_and(|(at, _)| now <= *at) {
            self.samples.pop_back();
        }
        self.samples.push_back((now, counts));
        while self.samples.len() > SAMPLES_KEPT {
            self.samples.pop_front();
        }
        if now < self.put_times_at {
            self.put_times_at = now;
        }
        if self.put_times_at.0 + PUT_TIMES_PERIOD_MS <= now.0 {
            self.put_times = PutTimes::between(&self.put_times_base, commit_times);
            self.put_times_base = *commit_times;
            self.put_times_at = now;
        }
        if self.next_morning <= now {
            self.yesterday = self.today;
            self.today = Morning {
                put_total: counts.put_messages,
                get_total: counts.get_messages,
            };
            self.next_morning = morning_after(now, &self.zone);
        }
    }

    /// Rates of one counter over the last 10, 60 and 600 samples, or over as many as there are.
    pub(super) fn rates(&self, pick: fn(&Counts) -> u64) -> Rates {
        [10, 60, 600].map(|span: usize| {
            let Some((last_at, last)) = self.samples.back() else {
                return 0.0;
            };
            let first = self.samples.len().saturating_sub(span + 1);
            let Some((first_at, first)) = self.samples.get(first) else {
                return 0.0;
            };
            let elapsed = last_at.0 - first_at.0;
            if elapsed <= 0 {
                0.0
            } else {
                pick(last).saturating_sub(pick(first)) as f64 * 1000.0 / elapsed as f64
            }
        })
    }
}

/// The next local midnight; summer time makes a day of 23 or 25 hours.
fn morning_after(now: Millis, zone: &TimeZone) -> Millis {
    let midnight = Timestamp::from_millisecond(now.0)
        .map(|now| now.to_zoned(zone.clone()))
        .and_then(|now| now.checked_add(1.day()))
        .and_then(|tomorrow| tomorrow.start_of_day());
    midnight.map_or(Millis(now.0 + 86_400_000), |midnight| {
        Millis(midnight.timestamp().as_millisecond())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(messages: u64) -> Counts {
        Counts {
            put_messages: messages,
            put_bytes: messages * 100,
            ..Counts::default()
        }
    }

    fn puts(counts: &Counts) -> u64 {
        counts.put_messages
    }

    #[test]
    fn rates_are_well_formed_before_the_first_sample_and_then_since_the_start() {
        let totals = Totals::new();
        let mut sampled = Sampled::new(Millis(1_000), TimeZone::UTC);
        assert_eq!(sampled.rates(puts), [0.0; 3]);
        totals.add(stored(30));
        for second in 2..=4 {
            sampled.sample(Millis(second * 1_000), &totals, &CommitTimes::default());
        }
        assert_eq!(
            sampled.rates(puts),
            [10.0; 3],
            "30 messages in 3 seconds, whatever the span"
        );
    }

    #[test]
    fn each_span_forgets_at_its_own_pace() {
        let totals = Totals::new();
        let mut sampled = Sampled::new(Millis(0), TimeZone::UTC);
        totals.add(stored(600));
        for second in 1..=700 {
            sampled.sample(Millis(second * 1_000), &totals, &CommitTimes::default());
            let expected = match second {
                1..=9 => [600.0 / second as f64; 3],
                10..=59 => [
                    if second <= 10 { 60.0 } else { 0.0 },
                    600.0 / second as f64,
                    600.0 / second as f64,
                ],
                _ => continue,
            };
            assert_eq!(sampled.rates(puts), expected, "second {second}");
        }
        assert_eq!(sampled.rates(puts), [0.0; 3]);
        assert_eq!(sampled.samples.len(), SAMPLES_KEPT);
    }

    #[test]
    fn a_clock_set_back_drops_the_samples_of_the_future() {
        let totals = Totals::new();
        let mut sampled = Sampled::new(Millis(10_000), TimeZone::UTC);
        totals.add(stored(5));
        sampled.sample(Millis(11_000), &totals, &CommitTimes::default());
        for second in [1, 2, 3] {
            totals.add(stored(7));
            sampled.sample(Millis(second * 1_000), &totals, &CommitTimes::default());
        }
        assert_eq!(sampled.rates(puts), [7.0; 3]);
    }

    #[test]
    fn put_times_are_those_of_the_last_full_minute() {
        let totals = Totals::new();
        let mut sampled = Sampled::new(Millis(0), TimeZone::UTC);
        let mut times: CommitTimes = std::array::from_fn(|at| at as u64);
        sampled.sample(Millis(59_000), &totals, &times);
        assert!(
            sampled
                .put_times
                .distribution_text()
                .starts_with("[<=0ms]:0 [0~10ms]:0 ")
        );
        sampled.sample(Millis(60_000), &totals, &times);
        assert_eq!(
            sampled.put_times.distribution_text(),
            "[<=0ms]:0 [0~10ms]:1 [10~50ms]:2 [50~100ms]:3 [100~200ms]:4 [200~500ms]:5 [500ms~1s]:6 \
             [1~2s]:7 [2~3s]:8 [3~4s]:9 [4~5s]:10 [5~10s]:11 [10s~]:12 "
        );
        times[1] += 4;
        sampled.sample(Millis(120_000), &totals, &times);
        assert!(
            sampled
                .put_times
                .distribution_text()
                .starts_with("[<=0ms]:0 [0~10ms]:4 [10~50ms]:0 ")
        );
    }

    #[test]
    fn percentiles_are_read_from_the_ranges() {
        let check = |counts: &[(usize, u64)], share: f64, expected: f64| {
            let mut times = CommitTimes::default();
            for (range, count) in counts {
                times[*range] = *count;
            }
            let got = PutTimes(times).percentile_ms(share);
            assert!(
                (got - expected).abs() < 1e-9,
                "{counts:?} at {share}: {got}, not {expected}"
            );
        };
        check(&[], 0.99, 0.0);
        check(&[(0, 100)], 0.99, 0.99);
        check(&[(0, 90), (2, 10)], 0.99, 46.0);
        check(&[(0, 1), (12, 999)], 0.999, 10_000.0);
    }

    #[test]
    fn day_counters_turn_at_local_midnight() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        // 2024-03-01 23:59:50 at UTC+8.
        let start = 1_709_308_790_000;
        let totals = Totals::new();
        let mut sampled = Sampled::new(Millis(start), zone);
        totals.add(Counts {
            put_messages: 5,
            get_messages: 3,
            ..Counts::default()
        });
        sampled.sample(Millis(start + 9_000), &totals, &CommitTimes::default());
        assert_eq!(
            (sampled.yesterday, sampled.today),
            (Morning::default(), Morning::default())
        );
        sampled.sample(Millis(start + 10_000), &totals, &CommitTimes::default());
        assert_eq!(
            sampled.today,
            Morning {
                put_total: 5,
                get_total: 3
            }
        );
        totals.add(Counts {
            put_messages: 1,
            ..Counts::default()
        });
        sampled.sample(Millis(start + 11_000), &totals, &CommitTimes::default());
        assert_eq!(
            sampled.today,
            Morning {
                put_total: 5,
                get_total: 3
            },
            "once a day"
        );
        sampled.sample(
            Millis(start + 10_000 + 86_400_000),
            &totals,
            &CommitTimes::default(),
        );
        assert_eq!(
            sampled.yesterday,
            Morning {
                put_total: 5,
                get_total: 3
            }
        );
        assert_eq!(
            sampled.today,
            Morning {
                put_total: 6,
                get_total: 3
            }
        );
    }

    #[test]
    fn threads_add_up() {
        let totals = Totals::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| totals.add(stored(1))));
            }
        });
        assert_eq!(totals.counts(), stored(4_000));
    }
}
