//! Queue locks for ordered consumption: asked for (41) and given back (42). Nothing here touches a disk.

use std::sync::Arc;

use gantry_message::Millis;
use gantry_wire::{
    Request, Response,
    bodies::{LockBatchRequest, LockBatchResponse},
};

use crate::{locks::Locks, refusal::Refusal};

/// The parts that queue locks need.
pub struct QueueLocks {
    /// Who owns which queue.
    pub locks: Arc<Locks>,
}

impl QueueLocks {
    /// Serves 41: answers the queues that the client owns now.
    pub fn lock(&self, request: &Request, now: Millis) -> Result<Response, Refusal> {
        let body = LockBatchRequest::parse(&request.body)?;
        let granted = self
            .locks
            .lock(&body.consumer_group, &body.client_id, &body.mq_set, now);
        Ok(Response::with_body(
            LockBatchResponse {
                lock_ok_mq_set: granted,
            }
            .encode(),
        ))
    }

    /// Serves 42: gives back what the client owns of it.
    pub fn unlock(&self, request: &Request) -> Result<Response, Refusal> {
        let body = LockBatchRequest::parse(&request.body)?;
        self.locks
            .unlock(&body.consumer_group, &body.client_id, &body.mq_set);
        Ok(Response::ok())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_wire::codes::request;

    use super::*;

    fn asked(code: i32, client: &str, queues: &str) -> Request {
        let queue = |id| format!(r#"{{"brokerName":"broker-a","queueId":{id},"topic":"T"}}"#);
        let set: Vec<String> = queues.split_whitespace().map(queue).collect();
        let body = format!(
            r#"{{"clientId":"{client}","consumerGroup":"G","mqSet":[{}]}}"#,
            set.join(",")
        );
        Request::new(code).with_body(body)
    }

    #[test]
    fn locks_are_asked_for_and_given_back_as_clients_write_it() {
        let handler = QueueLocks {
            locks: Arc::new(Locks::new(Duration::from_secs(60))),
        };
        let lock = |client, queues| {
            let answer = handler
                .lock(&asked(request::LOCK_BATCH_MQ, client, queues), Millis(0))
                .unwrap();
            String::from_utf8(answer.body.to_vec()).unwrap()
        };
        let queue = |id| format!(r#"{{"brokerName":"broker-a","queueId":{id},"topic":"T"}}"#);
        assert_eq!(
            lock("a", "0 1"),
            format!(r#"{{"lockOKMQSet":[{},{}]}}"#, queue(0), queue(1))
        );
        assert_eq!(
            lock("b", "0 2"),
            format!(r#"{{"lockOKMQSet":[{}]}}"#, queue(2))
        );
        assert_eq!(lock("b", ""), r#"{"lockOKMQSet":[]}"#);
        handler
            .unlock(&asked(request::UNLOCK_BATCH_MQ, "a", "0"))
            .unwrap();
        assert_eq!(
            lock("b", "0 1"),
            format!(r#"{{"lockOKMQSet":[{}]}}"#, queue(0))
        );
    }

    #[test]
    fn a_body_that_cannot_be_read_is_refused() {
        let handler = QueueLocks {
            locks: Arc::new(Locks::new(Duration::from_secs(60))),
        };
        for body in ["", "[", "{\"mqSet\":7}"] {
            let request = Request::new(request::LOCK_BATCH_MQ).with_body(body);
            assert_eq!(
                handler.lock(&request, Millis(0)).unwrap_err().code,
                1,
                "{body}"
            );
            assert_eq!(handler.unlock(&request).unwrap_err().code, 1, "{body}");
        }
    }
}
