//! What administrators ask of a broker, one file a noun: mqadmin, consoles and slaves are the peers.
//!
//! Each struct holds the parts its requests use; which code goes where stands in `dispatch`, who may ask at all in
//! `gates`. Methods that touch files say "Blocks" and run where that is allowed.
//! [`Identity`] is what many answers carry: who this broker is.

pub mod cleaning;
pub mod config;
pub mod connections;
pub mod copies;
pub mod figures;
pub mod groups;
pub mod link;
pub mod positions;
pub mod progress;
pub mod queues;
pub mod relay;
pub mod runtime;
pub mod seats;
pub mod topics;

use std::net::SocketAddr;
use std::sync::Arc;

use gantry_message::{QueueId, QueueOffset};
use gantry_wire::bodies::MessageQueue;

use crate::config::BrokerRole;
use crate::live::LiveConfig;
use crate::refusal::Refusal;

/// Most queues a topic may be given; a table with a row for each still fits into one answer.
const QUEUES_MAX: i32 = 65_535;

/// Who this broker is, as its answers say it.
pub struct Identity {
    /// Its address as it is announced, `brokerIP1:listenPort`.
    pub address: SocketAddr,
    /// `brokerName`.
    pub name: String,
    /// Master or slave.
    pub role: BrokerRole,
    /// Configuration as it runs.
    pub live: Arc<LiveConfig>,
}

impl Identity {
    /// Tables are changed on masters only.
    fn check_writable(&self) -> Result<(), Refusal> {
        if self.role == BrokerRole::Slave {
            Err(Refusal::slave_is_read_only())
        } else {
            Ok(())
        }
    }

    /// A queue of this broker, as bodies name it.
    fn queue(&self, topic: &str, id: QueueId) -> MessageQueue {
        MessageQueue {
            broker_name: self.name.clone(),
            queue_id: i32::try_from(id.0).unwrap_or(i32::MAX),
            topic: topic.to_owned(),
        }
    }
}

/// The queues of a topic with this many; a damaged table may say anything.
fn queue_ids(count: i32) -> impl Iterator<Item = QueueId> {
    (0..u32::try_from(count.min(QUEUES_MAX)).unwrap_or(0)).map(QueueId)
}

/// An offset as it travels.
fn sent(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
