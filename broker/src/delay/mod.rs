//! Delayed messages: each waits in the queue of its level and is stored again under its real topic when it is due.
//!
//! Levels and what a send does with them: [`Levels`], [`postpone`].

mod levels;

pub use levels::{LEVELS_MAX, Level, Levels, LevelsError, Postponed, postpone};
