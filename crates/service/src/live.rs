//! A value as it is now, for those who must see changes made while the daemon runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A value that is replaced as a whole. Readers take a snapshot and keep it for as long as one request.
#[derive(Debug)]
pub struct Live<C> {
    current: RwLock<Arc<C>>,
    generation: AtomicU64,
    /// Held while a change is worked out, so that two changes cannot undo each other.
    changing: Mutex<()>,
}

impl<C> Live<C> {
    /// Starts with this value.
    pub fn new(value: C) -> Self {
        Self {
            current: RwLock::new(Arc::new(value)),
            generation: AtomicU64::new(0),
            changing: Mutex::new(()),
        }
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<C> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Grows with every change: a hot path may keep a snapshot while this stays the same.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Works out a new value and puts it in place; an error leaves the old one. Changes happen one after the other,
    /// so `work` may write a file, but must not call `change` again.
    pub fn change<T, E>(&self, work: impl FnOnce(&C) -> Result<(C, T), E>) -> Result<T, E> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, outcome) = work(&self.get())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::Live;

    #[test]
    fn a_refused_change_leaves_the_value_and_its_generation() {
        let live = Live::new(1);
        assert_eq!(
            live.change(|value| Ok::<_, ()>((value + 1, "done"))),
            Ok("done")
        );
        assert_eq!(live.change(|_| Err::<(i32, ()), _>("no")), Err("no"));
        assert_eq!((*live.get(), live.generation()), (2, 1));
    }
}
