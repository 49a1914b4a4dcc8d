//! A value that is replaced as a whole: the settings and the key-value table.
//!
//! Readers take a snapshot and keep it for the length of one request; they never wait for a change that is being
//! worked out, which may include waiting for the disk.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The present value.
#[derive(Debug)]
pub struct Live<T> {
    current: RwLock<Arc<T>>,
    /// Held while a change is worked out, so that two changes cannot undo each other.
    changing: Mutex<()>,
}

impl<T> Live<T> {
    /// Starts with this value.
    pub fn new(value: T) -> Self {
        Self {
            current: RwLock::new(Arc::new(value)),
            changing: Mutex::new(()),
        }
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Works out a new value and puts it in place; an error leaves the old one. Changes happen one after the other.
    pub fn change<D, E>(&self, work: impl FnOnce(&T) -> Result<(T, D), E>) -> Result<D, E> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, done) = work(&self.get())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::Live;

    #[test]
    fn a_refused_change_leaves_the_value() {
        let live = Live::new(1);
        assert_eq!(
            live.change(|value| Ok::<_, ()>((value + 1, "done"))),
            Ok("done")
        );
        assert_eq!(live.change(|_| Err::<(i32, ()), _>("no")), Err("no"));
        assert_eq!(*live.get(), 2);
    }
}
