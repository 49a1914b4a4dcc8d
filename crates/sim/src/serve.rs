//! What a broker does with requests, and with the links of its slaves.

use std::net::IpAddr;

use gantry_broker::follow::compare::Theirs;
use gantry_message::{Millis, QueueId, QueueOffset, Record, SysFlag};
use gantry_replication::{Copies, Part, TOKEN_LEN, Wire};
use gantry_store::{Outcome, Tags};
use gantry_wire::codes::response;

use crate::TOPIC;
use crate::master::MasterSide;
use crate::net::{Reply, Request, Status};
use crate::node::flat;
use crate::slave::Follow;
use crate::truth::{Checked, Violation};
use crate::world::{World, event};

pub(crate) fn ip(node: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(node + 1).unwrap_or(255)])
}

impl World {
    /// What came, in the order in which it came.
    pub(crate) fn take_requests(&mut self, node: usize) -> Checked {
        let Some(broker) = &mut self.nodes[node].broker else {
            return Ok(());
        };
        for (from, request) in std::mem::take(&mut broker.inbox) {
            match request {
                Request::Send { id, queue, size } => {
                    self.take_send((from, node), (id, queue, size))?
                }
                other => {
                    // Whoever asked does not wait any more.
                    let _ = self.answer(from, node, other);
                    self.violated()?;
                }
            }
        }
        Ok(())
    }

    fn take_send(
        &mut self,
        (client, node): (usize, usize),
        (id, queue, size): (u32, u32, usize),
    ) -> Checked {
        let (now, sync_flush) = (self.now(), self.setup.flush_sync);
        let disk = self.nodes[node].disk.clone();
        let Some(broker) = &mut self.nodes[node].broker else {
            return Ok(());
        };
        let Some(master) = &mut broker.master else {
            self.refused(client, id);
            return Ok(());
        };
        let store = &broker.store;
        if master
            .acks
            .admit(&self.settings, store.max_offset())
            .is_err()
        {
            self.refused(client, id);
            return Ok(());
        }
        let mut body = id.to_be_bytes().to_vec();
        body.resize(4 + size, id.to_be_bytes()[3]);
        let record = Record {
            topic: TOPIC,
            queue_id: QueueId(queue),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: Millis(1),
            born_host: "10.0.0.9:5555".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: &body,
            properties: b"",
        };
        let queue = store.queue(TOPIC, QueueId(queue));
        let Outcome::Stored { offset, end, .. } = store.append(&queue, &record, Tags::Code(0))
        else {
            self.refused(client, id);
            return Ok(());
        };
        if disk.is_stopped() {
            // It dies of it, and whoever sent is told nothing.
            return Ok(());
        }
        let epoch = broker.seats.epoch();
        event!(self, "{node} stores message {id} at {offset} to {end}");
        self.truth.appended(node, store)?;
        self.truth.writes(node, epoch)?;
        let settings = (&self.settings, sync_flush);
        if sync_flush || master.acks.is_sync_master() {
            master.stored((id, client), (offset, end), settings, now);
            return Ok(());
        }
        self.truth
            .acked((node, store), (id, offset.0, end.0), None)?;
        self.answered(client, id, response::SUCCESS);
        Ok(())
    }

    fn refused(&mut self, client: usize, id: u32) {
        event!(self, "message {id} is refused");
        self.answered(client, id, response::SYSTEM_ERROR);
    }

    /// Answers what can be answered, sends what slaves lack, leaves those who are silent.
    pub(crate) fn serve(&mut self, node: usize) -> Checked {
        self.answer_sends(node)?;
        let (now, is_calm) = (self.now(), self.is_calm);
        let Some(master) = self.nodes[node]
            .broker
            .as_ref()
            .and_then(|broker| broker.master.as_ref())
        else {
            return Ok(());
        };
        for link in master.numbers() {
            if !is_calm && self.random.chance(1, 4) {
                continue;
            }
            let len_max = 1 + self.random.below(1_500);
            let Some(broker) = &mut self.nodes[node].broker else {
                return Ok(());
            };
            let Some(master) = &mut broker.master else {
                return Ok(());
            };
            let len_max = u32::try_from(len_max).unwrap_or(1);
            match master.next_block(link, &broker.store, len_max, now) {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    if let Some(on) = self.net.links.get_mut(&link) {
                        on.to_slave.extend(bytes);
                    }
                }
                Err(why) => {
                    event!(self, "{node} leaves link {link}: {why}");
                    self.leave_at_master(node, link);
                }
            }
        }
        Ok(())
    }

    fn answer_sends(&mut self, node: usize) -> Checked {
        let at = (self.now(), self.broken);
        if self.nodes[node].disk.is_stopped() {
            // It dies of it, and whoever sent is told nothing.
            return Ok(());
        }
        let Some(broker) = &mut self.nodes[node].broker else {
            return Ok(());
        };
        let Some(master) = &mut broker.master else {
            return Ok(());
        };
        let copies = usize::try_from(self.setup.in_sync).unwrap_or(1);
        for answer in master.answers(&broker.store, &self.settings, at) {
            let (id, end) = (answer.stored.id, answer.stored.waits.end.0);
            event!(
                self,
                "{node} answers message {id} with {} (copied: {})",
                answer.code,
                answer.is_copied
            );
            if answer.code == response::SUCCESS {
                let flushed = broker.store.flushed().value();
                if answer.stored.waits.sync_by.is_some() && flushed < end {
                    return Err(Violation(format!(
                        "message {id} ends at {end}, is answered as synced, and the log is synced up to {flushed}"
                    )));
                }
                // On Apache's wire an empty slave begins with the newest segment, and counts for what was before it.
                let newest = broker.store.segment_of(broker.store.max_offset()).0;
                let is_told = self.setup.wire == Wire::Checked || newest <= answer.stored.start;
                let promised =
                    (answer.is_copied && is_told).then_some((copies, self.setup.after_flush));
                self.truth.acked(
                    (node, &broker.store),
                    (id, answer.stored.start, end),
                    promised,
                )?;
            }
            let clients = &mut self.clients[answer.stored.client - crate::net::CLIENTS];
            clients.waits.remove(&id);
            if answer.code == response::SUCCESS {
                self.counts.acked += 1;
            }
            if let Some((probe, code)) = &mut self.probe
                && *probe == id
            {
                *code = Some(answer.code);
            }
        }
        Ok(())
    }

    pub(crate) fn leave_at_master(&mut self, node: usize, link: u32) {
        if let Some(on) = self.net.links.get_mut(&link) {
            on.is_open_at_master = false;
            on.to_master.clear();
        }
        let broken = self.broken;
        let broker = self.nodes[node].broker.as_mut();
        if let Some(master) = broker.and_then(|broker| broker.master.as_mut()) {
            master.drop_link(link);
            master.recount(broken);
        }
    }

    /// Answers a request that is no send; a violation is kept for [`World::violated`].
    pub(crate) fn answer(&mut self, from: usize, node: usize, request: Request) -> Option<Reply> {
        match request {
            Request::Send { .. } => {
                let broker = self.nodes[node].broker.as_mut()?;
                broker.inbox.push((from, request));
                None
            }
            Request::Push {
                group,
                queue,
                seen,
                offset,
            } => {
                let broker = self.nodes[node].broker.as_ref()?;
                let place = (group.as_str(), TOPIC, QueueId(queue));
                let taken = broker.offsets.exchange(
                    place,
                    seen.map(QueueOffset),
                    Some(QueueOffset(offset)),
                );
                event!(
                    self,
                    "{node} is told that {group} is at {offset} of queue {queue}, and takes it: {taken:?}"
                );
                match taken {
                    Ok(true) => Some(Reply::Done),
                    Ok(false) => Some(Reply::Changed),
                    Err(error) => Some(Reply::Refused(error.to_string())),
                }
            }
            Request::Commit {
                group,
                queue,
                offset,
            } => {
                let broker = self.nodes[node].broker.as_ref()?;
                if broker.part == Part::Fenced {
                    return Some(Reply::Refused("fenced".into()));
                }
                let done =
                    broker
                        .offsets
                        .commit(&group, TOPIC, QueueId(queue), QueueOffset(offset));
                event!(
                    self,
                    "{node} notes that {group} is at {offset} of queue {queue}"
                );
                done.ok().map(|_| Reply::Done)
            }
            Request::HaLink { id, epoch } => Some(self.invite((from, node), id, epoch)),
            Request::View { life, at } => {
                let one = &self.nodes[node];
                let broker = one.broker.as_ref()?;
                if one.life != life {
                    return Some(Reply::Refused("another process".into()));
                }
                match broker.store.record_at(at) {
                    Ok(record) => Some(Reply::Viewed(record)),
                    Err(error) => Some(Reply::Refused(error.to_string())),
                }
            }
            Request::Offsets => {
                let broker = self.nodes[node].broker.as_ref()?;
                let Ok(table) = broker.offsets.table_on_disk() else {
                    return Some(Reply::Refused("the disk".into()));
                };
                let table = table.offset_table;
                self.truth.offsets_written(node, &flat(&table));
                Some(Reply::Offsets(table))
            }
            Request::Status => self.status(node).map(Box::new).map(Reply::Status),
            Request::Hold(ms) => {
                let until = self.now_ms + ms;
                let broker = self.nodes[node].broker.as_mut()?;
                match ms {
                    0 => broker.seats.let_go(),
                    _ => broker.holds.push((broker.seats.hold_on(), until)),
                }
                let end = broker.seats.at_rest();
                event!(self, "{node} is held for {ms} ms; its log ends at {end}");
                Some(Reply::Ends(end.0))
            }
            Request::Tell(epoch) => {
                self.hear(node, epoch, "the administrator");
                let broker = self.nodes[node].broker.as_ref()?;
                if broker.seats.epoch() < epoch {
                    return Some(Reply::Refused("the disk".into()));
                }
                Some(Reply::Ends(broker.store.max_offset().0))
            }
            Request::Agree(epoch, seen) => {
                let broker = self.nodes[node].broker.as_ref()?;
                let agreed = broker.seats.agree(epoch, seen, "the administrator");
                // What is on a disk that stopped will be seen at the next start.
                if self.nodes[node].disk.is_stopped() {
                    return None;
                }
                let end = broker.store.max_offset();
                match agreed {
                    Ok(seat) => {
                        event!(
                            self,
                            "{node} agrees to promotion {epoch}, and is {}; its log ends at {end}",
                            seat.part.name()
                        );
                        self.obey(node);
                        Some(Reply::Ends(end.0))
                    }
                    Err(error) => Some(Reply::Refused(error.to_string())),
                }
            }
            Request::CouldPromote(epoch, copies) => {
                let broker = self.nodes[node].broker.as_ref()?;
                let could = broker
                    .seats
                    .could_promote(epoch, copies, "the administrator");
                if self.nodes[node].disk.is_stopped() {
                    return None;
                }
                Some(match could {
                    Ok(_) => Reply::Done,
                    Err(error) => Reply::Refused(error.to_string()),
                })
            }
            Request::Promote {
                epoch,
                copies,
                min_end,
                loss,
            } => {
                let broker = self.nodes[node].broker.as_ref()?;
                if broker.store.max_offset().0 < min_end {
                    return Some(Reply::Refused("it lacks something".into()));
                }
                let before = broker.seats.now();
                let promoted = broker.seats.promote(epoch, copies, "the administrator");
                // A disk that stops may have the new seat or the old one: the next start will tell.
                if self.nodes[node].disk.is_stopped() {
                    self.nodes[node].promoted = Some(loss);
                    return None;
                }
                if let Err(error) = promoted {
                    return Some(Reply::Refused(error.to_string()));
                }
                event!(self, "{node} is promoted in epoch {epoch} ({loss:?})");
                if before.part != broker.seats.now().part {
                    let done = self.promoted(node, loss);
                    self.keep(done);
                    self.obey(node);
                }
                Some(Reply::Done)
            }
            Request::Rejoin { epoch, id } => {
                let broker = self.nodes[node].broker.as_ref()?;
                match broker.seats.rejoin(epoch, id, "the administrator") {
                    Ok(_) => {
                        event!(self, "{node} rejoins as slave {id} of epoch {epoch}");
                        Some(Reply::Done)
                    }
                    Err(error) => Some(Reply::Refused(error.to_string())),
                }
            }
        }
    }

    /// The log of the name is that of this node from now on.
    pub(crate) fn promoted(&mut self, node: usize, loss: crate::truth::Loss) -> Checked {
        let Some(broker) = &self.nodes[node].broker else {
            return Ok(());
        };
        self.counts.promotions += 1;
        let epoch = broker.seats.epoch();
        if epoch < self.truth.epoch {
            // It comes late, and will learn that it was replaced.
            return Ok(());
        }
        self.truth.epoch = epoch;
        // What it has of offsets in memory is written when it starts again, or goes with a kill.
        self.truth.offsets_begin();
        self.truth.promoted(node, &broker.store, loss)
    }

    fn invite(
        &mut self,
        (from, node): (usize, usize),
        id: u64,
        epoch: gantry_message::Epoch,
    ) -> Reply {
        self.hear(node, epoch, "a slave");
        let mut token = [0; TOKEN_LEN];
        token[..8].copy_from_slice(&self.random.next().to_be_bytes());
        token[8..].copy_from_slice(&self.random.next().to_be_bytes());
        let one = &mut self.nodes[node];
        let Some(broker) = &mut one.broker else {
            return Reply::Refused("nobody".into());
        };
        if broker.seats.is_fenced() {
            return Reply::Refused("fenced".into());
        }
        let Some(master) = &mut broker.master else {
            return Reply::Refused("no master".into());
        };
        master.invite(ip(from), id, token);
        Reply::Linked {
            life: one.life,
            theirs: Theirs {
                min: broker.store.min_offset(),
                end: broker.store.max_offset(),
            },
            made_up: broker.store.made_up(),
            token,
            epoch: broker.seats.epoch(),
        }
    }

    /// A broker hears of a promotion.
    pub(crate) fn hear(&mut self, node: usize, epoch: gantry_message::Epoch, by: &str) {
        let Some(broker) = &self.nodes[node].broker else {
            return;
        };
        let before = broker.seats.epoch();
        // An error is the disk's, and nothing is believed then.
        let _ = broker.seats.hear(epoch, by);
        let now = broker.seats.now();
        if before < now.epoch {
            event!(
                self,
                "{node} hears of promotion {epoch} from {by}, and is {}",
                now.part.name()
            );
            self.obey(node);
        }
    }

    pub(crate) fn status(&self, node: usize) -> Option<Status> {
        let broker = self.nodes[node].broker.as_ref()?;
        let slave = broker.slave.as_ref();
        Some(Status {
            id: slave.map_or(0, |slave| slave.id),
            epoch: broker.seats.epoch(),
            is_master: broker.master.is_some() && !broker.seats.is_fenced(),
            is_slave: slave.is_some(),
            is_fenced: broker.seats.is_fenced(),
            gave_way: broker.seats.now().gave_way,
            copies: match broker.part {
                Part::Master(copies) => copies,
                _ => Copies::Sync,
            },
            end: broker.store.max_offset().0,
            min: signed(broker.store.min_offset()),
            last_record: broker.store.last_record().map_or(-1, |(at, _)| signed(at)),
            made_up: broker.store.made_up().into_iter().map(signed).collect(),
            slaves: broker.master.iter().flat_map(MasterSide::slaves).collect(),
            in_sync: self.setup.in_sync,
            known: slave.and_then(|slave| slave.known.clone()),
            master: broker.told,
            following: slave.and_then(|slave| match &slave.follow {
                Follow::Linked(linked) => Some((linked.master, self.now_ms - linked.heard_at?)),
                _ => None,
            }),
            has_heard: slave.is_some_and(|slave| slave.has_heard),
        })
    }
}

fn signed(at: gantry_message::LogOffset) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}
