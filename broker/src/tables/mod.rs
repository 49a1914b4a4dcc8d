//! What the broker knows besides messages: topics, subscription groups, consumer offsets; each a map and a JSON file.
//!
//! Topics and groups change rarely and are durable before they are visible (`table`); offsets change all the time and
//! are written every few seconds (`offsets`). Files have the names and the shape that Java's broker gives them, and are
//! found where it looks for them, so that either can start on the other's store.
//! Nothing here knows who is connected (`clients`) or whom to tell about a change (`registration` watches the tables).

mod file;
mod groups;
mod offsets;
mod table;
#[cfg(test)]
mod tests;
mod topics;

pub(crate) use file::JsonFile;
pub use file::TableError;
pub use groups::{Groups, is_system_group};
pub use offsets::{CommitError, Offsets, Positions};
pub use table::{Entries, Snapshot};
pub use topics::Topics;

use gantry_message::Millis;
use gantry_wire::bodies::TopicConfig;

/// Something a request needs that is not there but may be made. Deciding so is cheap and done anywhere; making it writes
/// a file and is done on a thread that may block. Then the request is looked at again.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// A topic, as it will look.
    Topic(TopicConfig),
    /// A subscription group with default settings.
    Group(String),
}

impl Missing {
    /// Makes it, unless somebody else just did. Returns when it is on disk.
    pub fn create(&self, topics: &Topics, groups: &Groups, now: Millis) -> Result<(), TableError> {
        match self {
            Missing::Topic(config) => topics.create(config.clone(), now).map(drop),
            Missing::Group(name) => groups.create(name, now).map(drop),
        }
    }
}
