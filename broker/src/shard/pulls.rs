//! Pulls: those that are answered at once, those that read a disk first, and those that are held until a message comes.
//!
//! A held pull is a task of its shard that waits on the queue's watermark; it looks a second and last time when that moves,
//! its time is over or the shard drains. What a pull may have and what it gets is decided in `handlers::pull`.

use std::{rc::Rc, sync::atomic::Ordering, time::Duration};

use gantry_message::{Millis, QueueOffset};
use gantry_net::{Peer, peer::Follow};
use gantry_wire::{
    FieldSink,
    codes::response,
    frame::{self, Header, ResponseHead, Serialization},
};
use tokio::time::Instant;

use super::{Asker, MADE_MAX, Shard, blocking};
use crate::{
    handlers::pull::{Admission, Admitted, PullAnswer},
    measures::{Answered, Leg},
    refusal::Refusal,
};

impl Shard {
    /// Looks at a pull; `made` counts what was made for it already.
    pub(super) fn pull(
        self: &Rc<Self>,
        peer: &Peer,
        serialization: Serialization,
        header: &Header<'_>,
        made: u32,
    ) {
        let to = Asker::of(self, peer, serialization, header);
        let pull = match self.parts.pull.admit(&header.fields, peer.address()) {
            Ok(Admission::Admitted(pull)) => pull,
            Ok(Admission::Prepare(missing)) if made < MADE_MAX => {
                let header = header.clone().into_owned();
                return self.prepare(to, missing, move |shard, to, done| match done {
                    Ok(()) => shard.pull(&to.peer, to.serialization, &header, made + 1),
                    Err(refusal) => to.refuse(&refusal),
                });
            }
            Ok(Admission::Prepare(_)) => {
                return to.refuse(&Refusal::system_error("the group was deleted meanwhile"));
            }
            Err(refusal) => return to.refuse(&refusal),
        };
        let answer = self.parts.pull.attempt_now(&pull);
        self.measures
            .lock()
            .leg(Leg::PullRead, to.began.elapsed(), 1);
        if let Some(answer) = answer {
            return self.answer_or_park(to, pull, answer);
        }
        let shard = self.clone();
        let busy = peer.begin();
        tokio::task::spawn_local(async move {
            let (pull, answer) = shard.read_cold(pull).await;
            shard.answer_or_park(to, pull, answer);
            drop(busy);
        });
    }

    /// Reads where a disk may be waited for. Only some at a time, so that the threads are not all taken: other requests
    /// need them too.
    async fn read_cold(&self, pull: Admitted) -> (Admitted, PullAnswer) {
        let began = Instant::now();
        let _turn = self.cold_reads.acquire().await;
        let reader = self.parts.pull.clone();
        let read = blocking(move || {
            let answer = reader.attempt(&pull);
            (pull, answer)
        })
        .await;
        self.measures.lock().leg(Leg::PullCold, began.elapsed(), 1);
        read
    }

    fn answer_or_park(self: &Rc<Self>, to: Asker, pull: Admitted, answer: PullAnswer) {
        match pull.hold {
            Some(hold)
                if answer.code == response::PULL_NOT_FOUND
                    // Where entries are lost the reader is told at once where to go on.
                    && answer.next == pull.offset()
                    && !self.draining.get()
                    && !to.oneway =>
            {
                // All that was there was looked at; if it could not be read, trying at once would go on for ever.
                // A slave's reader may be ahead of the queue.
                let seen = QueueOffset(answer.max.max(answer.next).unsigned_abs());
                self.park(to, pull, hold, seen);
            }
            _ => self.answer_pull(&to, &pull, answer, false),
        }
    }

    /// Holds a pull until a wanted message comes behind what was `seen`, its time is over, or its connection goes.
    fn park(self: &Rc<Self>, to: Asker, pull: Admitted, hold: Millis, mut seen: QueueOffset) {
        let config = self.send.config();
        let limit = config.max_parked_pulls as usize;
        let held = self.parts.parked.fetch_add(1, Ordering::Relaxed);
        if held >= limit {
            self.parts.parked.fetch_sub(1, Ordering::Relaxed);
            let code = config.overload_response_code;
            return to.refuse(&Refusal::overloaded(code, "held pulls", held, limit));
        }
        let shard = self.clone();
        let busy = to.peer.begin();
        tokio::task::spawn_local(async move {
            let deadline = Instant::now() + Duration::from_millis(hold.0.unsigned_abs());
            let gone = loop {
                // Told before it is waited for: a drain that began in between is not missed, as nothing runs here
                // between this look and the wait.
                if shard.draining.get() {
                    break false;
                }
                tokio::select! {
                    () = pull.queue().dispatched().beyond(seen.0) => {
                        let max = pull.queue().max();
                        // Waiting for a deleted queue ends at once, every time.
                        if pull.queue().is_deleted() || pull.wants_any(&shard.parts.store, seen, max) {
                            break false;
                        }
                        seen = max;
                    }
                    () = tokio::time::sleep_until(deadline) => break false,
                    () = shard.drain.notified() => break false,
                    () = to.peer.closed() => break true,
                }
            };
            shard.parts.parked.fetch_sub(1, Ordering::Relaxed);
            shard
                .measures
                .lock()
                .leg(Leg::PullHeld, to.began.elapsed(), 1);
            if !gone {
                shard.answer_parked(to, pull).await;
            }
            drop(busy);
        });
    }

    /// The second and last look of a held pull; it is not held again.
    async fn answer_parked(&self, to: Asker, pull: Admitted) {
        let pull = match self.parts.pull.renewed(pull, to.peer.address()) {
            Ok(pull) => pull,
            Err(refusal) => return to.refuse(&refusal),
        };
        let (pull, answer) = match self.parts.pull.attempt_now(&pull) {
            Some(answer) => (pull, answer),
            None => self.read_cold(pull).await,
        };
        self.answer_pull(&to, &pull, answer, true);
    }

    fn answer_pull(&self, to: &Asker, pull: &Admitted, answer: PullAnswer, was_held: bool) {
        self.parts.pull.account(pull, &answer);
        if to.oneway {
            return;
        }
        let answered = Answered {
            request: to.code,
            response: answer.code,
            was_held,
        };
        let took = to.began.elapsed();
        self.measures.lock().answered(answered, took, 1);
        let head = ResponseHead {
            code: answer.code,
            opaque: to.opaque,
            remark: Some(answer.remark),
        };
        let (bytes, slices) = match answer.found {
            Some(found) => (found.bytes, found.slices),
            None => (0, Vec::new()),
        };
        let body_len = usize::try_from(bytes).unwrap_or(usize::MAX);
        to.peer.push_slices(
            |out| {
                let fields = &mut |fields: &mut frame::FieldWriter<'_>| {
                    fields.int("suggestWhichBrokerId", answer.suggest);
                    fields.int("nextBeginOffset", answer.next);
                    fields.int("minOffset", answer.min);
                    fields.int("maxOffset", answer.max);
                };
                match frame::encode_response_head(out, to.serialization, &head, fields, body_len) {
                    Ok(()) => Follow::Slices,
                    Err(error) => {
                        let remark = format!("the messages do not fit an answer: {error}");
                        let head = ResponseHead {
                            code: response::SYSTEM_ERROR,
                            opaque: to.opaque,
                            remark: Some(&remark),
                        };
                        frame::encode_response(out, to.serialization, &head, &mut |_| {}, &[]);
                        Follow::Nothing
                    }
                }
            },
            slices,
        );
        to.peer.flush();
    }
}
