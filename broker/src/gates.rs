//! Checks that concern every request, before anything of it is looked at: which listener may serve it, and who may
//! administer the broker.
//!
//! It decides by code and address alone; what a handler must know to decide is checked there.

use std::{net::IpAddr, sync::Arc};

use gantry_net::Peer;
use gantry_service::audit::Effect;
use gantry_wire::codes::request;

use crate::{live::LiveConfig, refusal::Refusal, replicas::Door};

/// Listeners in the order in which the broker opens them.
pub mod listener {
    /// `listenPort`.
    pub const MAIN: usize = 0;
    /// `listenPort - 2`: everything but pulls (wire.md T11).
    pub const VIP: usize = 1;
}

/// Who may ask for what.
pub struct Gates {
    /// `adminOpen` says whether administration is open to every address (decision 18).
    pub config: Arc<LiveConfig>,
    /// Who is a slave of ours.
    pub door: Arc<Door>,
}

impl Gates {
    /// Refuses a request that its sender may not make.
    pub fn pass(&self, peer: &Peer, code: i32) -> Result<(), Refusal> {
        let admin_open = || self.config.now().server.admin_open;
        if may_ask(peer.address().ip(), code) || admin_open() {
            return Ok(());
        }
        Err(Refusal::admin_closed(code, peer.address()))
    }

    /// Refuses a copy of a table to who is no slave of ours. May ask name servers.
    pub async fn pass_slave(&self, peer: &Peer, code: i32) -> Result<(), Refusal> {
        match self
            .door
            .is_trusted(peer.address().ip().to_canonical())
            .await
        {
            true => Ok(()),
            false => Err(Refusal::admin_closed(code, peer.address())),
        }
    }

    /// Whether the listener that accepted this peer serves pulls.
    pub fn may_pull(&self, peer: &Peer) -> bool {
        peer.listener() == listener::MAIN
    }
}

/// Whether that address may ask for this where administration is closed. Who gets a link is decided where it is made.
fn may_ask(address: IpAddr, code: i32) -> bool {
    is_client_request(code) || code == request::HA_LINK || address.is_loopback()
}

/// Whether a slave may ask for this even where administration is closed (decision 19): it is what slaves copy from their
/// master. Whether it is one, [`Gates::pass_slave`] finds out.
pub fn concerns_slaves(code: i32) -> bool {
    use request::*;
    matches!(
        code,
        GET_ALL_TOPIC_CONFIG
            | GET_ALL_CONSUMER_OFFSET
            | GET_ALL_DELAY_OFFSET
            | GET_ALL_SUBSCRIPTIONGROUP_CONFIG
            | HA_STATUS
            // A slave takes its master's place: from its host, all of `mqadmin promote` works.
            | HOLD
            | TELL_EPOCH
    )
}

/// What a request does that is administration; nothing for what clients ask for.
pub fn administration(code: i32) -> Option<Effect> {
    use request::*;
    if is_client_request(code) {
        return None;
    }
    let looks = matches!(
        code,
        GET_BROKER_CONFIG
            | GET_BROKER_RUNTIME_INFO
            | GET_CONSUMER_CONNECTION_LIST
            | GET_PRODUCER_CONNECTION_LIST
            | GET_ALL_PRODUCER_INFO
            | GET_ALL_TOPIC_CONFIG
            | GET_ALL_SUBSCRIPTIONGROUP_CONFIG
            | GET_ALL_CONSUMER_OFFSET
            | GET_ALL_DELAY_OFFSET
            | GET_TOPIC_STATS_INFO
            | GET_SYSTEM_TOPIC_LIST_FROM_BROKER
            | GET_CONSUME_STATS
            | GET_BROKER_CONSUME_STATS
            | GET_CONSUMER_RUNNING_INFO
            | INVOKE_BROKER_TO_GET_CONSUMER_STATUS
            | QUERY_CONSUME_TIME_SPAN
            | QUERY_CORRECTION_OFFSET
            | QUERY_CONSUME_QUEUE
            | QUERY_TOPIC_CONSUME_BY_WHO
            | VIEW_BROKER_STATS_DATA
            | HA_STATUS
    );
    Some(if looks {
        Effect::Looks
    } else {
        Effect::Changes
    })
}

/// What producers and consumers ask for. Everything else is administration, codes that do not exist yet included.
fn is_client_request(code: i32) -> bool {
    use request::*;
    matches!(
        code,
        SEND_MESSAGE
            | SEND_MESSAGE_V2
            | SEND_BATCH_MESSAGE
            | SEND_REPLY_MESSAGE
            | SEND_REPLY_MESSAGE_V2
            | PULL_MESSAGE
            | LITE_PULL_MESSAGE
            | QUERY_MESSAGE
            | VIEW_MESSAGE_BY_ID
            | QUERY_CONSUMER_OFFSET
            | UPDATE_CONSUMER_OFFSET
            | SEARCH_OFFSET_BY_TIMESTAMP
            | GET_MAX_OFFSET
            | GET_MIN_OFFSET
            | GET_EARLIEST_MSG_STORETIME
            | HEART_BEAT
            | UNREGISTER_CLIENT
            | CONSUMER_SEND_MSG_BACK
            | END_TRANSACTION
            | GET_CONSUMER_LIST_BY_GROUP
            | LOCK_BATCH_MQ
            | UNLOCK_BATCH_MQ
            | CHECK_CLIENT_CONFIG
            | QUERY_ASSIGNMENT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_may_send_and_pull_and_a_slave_may_copy_tables() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 7]));
        for (code, everybody, slaves) in [
            (request::SEND_MESSAGE_V2, true, false),
            (request::PULL_MESSAGE, true, false),
            (request::HA_LINK, true, false),
            (request::GET_ALL_TOPIC_CONFIG, false, true),
            (request::GET_ALL_CONSUMER_OFFSET, false, true),
            (request::GET_ALL_DELAY_OFFSET, false, true),
            (request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, false, true),
            (request::UPDATE_BROKER_CONFIG, false, false),
            (request::GET_BROKER_CONFIG, false, false),
            (request::HA_STATUS, false, true),
            (request::SET_READ_ONLY, false, false),
            (request::HOLD, false, true),
            (request::TELL_EPOCH, false, true),
            (request::PROMOTE, false, false),
            (request::REJOIN, false, false),
            (-7, false, false),
        ] {
            assert_eq!(may_ask(there, code), everybody, "{code}");
            assert_eq!(concerns_slaves(code), slaves, "{code}");
            assert!(may_ask(here, code), "{code}");
        }
    }

    #[test]
    fn what_is_not_known_to_look_only_changes() {
        for (code, effect) in [
            (request::SEND_MESSAGE_V2, None),
            (request::HEART_BEAT, None),
            (request::GET_BROKER_CONFIG, Some(Effect::Looks)),
            (request::UPDATE_BROKER_CONFIG, Some(Effect::Changes)),
            (request::DELETE_TOPIC_IN_BROKER, Some(Effect::Changes)),
            (-7, Some(Effect::Changes)),
        ] {
            assert_eq!(administration(code), effect, "{code}");
        }
    }

    #[test]
    fn what_changes_or_shows_the_broker_is_administration() {
        for code in request::ALL.iter().map(|(code, _)| *code) {
            let name = request::name(code);
            let changes = [
                "UPDATE_",
                "DELETE_",
                "CLEAN_",
                "CLONE_",
                "INVOKE_",
                "RESET_",
                "GET_BROKER",
                "GET_ALL",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix));
            if changes && code != request::UPDATE_CONSUMER_OFFSET {
                assert!(!is_client_request(code), "{name}");
            }
        }
        for code in [
            request::HA_STATUS,
            request::SET_READ_ONLY,
            request::PROMOTE,
            request::TELL_EPOCH,
            request::REJOIN,
            request::HOLD,
        ] {
            assert!(!is_client_request(code), "{}", request::name(code));
        }
        assert!(
            !is_client_request(-7),
            "an unknown code is no client request"
        );
    }
}
