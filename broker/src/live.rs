//! The configuration as it runs: what was loaded at start, with the run-time changes that administrators made.
//!
//! Readers take a snapshot; whoever needs it per message keeps one and asks only whether it is still the newest.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use crate::config::BrokerConfig;

/// Shared by everything that follows settings with a live effect.
pub struct LiveConfig {
    current: RwLock<Arc<BrokerConfig>>,
    generation: AtomicU64,
    followers: Mutex<Vec<Follower>>,
}

/// Is told of every changed configuration.
type Follower = Box<dyn Fn(&BrokerConfig) + Send + Sync>;

impl LiveConfig {
    /// Starts with what was loaded.
    pub fn new(config: BrokerConfig) -> Arc<LiveConfig> {
        Arc::new(LiveConfig {
            current: RwLock::new(Arc::new(config)),
            generation: AtomicU64::new(0),
            followers: Mutex::default(),
        })
    }

    /// The configuration at this moment.
    pub fn now(&self) -> Arc<BrokerConfig> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes with every change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes a changed configuration the one that runs.
    pub fn replace(&self, config: BrokerConfig) {
        self.change(|_, _| Some(config));
    }

    /// Makes what `change` makes of the running configuration, which has that generation, the one that runs: no other
    /// change comes between. Returns whether it made anything.
    pub fn change(&self, change: impl FnOnce(&BrokerConfig, u64) -> Option<BrokerConfig>) -> bool {
        // Held until all are told, so that the last change is also the last that anybody hears of.
        let followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(config) = change(&self.now(), self.generation()) else {
            return false;
        };
        let config = Arc::new(config);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
        self.generation.fetch_add(1, Ordering::AcqRel);
        followers.iter().for_each(|follower| follower(&config));
        true
    }

    /// Tells `follower` of every change from now on: for parts that do not look here, such as the store.
    pub fn follow(&self, follower: impl Fn(&BrokerConfig) + Send + Sync + 'static) {
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        followers.push(Box::new(follower));
    }
}

/// A snapshot that is renewed only when there is a newer one; one per thread.
pub struct Snapshot {
    live: Arc<LiveConfig>,
    generation: u64,
    config: Arc<BrokerConfig>,
}

impl Snapshot {
    /// Takes the first snapshot.
    pub fn of(live: &Arc<LiveConfig>) -> Snapshot {
        Snapshot {
            generation: live.generation(),
            config: live.now(),
            live: live.clone(),
        }
    }

    /// The configuration at this moment.
    pub fn get(&mut self) -> &Arc<BrokerConfig> {
        let generation = self.live.generation();
        if generation != self.generation {
            self.config = self.live.now();
            self.generation = generation;
        }
        &self.config
    }
}
