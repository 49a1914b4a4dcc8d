//! What the whole broker stored and handed out: totals, rates over 10, 60 and 600 seconds, put times, day counters.
//!
//! Request handlers only add to striped counters and buckets; [`Totals::sample`] is called once a second by the
//! owner and does the rest. Figures are well-formed from the first moment on: a rate over a span that has not passed
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

/// Upper bounds (milliseconds, exclusive) of the put time distribution and the names Java prints for them.
const DISTRIBUTION: [(u64, &str); 13] = [
    (1, "[<=0ms]"),
    (10, "[0~10ms]"),
    (50, "[10~50ms]"),
    (100, "[50~100ms]"),
    (200, "[100~200ms]"),
    (500, "[200~500ms]"),
    (1_000, "[500ms~1s]"),
    (2_000, "[1~2s]"),
    (3_000, "[2~3s]"),
    (4_000, "[3~4s]"),
    (5_000, "[4~5s]"),
    (10_000, "[5~10s]"),
    (u64::MAX, "[10s~]"),
];

/// Steps (milliseconds) and their number of the finer buckets percentiles are read from.
const LATENCY_STEPS: [(u64, usize); 7] = [
    (1, 20),
    (2, 15),
    (5, 10),
    (10, 10),
    (50, 6),
    (100, 5),
    (1_000, 9),
];
const LATENCY_BUCKETS: usize = 76;

/// Upper bounds (inclusive) of the finer buckets; the last one takes everything else.
const LATENCY_BOUNDS: [u64; LATENCY_BUCKETS] = {
    let mut bounds = [u64::MAX; LATENCY_BUCKETS];
    let (mut bucket, mut bound, mut row) = (0, 0, 0);
    while row < LATENCY_STEPS.len() {
        let mut time = 0;
        while time < LATENCY_STEPS[row].1 {
            bound += LATENCY_STEPS[row].0;
            bounds[bucket] = bound;
            bucket += 1;
            time += 1;
        }
        row += 1;
    }
    assert!(
        bucket == LATENCY_BUCKETS - 1,
        "the table above has 75 bounds"
    );
    bounds
};

/// Seconds kept for the rates: ten minutes and the sample before them.
const SAMPLES_KEPT: usize = 601;

/// Milliseconds after which the put times shown are replaced.
const PUT_TIMES_PERIOD_MS: i64 = 60_000;

/// Counters of the whole broker.
#[derive(Debug)]
pub(super) struct Totals {
    stripes: [Stripe; STRIPES],
    distribution: [AtomicU64; DISTRIBUTION.len()],
    latency: [AtomicU64; LATENCY_BUCKETS],
    put_ms_max: AtomicU64,
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
            distribution: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            put_ms_max: AtomicU64::new(0),
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

    /// Notes that `calls` puts took `ms` milliseconds each.
    pub(super) fn put_took(&self, ms: u64, calls: u64) {
        let coarse = DISTRIBUTION
            .partition_point(|(bound, _)| *bound <= ms)
            .min(DISTRIBUTION.len() - 1);
        self.distribution[coarse].fetch_add(calls, Relaxed);
        let fine = LATENCY_BOUNDS
            .partition_point(|bound| *bound < ms)
            .min(LATENCY_BUCKETS - 1);
        self.latency[fine].fetch_add(calls, Relaxed);
        raise(&self.put_ms_max, ms);
    }

    /// Notes that a read took `ms` milliseconds.
    pub(super) fn get_took(&self, ms: u64) {
        raise(&self.get_ms_max, ms);
    }

    pub(super) fn put_ms_max(&self) -> u64 {
        self.put_ms_max.load(Relaxed)
    }

    pub(super) fn get_ms_max(&self) -> u64 {
        self.get_ms_max.load(Relaxed)
    }

    fn put_times(&self) -> PutTimes {
        PutTimes {
            distribution: std::array::from_fn(|at| self.distribution[at].load(Relaxed)),
            latency: std::array::from_fn(|at| self.latency[at].load(Relaxed)),
        }
    }
}

/// A plain load first: the maximum is nearly always raised by nobody.
fn raise(max: &AtomicU64, value: u64) {
    if max.load(Relaxed) < value {
        max.fetch_max(value, Relaxed);
    }
}

/// How long puts took, by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PutTimes {
    distribution: [u64; DISTRIBUTION.len()],
    latency: [u64; LATENCY_BUCKETS],
}

impl PutTimes {
    const NONE: Self = Self {
        distribution: [0; DISTRIBUTION.len()],
        latency: [0; LATENCY_BUCKETS],
    };

    fn since(&self, earlier: &Self) -> Self {
        Self {
            distribution: std::array::from_fn(|at| {
                self.distribution[at].saturating_sub(earlier.distribution[at])
            }),
            latency: std::array::from_fn(|at| self.latency[at].saturating_sub(earlier.latency[at])),
        }
    }

    /// `[<=0ms]:12 [0~10ms]:0 ...`, each followed by a blank as Java writes it.
    pub(super) fn distribution_text(&self) -> String {
        let mut text = String::with_capacity(200);
        for ((_, name), count) in DISTRIBUTION.iter().zip(self.distribution) {
            text.push_str(&format!("{name}:{count} "));
        }
        text
    }

    /// Milliseconds that `share` (0 to 1) of the puts stayed below, interpolated within a bucket as Java does.
    pub(super) fn percentile_ms(&self, share: f64) -> f64 {
        let total: u64 = self.latency.iter().sum();
        let rank = (total as f64 * share) as u64;
        let (mut passed, mut lower) = (0, 0);
        for (bound, count) in LATENCY_BOUNDS.into_iter().zip(self.latency) {
            if rank <= passed + count {
                if count == 0 {
                    return lower as f64;
                }
                // The open bucket has no upper bound to interpolate to.
                let width = if bound == u64::MAX { 0 } else { bound - lower };
                return lower as f64 + width as f64 * (rank - passed) as f64 / count as f64;
            }
            passed += count;
            lower = bound;
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
    put_times_base: PutTimes,
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
            put_times_base: PutTimes::NONE,
            put_times: PutTimes::NONE,
            yesterday: Morning::default(),
            today: Morning::default(),
        }
    }

    /// Takes the sample of this second. Samples that lie in the future (a clock set back) are worth nothing.
    pub(super) fn sample(&mut self, now: Millis, totals: &Totals) {
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
            let seen = totals.put_times();
            self.put_times = seen.since(&self.put_times_base);
            self.put_times_base = seen;
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
            sampled.sample(Millis(second * 1_000), &totals);
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
            sampled.sample(Millis(second * 1_000), &totals);
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
        sampled.sample(Millis(11_000), &totals);
        for second in [1, 2, 3] {
            totals.add(stored(7));
            sampled.sample(Millis(second * 1_000), &totals);
        }
        assert_eq!(sampled.rates(puts), [7.0; 3]);
    }

    #[test]
    fn put_times_are_those_of_the_last_full_minute() {
        let totals = Totals::new();
        let mut sampled = Sampled::new(Millis(0), TimeZone::UTC);
        for ms in [
            0,
            0,
            1,
            9,
            10,
            49,
            50,
            99,
            100,
            200,
            500,
            1_000,
            2_000,
            3_000,
            4_000,
            5_000,
            10_000,
            u64::MAX,
        ] {
            totals.put_took(ms, 1);
        }
        sampled.sample(Millis(59_000), &totals);
        assert!(
            sampled
                .put_times
                .distribution_text()
                .starts_with("[<=0ms]:0 [0~10ms]:0 ")
        );
        sampled.sample(Millis(60_000), &totals);
        assert_eq!(
            sampled.put_times.distribution_text(),
            "[<=0ms]:2 [0~10ms]:2 [10~50ms]:2 [50~100ms]:2 [100~200ms]:1 [200~500ms]:1 [500ms~1s]:1 \
             [1~2s]:1 [2~3s]:1 [3~4s]:1 [4~5s]:1 [5~10s]:1 [10s~]:2 "
        );
        totals.put_took(3, 4);
        sampled.sample(Millis(120_000), &totals);
        assert!(
            sampled
                .put_times
                .distribution_text()
                .starts_with("[<=0ms]:0 [0~10ms]:4 [10~50ms]:0 ")
        );
        assert_eq!(totals.put_ms_max(), u64::MAX);
    }

    #[test]
    fn percentiles_are_read_from_the_buckets() {
        assert_eq!(LATENCY_BOUNDS[..3], [1, 2, 3]);
        assert_eq!(LATENCY_BOUNDS[LATENCY_BUCKETS - 2..], [10_000, u64::MAX]);
        let check = |times: &[(u64, u64)], share: f64, expected: f64| {
            let totals = Totals::new();
            for (ms, calls) in times {
                totals.put_took(*ms, *calls);
            }
            let got = totals.put_times().percentile_ms(share);
            assert!(
                (got - expected).abs() < 1e-9,
                "{times:?} at {share}: {got}, not {expected}"
            );
        };
        check(&[], 0.99, 0.0);
        check(&[(0, 100)], 0.99, 0.99);
        check(&[(0, 90), (15, 10)], 0.99, 14.9);
        check(&[(0, 1), (20_000, 999)], 0.999, 10_000.0);
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
        sampled.sample(Millis(start + 9_000), &totals);
        assert_eq!(
            (sampled.yesterday, sampled.today),
            (Morning::default(), Morning::default())
        );
        sampled.sample(Millis(start + 10_000), &totals);
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
        sampled.sample(Millis(start + 11_000), &totals);
        assert_eq!(
            sampled.today,
            Morning {
                put_total: 5,
                get_total: 3
            },
            "once a day"
        );
        sampled.sample(Millis(start + 10_000 + 86_400_000), &totals);
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
