//! A whole broker, over real connections, on every derived damage of one store: each class of file, the tables included,
//! damaged in each way, stopped cleanly and by a kill. Each starts, gives what was not destroyed to whoever pulls it,
//! takes new messages, and names what is gone with its file in the log.
//!
//! The store alone is tested on the same damages in `gantry-store`, with more ways to read it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use gantry_broker::broker::Broker;
use gantry_broker::config::BrokerConfig;
use gantry_config::{Bind, Host, Settings};
use gantry_message::RecordView;
use gantry_net::client::{Connection, Options, Reply};
use gantry_wire::FieldSink;
use gantry_wire::bodies::KvTable;
use gantry_wire::codes::{request, response};
use gantry_wire::frame::FieldWriter;

const SEGMENT: u64 = 8 << 10;
const QUEUE_FILE: u64 = 20 * 12;
const PAGE: usize = 4096;
const QUEUES: [(&str, u32); 3] = [("orders", 0), ("orders", 3), ("late", 1)];
const MESSAGES: usize = 120;
/// Where a delayed message goes. Not compared: it may come twice when the table of their positions is lost.
const DELAYED: Place = ("delayed", 0);
/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

type Place = (&'static str, u32);

/// A message as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    place: Place,
    offset: u64,
    start: u64,
    len: u64,
    body: Vec<u8>,
}

fn config(root: &Path) -> BrokerConfig {
    let mut config = BrokerConfig::defaults(&Host::described());
    config.broker_name = "broker-a".to_owned();
    config.broker_ip1 = Some("127.0.0.1".to_owned());
    config.server.bind_address = Bind([127, 0, 0, 1].into());
    config.server.listen_port = 0;
    config.server.io_threads = 1;
    config.store.ha_listen_port = 0;
    config.metrics_port = Some(0);
    config.store.store_path_root_dir = root.to_string_lossy().into_owned();
    config.store.mapped_file_size_commit_log = SEGMENT;
    config.store.mapped_file_size_consume_queue = QUEUE_FILE;
    config.store.max_hash_slot_num = 32;
    config.store.max_index_num = 30;
    config
}

/// Starts a broker there, which must come up, and runs `action` with a connection to it.
fn with_broker<T>(
    root: &Path,
    change: impl FnOnce(&mut BrokerConfig),
    action: impl AsyncFnOnce(&Client) -> T,
) -> T {
    let mut config = config(root);
    change(&mut config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let broker = Broker::start(config).await.unwrap();
        let address = broker.address().to_string();
        let client = Client(
            Connection::connect(&address, &Options::default())
                .await
                .unwrap(),
        );
        let result = action(&client).await;
        broker.stop().await.unwrap();
        result
    })
}

struct Client(Connection);

impl Client {
    async fn ask(&self, code: i32, fields: &str, body: &[u8]) -> Reply {
        let write = |sink: &mut FieldWriter<'_>| {
            for field in fields.split(' ') {
                let (name, value) = field.split_once('=').unwrap();
                let value = value.replace(':', "\u{1}").replace(';', "\u{2}");
                sink.text(name, &value);
            }
        };
        self.0.call(code, write, body, PATIENCE).await.unwrap()
    }

    async fn send(&self, (topic, queue): Place, body: &[u8]) {
        let key = String::from_utf8_lossy(body.split(|&byte| byte == b' ').next().unwrap());
        let fields =
            format!("a=PG b={topic} c=TBW102 d=8 e={queue} f=0 g=7 h=0 i=TAGS:A;UNIQ_KEY:{key}");
        let reply = self.ask(request::SEND_MESSAGE_V2, &fields, body).await;
        assert_eq!(reply.code, 0, "a send: {:?}", reply.remark);
    }

    /// The least and the greatest offset.
    async fn bounds(&self, (topic, queue): Place) -> [u64; 2] {
        let fields = format!("topic={topic} queueId={queue}");
        let mut bounds = [0; 2];
        for (bound, code) in bounds
            .iter_mut()
            .zip([request::GET_MIN_OFFSET, request::GET_MAX_OFFSET])
        {
            let reply = self.ask(code, &fields, b"").await;
            *bound = reply.fields.get("offset").unwrap().parse().unwrap();
        }
        bounds
    }

    /// What a consumer gets that asks until it has everything.
    async fn consume(&self) -> BTreeSet<Message> {
        let mut all = BTreeSet::new();
        for place in QUEUES {
            let [mut next, max] = self.bounds(place).await;
            while next < max {
                let (topic, queue) = place;
                let fields = format!(
                    "consumerGroup=G topic={topic} queueId={queue} queueOffset={next} maxMsgNums=32 sysFlag=4 \
                     commitOffset=0 suspendTimeoutMillis=0 subscription=* subVersion=0"
                );
                let reply = self.ask(request::PULL_MESSAGE, &fields, b"").await;
                let moves_on = [
                    0,
                    response::PULL_RETRY_IMMEDIATELY,
                    response::PULL_OFFSET_MOVED,
                ];
                assert!(
                    moves_on.contains(&reply.code),
                    "{place:?} at {next}: {} {:?}",
                    reply.code,
                    reply.remark
                );
                all.extend(messages(place, &reply.body));
                let then: u64 = reply
                    .fields
                    .get("nextBeginOffset")
                    .unwrap()
                    .parse()
                    .unwrap();
                assert!(
                    then > next,
                    "{place:?}: a pull does not move on from {next}"
                );
                next = then;
            }
        }
        all
    }
}

/// The whole records of an answer. What was destroyed in a body is seen by its checksum, as a stock client sees it.
fn messages(place: Place, mut rest: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Ok(view) = RecordView::parse(rest) {
        if view.verify_crc().is_ok() {
            all.push(Message {
                place,
                offset: view.queue_offset().0,
                start: view.log_offset().0,
                len: view.len() as u64,
                body: view.body().to_vec(),
            });
        }
        rest = &rest[view.len()..];
    }
    all
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Cleanly,
    ByKill,
}

const STOPS: [Stopped; 2] = [Stopped::Cleanly, Stopped::ByKill];

/// The healthy store, as either stop leaves it.
struct Healthy {
    dir: tempfile::TempDir,
    messages: BTreeSet<Message>,
}

impl Healthy {
    fn at(&self, stopped: Stopped) -> PathBuf {
        self.dir.path().join(format!("{stopped:?}"))
    }
}

fn healthy() -> Healthy {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("running");
    let killed = dir.path().join(format!("{:?}", Stopped::ByKill));
    let messages = with_broker(
        &root,
        |_| {},
        async |client| {
            for n in 0..MESSAGES {
                client.send(QUEUES[n % QUEUES.len()], &body(n)).await;
            }
            // A delayed one that is delivered: the table of their positions is written.
            let (topic, queue) = DELAYED;
            let fields = format!("a=PG b={topic} c=TBW102 d=8 e={queue} f=0 g=7 h=0 i=DELAY:1");
            let sent = client
                .ask(request::SEND_MESSAGE_V2, &fields, &body(MESSAGES))
                .await;
            assert_eq!(sent.code, 0, "{:?}", sent.remark);
            let fields = format!(
                "consumerGroup=G topic={topic} queueId={queue} queueOffset=0 maxMsgNums=1 sysFlag=6 commitOffset=0 \
             suspendTimeoutMillis=30000 subscription=* subVersion=0"
            );
            let delivered = client.ask(request::PULL_MESSAGE, &fields, b"").await;
            assert_eq!(delivered.code, 0, "{:?}", delivered.remark);
            let commit = "consumerGroup=G topic=orders queueId=0 commitOffset=7";
            assert_eq!(
                client
                    .ask(request::UPDATE_CONSUMER_OFFSET, commit, b"")
                    .await
                    .code,
                0
            );
            let messages = client.consume().await;
            // What was written within the last second before a kill is not known to have been there.
            let info = client
                .ask(request::GET_BROKER_RUNTIME_INFO, "all=1", b"")
                .await;
            let info = KvTable::parse(&info.body).unwrap().table;
            let noted = format!("\nwritten={} ", info["commitLogMaxOffset"]);
            let progress = root.join("gantry.checkpoint");
            while !fs::read_to_string(&progress).is_ok_and(|text| text.contains(&noted)) {
                tokio::task::yield_now().await;
            }
            // As a kill leaves it: written to the page cache, `abort` there, the last entries perhaps in the log alone.
            copy(&root, &killed);
            messages
        },
    );
    assert_eq!(messages.len(), MESSAGES);
    copy(&root, &dir.path().join(format!("{:?}", Stopped::Cleanly)));
    let names = [
        "topics",
        "subscriptionGroup",
        "consumerOffset",
        "delayOffset",
    ];
    for name in names {
        // A backup is beside the file after its second write only.
        let path = dir.path().join(format!("Cleanly/config/{name}.json"));
        let content = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        for stopped in STOPS {
            let folder = dir.path().join(format!("{stopped:?}/config"));
            fs::write(folder.join(format!("{name}.json")), &content).unwrap();
            fs::write(folder.join(format!("{name}.json.bak")), &content).unwrap();
        }
    }
    Healthy { dir, messages }
}

/// Bytes that differ from place to place, so that no damage leaves them as they were.
fn body(n: usize) -> Vec<u8> {
    let filling = (0..n * 37 % 400).map(|at| b'a' + u8::try_from((at * 7 + n) % 26).unwrap());
    format!("U{n} ")
        .into_bytes()
        .into_iter()
        .chain(filling)
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            match fs::copy(&path, &to) {
                // The broker that still runs has just put another one in its place.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => drop(other.unwrap()),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Emptied,
    Cut,
    LastPageZeroed,
    GarbagePage,
    Missing,
}

const DAMAGES: [Damage; 5] = [
    Damage::Emptied,
    Damage::Cut,
    Damage::LastPageZeroed,
    Damage::GarbagePage,
    Damage::Missing,
];

impl Damage {
    fn apply(self, path: &Path, random: &mut Random) {
        let mut content = fs::read(path).unwrap();
        let pages = content.len().div_ceil(PAGE);
        match self {
            Self::Missing => return fs::remove_file(path).unwrap(),
            Self::Emptied => content.clear(),
            Self::Cut => content.truncate(random.below(content.len())),
            Self::LastPageZeroed => {
                let at = pages.saturating_sub(1) * PAGE;
                content[at..].fill(0);
            }
            Self::GarbagePage => {
                let at = random.below(pages) * PAGE;
                let end = content.len().min(at + PAGE);
                content[at..end].fill_with(|| u8::try_from(random.below(256)).unwrap());
            }
        }
        fs::write(path, content).unwrap();
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap()
    }
}

/// The used files of a folder, by name: what was made ahead holds nothing.
fn used(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_used = |path: &PathBuf| fs::read(path).unwrap().iter().any(|&byte| byte != 0);
    let mut all: Vec<PathBuf> = entries.filter(is_used).collect();
    all.sort();
    all
}

/// A file of each class.
fn classes(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for dir in ["commitlog", "consumequeue/orders/0", "index"] {
        let files = used(&root.join(dir));
        assert!(files.len() > 2, "{dir}: {files:?}");
        all.extend([&files[0], &files[files.len() / 2], &files[files.len() - 1]].map(Clone::clone));
    }
    all.extend(["checkpoint", "gantry.checkpoint"].map(|name| root.join(name)));
    let relative = all.iter().map(|path| path.strip_prefix(root).unwrap());
    relative.map(Path::to_owned).collect()
}

/// The messages whose bytes are no longer what they were.
fn destroyed(healthy: &Healthy, intact: &Path, damaged: &Path) -> BTreeSet<u64> {
    let mut read: BTreeMap<u64, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    let is_lost = |message: &&Message| {
        let segment = message.start - message.start % SEGMENT;
        let (was, is) = read.entry(segment).or_insert_with(|| {
            let name = format!("commitlog/{segment:020}");
            let is = fs::read(damaged.join(&name)).unwrap_or_default();
            (fs::read(intact.join(&name)).unwrap(), is)
        });
        let from = usize::try_from(message.start % SEGMENT).unwrap();
        let range = from..from + usize::try_from(message.len).unwrap();
        is.get(range.clone()) != was.get(range)
    };
    let lost = healthy.messages.iter().filter(is_lost);
    lost.map(|message| message.start).collect()
}

/// What everything in this program says, from the moment on when that is first looked at.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The errors that name something below this folder.
    fn errors(&self, folder: &Path) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, folder) = (String::from_utf8_lossy(&all), folder.to_string_lossy());
        let lines = text.lines();
        let about = lines.filter(|line| line.contains("ERROR") && line.contains(&*folder));
        about.map(str::to_owned).collect()
    }
}

/// Starts on a damaged copy and compares, before and after more messages and a restart. Returns the store's folder's
/// name and what was said of it.
fn case(
    healthy: &Healthy,
    stopped: Stopped,
    what: &str,
    damage: impl FnOnce(&Path),
    change: impl Fn(&mut BrokerConfig),
) -> Vec<String> {
    LazyLock::force(&LOG);
    let intact = healthy.at(stopped);
    let place = tempfile::tempdir_in(healthy.dir.path()).unwrap();
    let root = place.path().join("store");
    copy(&intact, &root);
    damage(&root);
    let lost = destroyed(healthy, &intact, &root);
    let mut expected = healthy.messages.clone();
    expected.retain(|message| !lost.contains(&message.start));
    with_broker(&root, &change, async |client| {
        same(&client.consume().await, &expected, &lost, what);
        for (n, place) in QUEUES.into_iter().enumerate() {
            let [_, max] = client.bounds(place).await;
            client.send(place, &body(MESSAGES + n)).await;
            assert_eq!(client.bounds(place).await[1], max + 1, "{what}: {place:?}");
        }
        // An acknowledged message took no place of another.
        let sent: Vec<Vec<u8>> = (0..QUEUES.len()).map(|n| body(MESSAGES + n)).collect();
        let mut new = client.consume().await;
        new.retain(|message| sent.contains(&message.body));
        assert_eq!(new.len(), QUEUES.len(), "{what}: {new:?}");
        expected.extend(new);
    });
    with_broker(&root, &change, async |client| {
        same(
            &client.consume().await,
            &expected,
            &lost,
            &format!("{what}, again"),
        );
    });
    let errors = LOG.errors(place.path());
    let is_named = |line: &String| line.contains("file=") && line.contains("/commitlog/");
    assert!(
        lost.is_empty() || errors.iter().any(is_named),
        "{what}: of {lost:?} was said {errors:?}"
    );
    errors
}

#[track_caller]
fn same(
    found: &BTreeSet<Message>,
    expected: &BTreeSet<Message>,
    partly: &BTreeSet<u64>,
    what: &str,
) {
    let short = |message: &Message| {
        format!(
            "{:?} at {} ({})",
            message.place, message.offset, message.start
        )
    };
    let missing: Vec<String> = expected.difference(found).map(short).collect();
    // What is left of a record may still be a whole message: of what was cut off only a byte may have counted.
    let extra = found.difference(expected);
    let extra: Vec<String> = extra
        .filter(|message| !partly.contains(&message.start))
        .map(short)
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{what}: missing {missing:?}, too many {extra:?}"
    );
}

/// Runs cases and tells all that fail, not the first.
#[derive(Default)]
struct Cases {
    count: u64,
    failed: Vec<String>,
}

impl Cases {
    fn run(&mut self, what: String, case: impl FnOnce(&str)) {
        self.count += 1;
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&what))).is_err() {
            self.failed.push(what);
        }
    }

    #[track_caller]
    fn end(self, at_least: u64) {
        assert!(self.failed.is_empty(), "{:?}", self.failed);
        assert!(self.count >= at_least, "{} cases", self.count);
    }
}

#[test]
fn a_broker_serves_on_every_damaged_file_of_its_store() {
    let healthy = healthy();
    let mut cases = Cases::default();
    for stopped in STOPS {
        for path in classes(&healthy.at(stopped)) {
            for damage in DAMAGES {
                let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ cases.count);
                cases.run(
                    format!("{stopped:?} {} {damage:?}", path.display()),
                    |what| {
                        let apply = |root: &Path| damage.apply(&root.join(&path), &mut random);
                        case(&healthy, stopped, what, apply, |_| {});
                    },
                );
            }
        }
    }
    cases.end(110);
}

#[test]
fn a_broker_serves_on_every_damaged_table() {
    let healthy = healthy();
    let mut cases = Cases::default();
    for stopped in STOPS {
        for name in [
            "topics",
            "subscriptionGroup",
            "consumerOffset",
            "delayOffset",
        ] {
            for damage in DAMAGES {
                for with_backup in [true, false] {
                    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ cases.count);
                    let backup = if with_backup {
                        "its backup"
                    } else {
                        "no backup"
                    };
                    cases.run(format!("{stopped:?} {name} {damage:?}, {backup}"), |what| {
                        table(
                            &healthy,
                            stopped,
                            what,
                            (name, damage, with_backup),
                            &mut random,
                        );
                    });
                }
            }
            // Neither the table nor its backup is one.
            cases.run(format!("{stopped:?} {name} and its backup"), |what| {
                let file = format!("config/{name}.json");
                let apply = |root: &Path| {
                    fs::write(root.join(&file), "no table").unwrap();
                    fs::write(root.join(format!("{file}.bak")), "").unwrap();
                };
                let errors = case(&healthy, stopped, what, apply, |_| {});
                let named = errors.iter().filter(|line| line.contains(&file)).count();
                assert_eq!(named, 2, "{what}: {errors:?}");
            });
        }
    }
    cases.end(88);
}

fn table(
    healthy: &Healthy,
    stopped: Stopped,
    what: &str,
    (name, damage, with_backup): (&str, Damage, bool),
    random: &mut Random,
) {
    let file = format!("config/{name}.json");
    let apply = |root: &Path| {
        damage.apply(&root.join(&file), random);
        if !with_backup {
            fs::remove_file(root.join(format!("{file}.bak"))).unwrap();
        }
    };
    let errors = case(healthy, stopped, what, apply, |_| {});
    if damage == Damage::Missing {
        return;
    }
    let is_named = |line: &&String| {
        line.contains(&file) && line.contains("quarantine") && line.contains("why=")
    };
    let named = errors.iter().filter(is_named).count();
    assert_eq!(named, 1, "{what}: {errors:?}");
}

#[test]
fn a_broker_serves_beside_strange_files_and_with_other_sizes_and_marks() {
    let healthy = healthy();
    let mut cases = Cases::default();
    for stopped in STOPS {
        for stray in [
            "commitlog/00000000000000000000.tmp",
            "commitlog/00000000000000000007",
            "consumequeue/orders/0/00000000000000000013",
            "consumequeue/orders/notes",
            "index/20990101000000000",
            "checkpoint.tmp",
            "gantry.deleted",
            "config/topics.json.tmp",
            "config/consumerFilter.json",
            "quarantine/notes",
        ] {
            cases.run(format!("{stopped:?} beside {stray}"), |what| {
                let apply = |root: &Path| {
                    let path = root.join(stray);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, b"does not belong here").unwrap();
                };
                case(&healthy, stopped, what, apply, |_| {});
            });
        }
        for (segment, queue_file, entries) in [
            (SEGMENT * 2, QUEUE_FILE, 30),
            (SEGMENT / 2, QUEUE_FILE, 30),
            (SEGMENT, QUEUE_FILE * 3, 30),
            (SEGMENT, QUEUE_FILE / 2, 30),
            (SEGMENT, QUEUE_FILE, 20),
        ] {
            cases.run(
                format!("{stopped:?} sizes {segment}, {queue_file}, {entries}"),
                |what| {
                    case(
                        &healthy,
                        stopped,
                        what,
                        |_| {},
                        |config| {
                            config.store.mapped_file_size_commit_log = segment;
                            config.store.mapped_file_size_consume_queue = queue_file;
                            config.store.max_index_num = entries;
                        },
                    );
                },
            );
        }
        cases.run(format!("{stopped:?} with the other mark"), |what| {
            let apply = |root: &Path| match stopped {
                Stopped::Cleanly => fs::write(root.join("abort"), b"").unwrap(),
                Stopped::ByKill => fs::remove_file(root.join("abort")).unwrap(),
            };
            case(&healthy, stopped, what, apply, |_| {});
        });
    }
    cases.end(32);
}
