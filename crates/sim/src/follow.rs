//! What a slave does, step by step: finds its master, compares, links, takes what comes, copies the tables.

use gantry_broker::slave::known::{self, Follows};
use gantry_broker::slave::merge::{self, Adoption};
use gantry_message::{QueueId, QueueOffset};
use gantry_replication::{Following, HELLO, Intake, IntakeError, Misfit, Part, Wire, report};
use gantry_store::CopyError;
use gantry_wire::bodies::HaStatus;

use crate::TOPIC;
use crate::broken::Broken;
use crate::net::{Reply, Request};
use crate::slave::{Compare, Compared, Copying, Follow, Linked, SlaveSide, Taken};
use crate::truth::{Checked, must};
use crate::world::{World, event};

/// A pause after something went wrong.
const PAUSE_MS: usize = 100;
/// How often tables are copied.
const PERIOD_MS: u64 = 1_000;

impl World {
    fn slave(&mut self, node: usize) -> Option<&mut SlaveSide> {
        self.nodes[node].broker.as_mut()?.slave.as_mut()
    }

    pub(crate) fn follow(&mut self, node: usize) -> Checked {
        let now = self.now_ms;
        let Some(slave) = self.slave(node) else {
            return Ok(());
        };
        match &slave.follow {
            Follow::Idle { until } if *until <= now => self.find(node),
            Follow::Idle { .. } => {}
            Follow::Comparing(with) => {
                let with = with.clone();
                self.look(node, with)?;
            }
            Follow::Linked(_) => self.keep_link(node),
        }
        Ok(())
    }

    fn find(&mut self, node: usize) {
        let found = self.found(node);
        let pause = self.now_ms + 10 + self.random.below(PAUSE_MS) as u64;
        if let Some(slave) = self.slave(node) {
            slave.follow = found.map_or(Follow::Idle { until: pause }, Follow::Comparing);
        }
    }

    fn found(&mut self, node: usize) -> Option<Compared> {
        let broker = self.nodes[node].broker.as_ref()?;
        let master = broker.told?;
        let (id, seat) = (broker.slave.as_ref()?.id, broker.seats.now());
        let asked = self.ask(
            node,
            master,
            Request::HaLink {
                id,
                epoch: seat.epoch,
            },
        );
        let Ok(Reply::Linked {
            life,
            theirs,
            made_up,
            token,
            epoch,
        }) = asked
        else {
            return None;
        };
        if self.broken != Some(Broken::FollowsReplaced) {
            let seats = self.nodes[node].broker.as_ref()?.seats.clone();
            seats.now().may_follow(epoch).ok()?;
            self.hear(node, epoch, "its master");
            if seats.epoch() < epoch {
                return None;
            }
            seats.follow(epoch, "its master").ok()?;
        }
        event!(
            self,
            "{node} has found the master {master} at epoch {epoch}, its log is {} to {}",
            theirs.min,
            theirs.end
        );
        Some(Compared {
            master,
            life,
            theirs,
            made_up,
            token: (self.setup.wire == Wire::Checked).then_some(token),
            epoch,
            answers: std::collections::BTreeMap::new(),
        })
    }

    fn look(&mut self, node: usize, mut with: Compared) -> Checked {
        let idle = Follow::Idle {
            until: self.now_ms + 10 + self.random.below(PAUSE_MS) as u64,
        };
        let Some(broker) = &self.nodes[node].broker else {
            return Ok(());
        };
        if self.nodes[node].disk.is_stopped() {
            return Ok(());
        }
        let store = std::sync::Arc::clone(&broker.store);
        let compared = match with.look(&store) {
            Compare::Cut(_) | Compare::Ask(_)
                if self.broken == Some(Broken::FollowsWithAnotherLog) =>
            {
                Compare::GoOn(store.max_offset())
            }
            other => other,
        };
        match compared {
            Compare::Ask(at) => {
                let request = Request::View {
                    life: with.life,
                    at,
                };
                let Ok(Reply::Viewed(theirs)) = self.ask(node, with.master, request) else {
                    return self.set(node, idle);
                };
                let ours = store.record_at(at).ok().flatten();
                with.answers.insert(at.0, ours == theirs);
                self.set(node, Follow::Comparing(with))
            }
            Compare::Strangers => {
                event!(self, "{node} has nothing in common with {}", with.master);
                if self.truth.leader == Some(with.master)
                    && self.nodes[with.master].life == with.life
                {
                    let common = self.truth.common(&store)?;
                    // A record is longer.
                    must!(
                        common < 88,
                        "{node} finds nothing in common with {}, and {common} bytes are the same",
                        with.master
                    );
                    if let Some(slave) = self.slave(node) {
                        slave.is_stranger = true;
                    }
                }
                self.set(node, idle)
            }
            Compare::Cut(cut) => {
                event!(
                    self,
                    "{node} cuts its log from {} on: {}",
                    cut.from,
                    cut.why
                );
                let epoch = with.epoch;
                self.cut(node, Misfit { cut, epoch })
            }
            Compare::GoOn(from) => {
                if store.note_made_up(&with.made_up).is_err() || self.nodes[node].disk.is_stopped()
                {
                    return self.set(node, idle);
                }
                let obeys = self.epoch_of(node);
                let is_replaced =
                    with.epoch < obeys && self.broken != Some(Broken::FollowsReplaced);
                if is_replaced || !self.net.carries(node, with.master, self.now_ms) {
                    return self.set(node, idle);
                }
                let ends = (node, self.nodes[node].life);
                // The connection may be to another process than the one that was asked.
                let life = self.nodes[with.master].life;
                let link = self.net.connect(ends, (with.master, life));
                let following = Following {
                    patience: self.setup.patience,
                    syncs: self.setup.after_flush
                        && self.broken != Some(Broken::ReportsBeforeSynced),
                };
                if life == with.life
                    && self.is_master(with.master)
                    && !self.nodes[node].disk.is_stopped()
                {
                    self.truth.follows((node, with.master), &store)?;
                }
                let trusted = self.slave(node).and_then(|slave| slave.trusted);
                let wire = match with.token {
                    Some(token) => {
                        self.push(link, &[&HELLO[..], &token].concat());
                        Wire::Checked
                    }
                    None => Wire::Plain,
                };
                let intake = Intake::new(&store, following, (wire, from), trusted, self.now());
                event!(
                    self,
                    "{node} connects to {} over link {link}, from {from}",
                    with.master
                );
                self.set(
                    node,
                    Follow::Linked(Linked {
                        link,
                        master: with.master,
                        life,
                        epoch: with.epoch,
                        intake,
                        heard_at: None,
                    }),
                )?;
                self.tell(node);
                Ok(())
            }
        }
    }

    fn set(&mut self, node: usize, follow: Follow) -> Checked {
        if let Some(slave) = self.slave(node) {
            slave.follow = follow;
        }
        Ok(())
    }

    fn push(&mut self, link: u32, bytes: &[u8]) {
        if let Some(on) = self.net.links.get_mut(&link) {
            on.to_master.extend(bytes);
        }
    }

    /// Sends a report if one is due.
    fn tell(&mut self, node: usize) {
        let now = self.now();
        let Some(slave) = self.slave(node) else {
            return;
        };
        let Follow::Linked(linked) = &mut slave.follow else {
            return;
        };
        let link = linked.link;
        if let Some(report) = linked.intake.report(now) {
            self.push(link, report.bytes());
        }
    }

    /// Leaves a master that was replaced, before anything more is told to it (`FollowView::obey`).
    pub(crate) fn obey(&mut self, node: usize) {
        let obeys = self.epoch_of(node);
        let is_bound = self.broken != Some(Broken::FollowsReplaced);
        let Some(slave) = self.slave(node).filter(|_| is_bound) else {
            return;
        };
        if matches!(&slave.follow, Follow::Linked(linked) if linked.epoch < obeys) {
            self.leave_at_slave(node, "its master was replaced");
        }
    }

    fn keep_link(&mut self, node: usize) {
        let now = self.now();
        let Some(slave) = self.slave(node) else {
            return;
        };
        let Follow::Linked(linked) = &slave.follow else {
            return;
        };
        match linked.intake.wait(now) {
            Err(refusal) => self.leave_at_slave(node, &refusal.to_string()),
            Ok(until) if until <= now => self.tell(node),
            Ok(_) => {}
        }
    }

    pub(crate) fn leave_at_slave(&mut self, node: usize, why: &str) {
        let pause = self.now_ms + 10 + self.random.below(PAUSE_MS) as u64;
        let Some(slave) = self.slave(node) else {
            return;
        };
        let before = std::mem::replace(&mut slave.follow, Follow::Idle { until: pause });
        if let Follow::Linked(linked) = before {
            event!(self, "{node} leaves link {}: {why}", linked.link);
            if let Some(on) = self.net.links.get_mut(&linked.link) {
                on.is_open_at_slave = false;
                on.to_slave.clear();
            }
        }
    }

    /// Bytes came over a link of this slave.
    pub(crate) fn take_in_log(&mut self, node: usize, link: u32, bytes: &[u8]) -> Checked {
        let (now, now_ms) = (self.now(), self.now_ms);
        let sent = self.sent_on(link);
        let Some(broker) = &mut self.nodes[node].broker else {
            return Ok(());
        };
        let store = std::sync::Arc::clone(&broker.store);
        let Some(slave) = &mut broker.slave else {
            return Ok(());
        };
        let Follow::Linked(linked) = &mut slave.follow else {
            return Ok(());
        };
        if linked.link != link {
            return Ok(());
        }
        let before = store.max_offset();
        let taken = linked.intake.take(&store, bytes, now);
        let (master, life) = (linked.master, linked.life);
        let is_first = linked.heard_at.replace(now_ms).is_none();
        slave.has_heard = true;
        if let Err(IntakeError::Copy(CopyError::Checksum { at })) = &taken {
            if slave.doubted == Some(*at) {
                slave.trusted = Some(*at);
            }
            slave.doubted = Some(*at);
        }
        let is_of_the_living =
            self.nodes[master].life == life && self.nodes[master].broker.is_some();
        if self.nodes[node].disk.is_stopped() {
            // It dies of it before it can say anything.
            return Ok(());
        }
        if before < store.max_offset() {
            event!(
                self,
                "{node} has the log to {} (link {link})",
                store.max_offset()
            );
        }
        if is_of_the_living && self.is_master(master) {
            match is_first {
                true => self.truth.follows((node, master), &store)?,
                false => self.truth.copied((node, master), &store)?,
            }
        }
        if let Err(error) = taken {
            self.leave_at_slave(node, &error.to_string());
            return Ok(());
        }
        if self.broken == Some(Broken::ReportsBeforeStored)
            && let Some((wire, sent)) = sent
        {
            self.push(link, report(wire, sent).bytes());
            return Ok(());
        }
        self.tell(node);
        Ok(())
    }

    /// The tables of a slave, one step.
    pub(crate) fn copy_tables(&mut self, node: usize) -> Checked {
        let now = self.now_ms;
        let told = self.nodes[node]
            .broker
            .as_ref()
            .and_then(|broker| broker.told);
        let place = self.whereabouts(node, told);
        let Some(slave) = self.slave(node) else {
            return Ok(());
        };
        match std::mem::replace(
            &mut slave.copying,
            Copying::Idle {
                until: now + PERIOD_MS,
            },
        ) {
            Copying::Idle { until } if now < until => slave.copying = Copying::Idle { until },
            Copying::Idle { .. } => {
                if let Some((master, follows)) = place
                    && self.learn(node, master, follows)
                {
                    let seen = self.slave(node).map(|slave| slave.seen.0.clone());
                    let life = self.nodes[master].life;
                    self.fetch(node, (master, life), seen.unwrap_or_default());
                }
            }
            Copying::Note(taken) => {
                if self.note_seen(node, taken.there.clone()) {
                    self.go_on(node, Copying::Adopt(taken));
                }
            }
            Copying::Adopt(taken) => {
                self.adopt(node, &taken.adopt)?;
                if !taken.has_told && !taken.push.is_empty() {
                    self.go_on(node, Copying::Push(taken));
                }
            }
            Copying::Push(mut taken) => {
                let place = (taken.master, taken.life);
                let Some((place, offset)) = taken.push.pop() else {
                    return self.ask_again(node, place, taken.there);
                };
                if self.nodes[taken.master].life != taken.life {
                    return Ok(());
                }
                let group = place.of.split_once('@').map_or("", |(_, group)| group);
                let before = taken
                    .there
                    .get(&place.of)
                    .and_then(|queues| queues.get(&place.queue));
                let request = Request::Push {
                    group: group.to_owned(),
                    queue: u32::try_from(place.queue).unwrap_or(0),
                    seen: before.and_then(|before| u64::try_from(*before).ok()),
                    offset: u64::try_from(offset).unwrap_or(0),
                };
                match self.ask(node, taken.master, request) {
                    Ok(Reply::Done) => {
                        taken
                            .there
                            .entry(place.of)
                            .or_default()
                            .insert(place.queue, offset);
                    }
                    Ok(Reply::Changed) => {}
                    _ => return Ok(()),
                }
                self.go_on(node, Copying::Push(taken));
            }
        }
        Ok(())
    }

    /// Whom it asks: who is followed, or else who it is told is the master (`slave::Whereabouts`).
    fn whereabouts(&mut self, node: usize, told: Option<usize>) -> Option<(usize, Follows)> {
        match self.slave(node).map(|slave| &slave.follow) {
            Some(Follow::Linked(linked)) if linked.heard_at.is_some() => {
                Some((linked.master, Follows::Yes))
            }
            _ => Some((told?, Follows::No)),
        }
    }

    /// Asks how its master stands, for a promotion (`slave::known`). Whether its tables are to be taken over.
    fn learn(&mut self, node: usize, master: usize, follows: Follows) -> bool {
        let end = |world: &Self| {
            let broker = world.nodes[node].broker.as_ref();
            let end = broker.map_or(0, |broker| broker.store.max_offset().0);
            i64::try_from(end).unwrap_or(i64::MAX)
        };
        let before = end(self);
        let Ok(Reply::Status(said)) = self.ask(node, master, Request::Status) else {
            return false;
        };
        let theirs = i64::try_from(said.end).unwrap_or(i64::MAX);
        let reached = follows.check(theirs, before);
        let follows = reached.map_or(Follows::No, |()| follows);
        let copies = follows == Follows::Yes;
        if said.is_fenced || said.is_slave {
            return copies;
        }
        let ours = end(self);
        let said = HaStatus {
            epoch: Some(said.epoch.to_string()),
            in_sync_replicas: i32::try_from(said.in_sync).unwrap_or(1),
            max_offset: theirs,
            role: Part::Master(said.copies).name().to_owned(),
            slaves: said.slaves,
            ..HaStatus::default()
        };
        let Some(slave) = self.slave(node) else {
            return copies;
        };
        let follows = slave.lacks.look(follows, (said.max_offset, ours));
        let follows = (follows, before);
        let learned = known::learned(slave.known.as_ref(), (&master.to_string(), &said), follows);
        let is_news = slave.known.as_ref() != Some(&learned);
        slave.known = Some(learned.clone());
        if is_news {
            // What is not kept is not known after a restart.
            let _ = self.nodes[node].write_known(&learned);
        }
        copies
    }

    fn ask_again(&mut self, node: usize, master: (usize, u64), told: merge::Table) -> Checked {
        self.fetch(node, master, told);
        if let Some(slave) = self.slave(node)
            && let Copying::Note(taken) = &mut slave.copying
        {
            taken.has_told = true;
        }
        Ok(())
    }

    fn go_on(&mut self, node: usize, copying: Copying) {
        if let Some(slave) = self.slave(node) {
            slave.copying = copying;
        }
    }

    fn fetch(&mut self, node: usize, (master, life): (usize, u64), seen: merge::Table) {
        if self.nodes[master].life != life {
            return;
        }
        let Ok(Reply::Offsets(there)) = self.ask(node, master, Request::Offsets) else {
            return;
        };
        let there = merge::clean(there);
        let Some(broker) = &self.nodes[node].broker else {
            return;
        };
        let here = merge::clean(broker.offsets.wire_table().offset_table);
        // Nobody deletes a topic or a group here.
        let mut plan = merge::plan(&seen, &here, &there, |_| true);
        if self.broken == Some(Broken::OffsetsOverwritten) {
            plan = merge::plan(&here, &here, &there, |_| true);
        }
        if !plan.adopt.is_empty() || !plan.push.is_empty() {
            event!(
                self,
                "{node} adopts {:?} of {master}, and tells it {:?}",
                flat_adoptions(&plan.adopt),
                plan.push
            );
        }
        let merge::Plan { adopt, push } = plan;
        let taken = Taken {
            master,
            life,
            there,
            adopt,
            push,
            has_told: false,
        };
        self.go_on(node, Copying::Note(taken));
    }

    fn note_seen(&mut self, node: usize, table: merge::Table) -> bool {
        let Some(slave) = self.slave(node) else {
            return false;
        };
        if slave.seen.1 && slave.seen.0 == table {
            return true;
        }
        if !self.nodes[node].write_seen(&table) {
            return false;
        }
        if let Some(slave) = self.slave(node) {
            slave.seen = (table, true);
        }
        true
    }

    fn adopt(&mut self, node: usize, adoptions: &[Adoption]) -> Checked {
        let Some(broker) = &self.nodes[node].broker else {
            return Ok(());
        };
        let before = broker.offsets_now();
        for Adoption { place, from, to } in adoptions {
            let Some((topic, group)) = place.of.split_once('@') else {
                continue;
            };
            let position = |offset: Option<i64>| {
                offset
                    .and_then(|offset| u64::try_from(offset).ok())
                    .map(QueueOffset)
            };
            let queue = QueueId(u32::try_from(place.queue).unwrap_or(0));
            let done =
                broker
                    .offsets
                    .exchange((group, topic, queue), position(*from), position(*to));
            must!(
                done.is_ok() && topic == TOPIC,
                "an offset is not taken: {done:?}"
            );
        }
        // A promotion, or a master that lost everything, sets what counts anew.
        if !self.truth.has_moved {
            let after = broker.offsets_now();
            for (key, offset) in &before {
                must!(
                    after.get(key).is_some_and(|after| offset <= after),
                    "{key:?} goes back from {offset} to {:?} at the slave {node}",
                    after.get(key)
                );
            }
        }
        Ok(())
    }

    /// What was sent on a link so far, where its master is alive.
    fn sent_on(&self, link: u32) -> Option<(Wire, gantry_message::LogOffset)> {
        let on = self.net.links.get(&link)?;
        let master = self.nodes[on.master].broker.as_ref()?.master.as_ref()?;
        let served = master.links.iter().find(|served| served.link == link)?;
        Some((served.wire(), served.master.next()?))
    }
}

fn flat_adoptions(adoptions: &[Adoption]) -> Vec<(i32, Option<i64>, Option<i64>)> {
    adoptions
        .iter()
        .map(|one| (one.place.queue, one.from, one.to))
        .collect()
}
