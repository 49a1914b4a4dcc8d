//! A slave finds its master, makes sure that its own log is a copy of the master's, and agrees on a link.
//!
//! All of that goes over the master's main port, and is asked again before each link: 46001 to a Gantry, which gives an
//! invitation and says where its log is; 28 to Apache's broker, which says the latter. Whether the logs are the same, 33
//! tells record by record (`compare`). What is shipped then is the business of [`gantry_replication::Follower`].

pub mod compare;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use gantry_message::{Epoch, LogOffset, Millis};
use gantry_net::client::{Connection, Options, Reply};
use gantry_replication::{Follower, Following, Misfit, Patience, Plan, TOKEN_LEN, Token};
use gantry_service::Failure;
use gantry_store::{Cut, Store};
use gantry_wire::{
    HeaderEncode,
    bodies::{HaStatus, KvTable},
    codes::{request, response},
    frame::FieldWriter,
    headers::{HaLink, HaLinkAnswer, ViewMessage},
};
use tokio::{runtime::Handle, sync::watch};

use crate::{config::BrokerConfig, live::LiveConfig, registration::Registration, seats::Seats};
use compare::{Theirs, Verdict, compare};

/// How long the master may take to answer a question.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// The slave's side of replication in a broker.
pub struct Follow {
    follower: Follower,
    misfit: watch::Receiver<Option<Misfit>>,
}

/// What finding out where to go on needs.
struct Scout {
    runtime: Handle,
    live: Arc<LiveConfig>,
    store: Arc<Store>,
    registration: Arc<Registration>,
    seats: Arc<Seats>,
}

/// What the master says of itself.
struct Found {
    theirs: Theirs,
    segment_size: Option<u64>,
    invitation: Option<Token>,
    epoch: Epoch,
    /// Where its log has something in place of what was lost.
    made_up: Vec<LogOffset>,
}

impl Follow {
    /// Starts to follow. Must be called on the control runtime.
    pub fn start(
        live: Arc<LiveConfig>,
        store: Arc<Store>,
        registration: Arc<Registration>,
        seats: Arc<Seats>,
    ) -> Result<Follow, Failure> {
        let config = live.now();
        let following = Following {
            patience: Patience {
                heartbeat: Duration::from_millis(config.store.ha_send_heartbeat_interval),
                silence: Duration::from_millis(config.store.ha_housekeeping_interval),
            },
            syncs: config.store.slave_ack_after_flush,
        };
        let scout = Scout {
            runtime: Handle::current(),
            live,
            store: store.clone(),
            registration,
            seats: seats.clone(),
        };
        let (wanted, misfit) = watch::channel(None);
        let follower = Follower::start(
            store,
            following,
            move || scout.plan(),
            move |misfit| {
                wanted.send_replace(Some(misfit));
            },
        )
        .map_err(|error| Failure::other(format!("the thread that follows the master: {error}")))?;
        seats.lead(follower.view());
        Ok(Follow { follower, misfit })
    }

    /// What it does.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Resolves when the log has an end that the master's has not: the store must be closed and cut.
    pub fn misfit(&self) -> impl Future<Output = Misfit> + use<> {
        let mut misfit = self.misfit.clone();
        async move {
            let found = misfit.wait_for(Option::is_some).await;
            match found.map(|misfit| misfit.clone()) {
                Ok(Some(misfit)) => misfit,
                // It ended without asking for that.
                _ => std::future::pending().await,
            }
        }
    }

    /// Ends the link.
    pub async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || self.follower.stop());
        if let Err(error) = stopped.await {
            tracing::error!(%error, "the follower ended badly");
        }
    }
}

impl Scout {
    /// What to do now. Runs on the follower's thread and waits for answers.
    fn plan(&self) -> Plan {
        let config = self.live.now();
        self.find(&config).unwrap_or_else(Plan::Wait)
    }

    fn find(&self, config: &BrokerConfig) -> Result<Plan, String> {
        let (master, ha) = self.addresses(config)?;
        let ask = async {
            let options = Options {
                connect_timeout: ASK_TIMEOUT,
                ..Options::default()
            };
            Connection::connect(&master, &options).await
        };
        let connection = self
            .runtime
            .block_on(ask)
            .map_err(|error| format!("cannot connect to the master at {master}: {error}"))?;
        let asked = Master {
            scout: self,
            address: &master,
            connection: &connection,
        };
        let found = asked.found(config)?;
        self.seats
            .follow(found.epoch, &format!("the master at {master}"))
            .map_err(|error| format!("{master}: {error}"))?;
        let (ours, size) = (self.store.max_offset(), self.store.segment_size());
        if let Some(theirs) = found.segment_size.filter(|&theirs| theirs != size) {
            return Err(format!(
                "the master's segments have {theirs} bytes, ours {size}: mappedFileSizeCommitLog must be the same"
            ));
        }
        let verdict = compare(&*self.store, found.theirs, &found.made_up, |at| {
            asked.has_same(at)
        })?;
        let Theirs { min, end } = found.theirs;
        let why = |what: &str| {
            format!("{what} (ours ends at {ours}, that of {master} is {min} to {end})")
        };
        // All of it, or what is behind a record.
        let cut = |behind: Option<(LogOffset, (LogOffset, Millis))>, why| {
            let cut = Cut {
                from: behind.map_or(LogOffset(0), |(from, _)| from),
                to: ours,
                last: behind.map(|(_, last)| last),
                why,
            };
            Plan::Cut(Misfit {
                cut,
                epoch: found.epoch,
            })
        };
        match verdict {
            Verdict::GoOn => {
                self.store
                    .note_made_up(&found.made_up)
                    .map_err(|error| error.to_string())?;
                let from = if ours.0 == 0 && found.invitation.is_some() {
                    min
                } else {
                    ours
                };
                Ok(Plan::Follow {
                    address: resolve(&ha)?,
                    master,
                    from,
                    invitation: found.invitation,
                    epoch: found.epoch,
                })
            }
            Verdict::CutAt(last) => Ok(cut(
                Some((last.end, (last.start, last.time))),
                why("the master's log goes on otherwise"),
            )),
            Verdict::TooOld => Ok(cut(None, why("the master has deleted what comes next"))),
            Verdict::BeginAnew => Ok(cut(None, why("the beginning of the log was lost"))),
            Verdict::Strangers => Err(why(
                "the logs have nothing in common; nothing of ours is given up: stop that master and promote this slave if it has \
                 what the master lost, or move its store away to begin anew",
            )),
        }
    }

    /// The master's main port and HA port.
    fn addresses(&self, config: &BrokerConfig) -> Result<(String, String), String> {
        if let Some(ha) = config.store.ha_master_address.as_deref()
            && HA_ADDRESS_LEN_MIN <= ha.len()
        {
            // RocketMQ's main port is the one below, always.
            let main = ha.rsplit_once(':').and_then(|(host, port)| {
                Some(format!(
                    "{host}:{}",
                    port.parse::<u16>().ok()?.checked_sub(1)?
                ))
            });
            let main = main.ok_or_else(|| format!("haMasterAddress: {ha} is no host:port"))?;
            return Ok((main, ha.to_owned()));
        }
        let master = self.registration.master();
        match (master.address, master.ha_address) {
            (Some(main), Some(ha)) if !main.is_empty() && !ha.is_empty() => Ok((main, ha)),
            _ => Err(format!(
                "no name server knows a master of {}",
                config.broker_name
            )),
        }
    }
}

/// A shorter haMasterAddress counts as none, as in RocketMQ.
const HA_ADDRESS_LEN_MIN: usize = 6;

/// A master that is asked.
struct Master<'a> {
    scout: &'a Scout,
    address: &'a str,
    connection: &'a Connection,
}

impl Master<'_> {
    fn call(&self, code: i32, header: Option<&dyn HeaderEncode>) -> Result<Reply, String> {
        let write = |fields: &mut FieldWriter<'_>| {
            if let Some(header) = header {
                header.encode(fields);
            }
        };
        let call = self.connection.call(code, write, [], ASK_TIMEOUT);
        self.scout
            .runtime
            .block_on(call)
            .map_err(|error| error.to_string())
    }

    /// Asks a Gantry for a link, and who is none what it says to everybody.
    fn found(&self, config: &BrokerConfig) -> Result<Found, String> {
        let epoch = self.scout.seats.epoch().to_string();
        let header = HaLink {
            broker_name: &config.broker_name,
            broker_id: i64::try_from(config.broker_id).unwrap_or(i64::MAX),
            segment_size: i64::try_from(self.scout.store.segment_size()).unwrap_or(i64::MAX),
            epoch: Some(&epoch),
        };
        let reply = self.call(request::HA_LINK, Some(&header))?;
        match reply.code {
            response::SUCCESS => self.invited(&reply),
            response::REQUEST_CODE_NOT_SUPPORTED => self.figures(),
            code => {
                let heard = self.hear_of_another();
                let unheard = heard.err().map(|why| format!("; {why}"));
                Err(format!(
                    "the master at {} refuses a link with code {code}: {}{}",
                    self.address,
                    reply.remark.unwrap_or_default(),
                    unheard.unwrap_or_default()
                ))
            }
        }
    }

    /// A master that gives nobody its log may have been replaced, and knows since which promotion: who hears of that asks the
    /// name servers at once.
    fn hear_of_another(&self) -> Result<(), String> {
        let reply = self.call(request::HA_STATUS, None)?;
        if reply.code != response::SUCCESS {
            // Who is told nothing has been told why already.
            return Ok(());
        }
        let status = HaStatus::parse(&reply.body).map_err(|error| error.to_string());
        let Some(epoch) = status?.epoch else {
            return Ok(());
        };
        let epoch = epoch.parse::<Epoch>().map_err(|error| error.to_string())?;
        let by = format!("the master at {}", self.address);
        let heard = self.scout.seats.hear(epoch, &by);
        heard.map_err(|error| format!("{by}: {error}"))
    }

    fn invited(&self, reply: &Reply) -> Result<Found, String> {
        let answer: HaLinkAnswer<'_> = reply.fields.header().map_err(|error| error.to_string())?;
        let offset = |field: &str, value: i64| {
            u64::try_from(value)
                .map(LogOffset)
                .map_err(|_| format!("the master at {} says {field}={value}", self.address))
        };
        let epoch = answer.epoch.unwrap_or("0.0").parse::<Epoch>();
        let epoch = epoch.map_err(|error| format!("the master at {}: {error}", self.address))?;
        let token = token_of(answer.token)
            .ok_or_else(|| format!("the master at {} gives a broken invitation", self.address))?;
        Ok(Found {
            theirs: Theirs {
                min: offset("minOffset", answer.min_offset)?,
                end: offset("maxOffset", answer.max_offset)?,
            },
            segment_size: Some(offset("segmentSize", answer.segment_size)?.0),
            invitation: Some(token),
            epoch,
            made_up: places(answer.made_up.unwrap_or_default()),
        })
    }

    /// What Apache's broker tells.
    fn figures(&self) -> Result<Found, String> {
        let reply = self.call(request::GET_BROKER_RUNTIME_INFO, None)?;
        let table = KvTable::parse(&reply.body).map_err(|error| error.to_string())?;
        let offset = |key: &str| {
            let value = table.table.get(key);
            let number = value.and_then(|value| value.parse().ok());
            number.map(LogOffset).ok_or_else(|| {
                format!(
                    "the master at {} does not say its {key}: {value:?}",
                    self.address
                )
            })
        };
        // -1: no file yet.
        let min = offset("commitLogMinOffset").unwrap_or_default();
        Ok(Found {
            theirs: Theirs {
                min,
                end: offset("commitLogMaxOffset")?,
            },
            segment_size: None,
            invitation: None,
            // Nobody promotes it.
            epoch: Epoch::NONE,
            made_up: Vec::new(),
        })
    }

    /// Whether the master has the record that we have at this place.
    fn has_same(&self, at: LogOffset) -> Result<bool, String> {
        let header = ViewMessage {
            offset: i64::try_from(at.0).unwrap_or(i64::MAX),
        };
        let ours = self.scout.store.record_at(at);
        let ours = ours.map_err(|error| error.to_string())?;
        let reply = self.call(request::VIEW_MESSAGE_BY_ID, Some(&header))?;
        let theirs = record_in(reply)
            .map_err(|why| format!("the master at {} does not show {at}: {why}", self.address))?;
        // Where recovery closed a segment, there is none: on neither side, if it was copied so.
        Ok(ours == theirs)
    }
}

/// The record that was asked for (33), or that there is none. A failure is neither: nothing may be given up for it.
fn record_in(reply: Reply) -> Result<Option<Bytes>, String> {
    let remark = reply.remark.unwrap_or_default();
    match reply.code {
        response::SUCCESS => Ok(Some(reply.body)),
        code if response::is_no_record(code, &remark) => Ok(None),
        code => Err(format!("answer {code} {remark}")),
    }
}

/// Numbers with `,` between them; what is none is left out.
fn places(text: &str) -> Vec<LogOffset> {
    let numbers = text.split(',').filter_map(|number| number.parse().ok());
    numbers.map(LogOffset).collect()
}

fn token_of(text: &str) -> Option<Token> {
    let mut bytes = [0; TOKEN_LEN];
    if text.len() != 2 * TOKEN_LEN || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(Token::new(bytes))
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let found = address.to_socket_addrs().map(|mut found| found.next());
    match found {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(format!("the master's HA address {address} has no address")),
        Err(error) => Err(format!("the master's HA address {address}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slave gives up its end for a record that the master has not, and for nothing else.
    #[test]
    fn a_master_that_fails_to_show_a_record_need_not_lack_it() {
        let reply = |code, remark: &str| Reply {
            code,
            remark: Some(remark.to_owned()),
            fields: Default::default(),
            body: Bytes::from_static(b"record"),
            version: 0,
        };
        let shown = record_in(reply(response::SUCCESS, ""));
        assert_eq!(shown, Ok(Some(Bytes::from_static(b"record"))));
        let lacking = "can not find message by the offset, 17";
        assert_eq!(record_in(reply(response::SYSTEM_ERROR, lacking)), Ok(None));
        for (code, remark) in [
            (response::SYSTEM_ERROR, "the disk is gone"),
            (response::SYSTEM_BUSY, lacking),
            (response::NO_PERMISSION, ""),
        ] {
            let failed = record_in(reply(code, remark));
            assert!(failed.is_err(), "{code} {remark}: {failed:?}");
        }
    }

    #[test]
    fn an_invitation_is_32_hexadecimal_digits() {
        let text = "000102030405060708090a0b0c0d0eff";
        let token = token_of(text).unwrap();
        assert_eq!(token.bytes()[15], 255);
        for broken in ["", "00", &text[1..], "g00102030405060708090a0b0c0d0eff"] {
            assert_eq!(token_of(broken), None, "{broken}");
        }
    }
}
