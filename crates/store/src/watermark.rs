//! A number that only grows, and those who wait for it: the one kind of waiting in the whole server.
//!
//! Synchronous flush, replicas and long polling are all "until beyond N, or a deadline". One writer advances, anybody
//! waits, in a task ([`Watermark::beyond`], any runtime) or on a thread ([`Watermark::wait_blocking`]).
//! Advancing costs a store and a load while nobody waits.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

/// A number that only grows, with waiters.
#[derive(Default)]
pub struct Watermark {
    /// Invariant: never goes back.
    value: AtomicU64,
    closed: AtomicBool,
    /// Invariant: the length of `waiting.entries`, changed under its lock before the value is looked at again.
    waiters: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next_id: u64,
    entries: Vec<Waiter>,
}

struct Waiter {
    id: u64,
    past: u64,
    waker: Waker,
}

impl Watermark {
    /// Starts at `value`.
    #[must_use]
    pub fn new(value: u64) -> Self {
        Self {
            value: AtomicU64::new(value),
            ..Self::default()
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// Moves to `to` and wakes those who waited for less. Only one thread advances at a time.
    pub fn advance(&self, to: u64) {
        // Sequentially consistent, as in `Beyond::poll`: either the waiter sees the new value or we see the waiter.
        let from = self.value.swap(to, Ordering::SeqCst);
        assert!(from <= to, "a watermark went back from {from} to {to}");
        if self.waiters.load(Ordering::SeqCst) != 0 {
            self.wake(|waiter| waiter.past < to);
        }
    }

    /// Says that nothing will come any more: every wait, present and future, ends at once.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake(|_| true);
    }

    /// Whether [`Watermark::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Waits until the value is more than `past` (or the watermark is closed; look at the value). Dropping the future
    /// ends the wait.
    pub fn beyond(&self, past: u64) -> Beyond<'_> {
        Beyond {
            mark: self,
            past,
            id: None,
        }
    }

    /// Waits on this thread until the value is more than `past`, the watermark is closed or the deadline has come.
    /// Returns whether the value is more.
    pub fn wait_blocking(&self, past: u64, deadline: Option<Instant>) -> bool {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut wait = self.beyond(past);
        loop {
            if Pin::new(&mut wait)
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                return self.value() > past;
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return self.value() > past;
                    }
                    thread::park_timeout(left);
                }
            }
        }
    }

    fn is_due(&self, past: u64) -> bool {
        self.value.load(Ordering::SeqCst) > past || self.closed.load(Ordering::SeqCst)
    }

    fn wake(&self, due: impl Fn(&Waiter) -> bool) {
        let mut waiting = self.lock();
        let mut at = 0;
        let mut woken = Vec::new();
        while at < waiting.entries.len() {
            if due(&waiting.entries[at]) {
                woken.push(waiting.entries.swap_remove(at).waker);
            } else {
                at += 1;
            }
        }
        self.waiters.store(waiting.entries.len(), Ordering::SeqCst);
        drop(waiting);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watermark({})", self.value())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Future of [`Watermark::beyond`].
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Beyond<'a> {
    mark: &'a Watermark,
    past: u64,
    /// The entry in the list, once there is one.
    id: Option<u64>,
}

impl Future for Beyond<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.mark.is_due(self.past) {
            return Poll::Ready(());
        }
        self.enter(context.waker());
        // Again, now that an advance must see us: it may have come between the look above and the entry.
        if self.mark.is_due(self.past) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Beyond<'_> {
    fn enter(&mut self, waker: &Waker) {
        let mut waiting = self.mark.lock();
        let present = self
            .id
            .and_then(|id| waiting.entries.iter_mut().find(|waiter| waiter.id == id));
        if let Some(waiter) = present {
            waiter.waker.clone_from(waker);
            return;
        }
        let id = waiting.next_id;
        waiting.next_id += 1;
        waiting.entries.push(Waiter {
            id,
            past: self.past,
            waker: waker.clone(),
        });
        self.mark
            .waiters
            .store(waiting.entries.len(), Ordering::SeqCst);
        drop(waiting);
        self.id = Some(id);
    }
}

impl Drop for Beyond<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut waiting = self.mark.lock();
        if let Some(at) = waiting.entries.iter().position(|waiter| waiter.id == id) {
            waiting.entries.swap_remove(at);
            self.mark
                .waiters
                .store(waiting.entries.len(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(wait: &mut Beyond<'_>, count: &Arc<Count>) -> bool {
        let waker = Waker::from(Arc::clone(count));
        Pin::new(wait)
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    }

    #[test]
    fn only_those_are_woken_whose_number_is_passed() {
        let mark = Watermark::new(5);
        let (near, far) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (mut to_six, mut to_nine) = (mark.beyond(5), mark.beyond(8));
        assert!(!poll(&mut to_six, &near) && !poll(&mut to_nine, &far));
        mark.advance(8);
        assert_eq!(
            (near.0.load(Ordering::SeqCst), far.0.load(Ordering::SeqCst)),
            (1, 0)
        );
        assert!(poll(&mut to_six, &near) && !poll(&mut to_nine, &far));
        mark.advance(9);
        assert!(poll(&mut to_nine, &far));
        assert!(poll(&mut mark.beyond(8), &near));
    }

    #[test]
    fn polling_twice_makes_one_entry_and_dropping_takes_it_out() {
        let mark = Watermark::new(0);
        let count = Arc::new(Count::default());
        let mut wait = mark.beyond(0);
        assert!(!poll(&mut wait, &count) && !poll(&mut wait, &count));
        assert_eq!(mark.waiters.load(Ordering::SeqCst), 1);
        drop(wait);
        assert_eq!(mark.waiters.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn closing_ends_every_wait() {
        let mark = Watermark::new(0);
        let count = Arc::new(Count::default());
        let mut wait = mark.beyond(100);
        assert!(!poll(&mut wait, &count));
        mark.close();
        assert!(poll(&mut wait, &count) && poll(&mut mark.beyond(7), &count));
        assert!(!mark.wait_blocking(1, None));
    }

    #[test]
    #[should_panic(expected = "went back from 3 to 2")]
    fn going_back_is_a_bug() {
        Watermark::new(3).advance(2);
    }

    #[test]
    fn a_thread_waits_for_another() {
        let mark = Watermark::new(0);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| mark.wait_blocking(999, None));
            (1..=1000).for_each(|to| mark.advance(to));
            assert!(waiter.join().unwrap());
        });
        assert!(!mark.wait_blocking(1000, Some(Instant::now() + Duration::from_millis(1))));
    }
}
