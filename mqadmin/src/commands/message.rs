//! sendMessage, queryMsgById.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use gantry_client::{Error, Message, Producer, Queue, Refused, Sent, plain_body};
use gantry_message::{IdError, MessageId, Millis, RecordView, properties, topic};
use gantry_wire::{bodies::ConsumeMessageDirectlyResult, codes::response};

use super::track;
use crate::{
    print::time_ms,
    session::{Failure, Session, complain},
};

/// Where RocketMQ's tool writes the bodies of messages it shows.
const BODY_FOLDER: &str = "/tmp/rocketmq/msgbodys";
/// The producer group of messages that are sent again.
const RESEND_GROUP: &str = "ReSendMsgById";

/// sendMessage: one message, to any queue or to a given one.
pub async fn send(session: &mut Session<'_>) -> Result<(), Failure> {
    let (message, queue) = message_of(session)?;
    let producer = Producer::new(Arc::clone(&session.client), Millis::now().to_string());
    let sent = match &queue {
        Some(queue) => producer.send_to(&message, queue).await?,
        None => producer.send(&message).await?,
    };
    let line = |cells: [&str; 4]| {
        let [broker, id, result, message] = cells;
        format!("{broker:<32}  {id:<4}  {result:<20}    {message}")
    };
    session.line(line(["#Broker Name", "#QID", "#Send Result", "#MsgId"]))?;
    session.line(line([
        &sent.queue.broker,
        &sent.queue.id.to_string(),
        sent.status.name(),
        &sent.id,
    ]))
}

fn message_of(session: &Session<'_>) -> Result<(Message, Option<Queue>), Failure> {
    let arguments = &session.arguments;
    let body = arguments.required('p')?;
    let topic = arguments.required('t')?;
    topic::validate(topic).map_err(|error| Failure::Said(error.to_string()))?;
    if body.is_empty() {
        let remark = "the message body length is zero".to_owned();
        return Err(Error::Refused(Refused {
            code: response::MESSAGE_ILLEGAL,
            remark,
            broker: None,
        })
        .into());
    }
    if arguments.boolean('m', false) {
        return Err(Failure::Said(
            "-m true: sending traces is not available yet".to_owned(),
        ));
    }
    let queue = match (arguments.text('b'), arguments.has('i')) {
        (Some(broker), true) => Some(Queue {
            broker: broker.to_owned(),
            id: arguments.number::<u32>('i', 0)?.into(),
        }),
        (None, true) => {
            return Err(Failure::Said(
                "Broker name must be set if the queue is chosen!".to_owned(),
            ));
        }
        (Some(_), false) => {
            complain(session.command, "-b has no effect without -i");
            None
        }
        (None, false) => None,
    };
    let message = Message::new(
        arguments.required('t')?,
        Bytes::copy_from_slice(body.as_bytes()),
    )
    .keys(arguments.text('k').unwrap_or_default())
    .tag(arguments.text('c').unwrap_or_default());
    Ok((message, queue))
}

/// queryMsgById: shows messages, has a client consume them, or sends them again.
pub async fn query_by_id(session: &mut Session<'_>) -> Result<(), Failure> {
    let ids: Vec<String> = session
        .arguments
        .required('i')?
        .split(',')
        .map(|id| id.trim().to_owned())
        .collect();
    let ids = ids.iter().filter(|id| !id.is_empty());
    let consumer = session.arguments.text('g').zip(session.arguments.text('d'));
    if let Some((group, client_id)) =
        consumer.map(|(group, client)| (group.to_owned(), client.to_owned()))
    {
        for id in ids {
            match consume(session, id, &group, &client_id).await {
                Ok(result) => session.print(result)?,
                Err(error) => session.report(format_args!("{id}: {error}")),
            }
        }
    } else if session.arguments.has('s') {
        let producer = Producer::new(Arc::clone(&session.client), RESEND_GROUP);
        let wanted = session.arguments.boolean('s', false);
        for id in ids.filter(|_| wanted) {
            match resend(session, &producer, id).await {
                Ok(result) => session.print(format_args!(
                    "prepare resend msg. originalMsgId={id}{result}"
                ))?,
                Err(error) => session.report(format_args!("{id}: {error}")),
            }
        }
    } else {
        for id in ids {
            show(session, id).await?;
        }
    }
    Ok(())
}

/// The stored record, fetched from the broker that the id names.
async fn view(session: &Session<'_>, id: &str) -> Result<Bytes, Failure> {
    let place: MessageId = id.parse().map_err(|error| no_message(id, &error))?;
    Ok(session
        .client
        .view_message(&place.host.to_string(), place.offset)
        .await?)
}

/// RocketMQ's words for an id that names no place, and the reason.
fn no_message(id: &str, error: &IdError) -> Failure {
    let reason = match error {
        // The process number of a client's id lies where the upper half of the port would be.
        IdError::Port { .. } => {
            "this is the unique id of a client, which queryMsgByUniqueKey finds".to_owned()
        }
        other => other.to_string(),
    };
    Failure::Said(format!(
        "CODE: 208  DESC: query message by id finished, but no message. ({id}: {reason})"
    ))
}

fn record(bytes: &[u8]) -> Result<RecordView<'_>, Failure> {
    RecordView::parse(bytes)
        .map_err(|error| Failure::Said(format!("the broker's answer is no message: {error}")))
}

async fn consume(
    session: &Session<'_>,
    id: &str,
    group: &str,
    client_id: &str,
) -> Result<String, Failure> {
    let bytes = view(session, id).await?;
    let broker = record(&bytes)?.store_host().to_string();
    let result = session
        .client
        .consume_directly(&broker, group, client_id, id)
        .await?;
    let ConsumeMessageDirectlyResult {
        auto_commit,
        consume_result,
        order,
        remark,
        spent_time_mills,
    } = result;
    let consume_result = consume_result.map_or("null", |result| result.name());
    let remark = remark.as_deref().unwrap_or("null");
    Ok(format!(
        "ConsumeMessageDirectlyResult [order={order}, autoCommit={auto_commit}, consumeResult={consume_result}, \
         remark={remark}, spentTimeMills={spent_time_mills}]"
    ))
}

async fn resend(session: &Session<'_>, producer: &Producer, id: &str) -> Result<String, Failure> {
    let bytes = view(session, id).await?;
    let record = record(&bytes)?;
    let body = plain_body(&record).map_err(|error| Failure::Said(error.to_string()))?;
    let mut message =
        Message::new(record.topic(), body.into_owned()).properties_of(record.properties());
    message.flag = record.flag();
    let Sent {
        status,
        id,
        offset_id,
        queue,
        queue_offset,
    } = producer.send(&message).await?;
    Ok(format!(
        "SendResult [sendStatus={}, msgId={id}, offsetMsgId={offset_id}, messageQueue=MessageQueue [topic={}, \
         brokerName={}, queueId={}], queueOffset={queue_offset}]",
        status.name(),
        message.topic,
        queue.broker,
        queue.id
    ))
}

async fn show(session: &mut Session<'_>, id: &str) -> Result<(), Failure> {
    let bytes = view(session, id).await?;
    let record = record(&bytes)?;
    let path = save_body(session, &record)?;
    for (name, value) in fields(&record, &path) {
        session.line(format_args!("{name:<20} {value}"))?;
    }
    match track::tracks(session, &record).await {
        Ok(tracks) if tracks.is_empty() => session.print("\n\nWARN: No Consumer"),
        Ok(tracks) => session.print(format_args!("\n\n{}", tracks.concat())),
        Err(error) => {
            session.report(format_args!("{id}: who consumed it: {error}"));
            Ok(())
        }
    }
}

fn fields(record: &RecordView<'_>, body: &Path) -> [(&'static str, String); 15] {
    let text = |name| {
        record
            .property(name)
            .map_or("null".into(), String::from_utf8_lossy)
    };
    let all: BTreeMap<_, _> = properties::iter(record.properties()).collect();
    let pair = |(name, value): (&&[u8], &&[u8])| {
        format!(
            "{}={}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value)
        )
    };
    [
        ("OffsetID:", offset_id(record)),
        ("Topic:", record.topic().to_owned()),
        ("Tags:", format!("[{}]", text(properties::TAGS))),
        ("Keys:", format!("[{}]", text(properties::KEYS))),
        ("Queue ID:", record.queue_id().to_string()),
        ("Queue Offset:", record.queue_offset().to_string()),
        ("CommitLog Offset:", record.log_offset().to_string()),
        ("Reconsume Times:", record.reconsume_times().to_string()),
        ("Born Timestamp:", time_ms(record.born_time().0)),
        ("Store Timestamp:", time_ms(record.store_time().0)),
        ("Born Host:", record.born_host().to_string()),
        ("Store Host:", record.store_host().to_string()),
        ("System Flag:", record.sys_flag().0.to_string()),
        (
            "Properties:",
            format!(
                "{{{}}}",
                all.iter().map(pair).collect::<Vec<_>>().join(", ")
            ),
        ),
        ("Message Body Path:", body.display().to_string()),
    ]
}

fn offset_id(record: &RecordView<'_>) -> String {
    MessageId {
        host: record.store_host(),
        offset: record.log_offset(),
    }
    .to_string()
}

/// Writes the body where RocketMQ's tool writes it; a body that cannot be decompressed is written as it is stored.
fn save_body(session: &mut Session<'_>, record: &RecordView<'_>) -> Result<PathBuf, Failure> {
    let body = plain_body(record).unwrap_or_else(|error| {
        session.report(error);
        record.body().into()
    });
    let path = Path::new(BODY_FOLDER).join(body_name(record));
    let saved = save(&path, &body);
    saved.map_err(|error| {
        Failure::Said(format!(
            "cannot write the body to {}: {error}",
            path.display()
        ))
    })?;
    Ok(path)
}

/// The message's unique id; its offset id if it has none, or one that is no name for a file in this folder.
fn body_name(record: &RecordView<'_>) -> String {
    let unique = properties::find_str(record.properties(), properties::UNIQ_KEY);
    let harmless = |id: &&str| {
        id.len() <= 128
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    unique
        .filter(harmless)
        .map_or_else(|| offset_id(record), str::to_owned)
}

/// The folder is everybody's: a new file is moved into place, so that nobody's link is followed.
fn save(path: &Path, body: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::File::create_new(&fresh)?;
    file.write_all(body)?;
    drop(file);
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use gantry_message::{Record, SysFlag};

    use super::*;

    fn with_record<T>(properties: &[u8], check: impl Fn(&RecordView<'_>) -> T) -> T {
        let record = Record {
            topic: "TopicTest",
            queue_id: 3.into(),
            flag: 0,
            sys_flag: SysFlag(0),
            born_time: Millis(1_700_000_000_001),
            born_host: "10.1.1.9:41822".parse().unwrap(),
            store_host: "10.0.0.2:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: b"hello",
            properties,
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        gantry_message::patch(
            &mut bytes,
            12.into(),
            3304.into(),
            Millis(1_700_000_000_002),
        );
        check(&RecordView::parse(&bytes).unwrap())
    }

    #[test]
    fn a_message_is_shown_with_its_properties_sorted() {
        let properties = b"UNIQ_KEY\x01ABC\x02KEYS\x01k1 k2\x02WAIT\x01true";
        with_record(properties, |record| {
            let fields: BTreeMap<_, _> = fields(record, Path::new("/tmp/x")).into();
            let check = |name: &str, value: &str| assert_eq!(fields[name], value);
            check("OffsetID:", "0A00000200002A9F0000000000000CE8");
            check("Tags:", "[null]");
            check("Keys:", "[k1 k2]");
            check("Queue ID:", "3");
            check("Queue Offset:", "12");
            check("CommitLog Offset:", "3304");
            check("Born Host:", "10.1.1.9:41822");
            check("Properties:", "{KEYS=k1 k2, UNIQ_KEY=ABC, WAIT=true}");
            assert_eq!(body_name(record), "ABC");
        });
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_folder_of_bodies() {
        for hostile in ["../../etc/passwd", "a/b", "..", ".", &"A".repeat(129)] {
            let properties = format!("UNIQ_KEY\u{1}{hostile}");
            let name = with_record(properties.as_bytes(), body_name);
            assert_eq!(name, "0A00000200002A9F0000000000000CE8", "{hostile}");
        }
        assert_eq!(
            with_record(b"", body_name),
            "0A00000200002A9F0000000000000CE8"
        );
    }

    #[test]
    fn a_body_replaces_an_older_one_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (
            folder.path().join("bodies/ID"),
            folder.path().join("target"),
        );
        save(&path, b"old").unwrap();
        save(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::write(&target, "untouched").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        save(&path, b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert_eq!(fs::read(&target).unwrap(), b"untouched");
    }

    #[test]
    fn a_unique_id_is_told_from_a_place() {
        let said = |id: &str| match id.parse::<MessageId>() {
            Err(error) => no_message(id, &error).to_string(),
            Ok(place) => panic!("{id} became {place}"),
        };
        assert!(said("0A01010914B473D16E9302337E4D0000").contains("unique id of a client"));
        assert!(
            said("1234").contains("CODE: 208  DESC: query message by id finished, but no message.")
        );
    }
}
