//! mqadmin, ours and Apache's, on our servers and on Apache's: however the commands are run, they must print
//! the same, figures aside.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use gantry_e2e::frame::Wire;
use gantry_e2e::mqadmin::mqadmin;
use gantry_e2e::programs::room;
use gantry_e2e::server::{Make, Server};
use gantry_e2e::transcript::compare;
use gantry_e2e::wait::{Turn, until};
use serde_json::json;

/// Every command, in an order in which one prepares the next. `ADDRESS` is the broker's, `ID` that of a stored message.
const COMMANDS: &[&str] = &[
    "clusterList",
    "clusterList -m",
    "updateTopic -c DefaultCluster -t made-by-cluster -r 4 -w 2",
    "updateTopic -b ADDRESS -t made-by-address -r 3 -w 3 -p 4",
    "updateTopic -b ADDRESS -t bad/name",
    "updateTopic -b ADDRESS -t TBW102",
    "updateTopic -c NoSuchCluster -t nowhere",
    "updateTopic -t incomplete",
    "topicList",
    "topicList -c",
    "topicRoute -t made-by-cluster",
    "topicRoute -t unknown-topic",
    "sendMessage -t made-by-cluster -p hello -k key1 -c tagA -b broker-a -i 0",
    "sendMessage -t made-by-cluster -p again -b broker-a -i 1",
    "sendMessage -t made-by-cluster",
    "topicStatus -t made-by-cluster",
    "topicStatus -t unknown-topic",
    "queryMsgById -i ID",
    "queryMsgById -i 7F00000100002A9F00000000000FFFFF",
    "updateSubGroup -c DefaultCluster -g group-1 -s true -r 3",
    "updateSubGroup -b ADDRESS -g group-2 -d false",
    "updateSubGroup -g incomplete",
    "consumerConnection -g online-group",
    "consumerConnection -g offline-group",
    "consumerProgress -g online-group",
    "consumerProgress -g offline-group",
    "consumerProgress",
    "brokerStatus -b ADDRESS",
    "brokerStatus -c DefaultCluster",
    "cleanExpiredCQ -b ADDRESS",
    "cleanExpiredCQ -c DefaultCluster",
    "cleanExpiredCQ -c NoSuchCluster",
    "deleteExpiredCommitLog",
    "deleteExpiredCommitLog -b ADDRESS",
    "deleteExpiredCommitLog -c NoSuchCluster",
    "cleanUnusedTopic",
    "cleanUnusedTopic -b ADDRESS",
    "topicStatus -t made-by-cluster",
    "deleteTopic -c DefaultCluster -t made-by-address",
    "deleteTopic -t incomplete",
    "topicList",
    "updateTopic",
];

/// What Apache's tool reports as done and ours as the failure that it is.
const WORDED_ANEW: &[&str] = &["updateTopic -c NoSuchCluster -t nowhere"];

struct Site {
    name_server: Server,
    broker: Server,
    /// The consumer that is online, as long as its connection is open.
    _consumer: Wire,
}

impl Site {
    fn open(make: Make, room: &Path) -> Result<Site> {
        let name_server = Server::name_server(make, room, "namesrv")?;
        let broker = Server::broker(make, room, "broker-a", &[&name_server], &[])?;
        let mut consumer = broker.wire()?;
        let beat = json!({
            "clientID": "127.0.0.1@online",
            "producerDataSet": [],
            "consumerDataSet": [{
                "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET", "consumeType": "CONSUME_PASSIVELY",
                "groupName": "online-group", "messageModel": "CLUSTERING", "unitMode": false,
                "subscriptionDataSet": [{
                    "classFilterMode": false, "codeSet": [2_598_919], "expressionType": "TAG", "subString": "tagA",
                    "subVersion": 1_700_000_000_000_u64, "tagsSet": ["tagA"], "topic": "made-by-cluster",
                }],
            }],
        });
        consumer
            .call(34, &[], beat.to_string().as_bytes())?
            .success()?;
        Ok(Site {
            name_server,
            broker,
            _consumer: consumer,
        })
    }

    /// Runs every command and returns what each printed, made comparable.
    fn run(&self, tool: Make, room: &Path) -> Result<BTreeMap<String, String>> {
        let address = self.broker.address();
        let mut id = "none".to_owned();
        let mut printed = BTreeMap::new();
        for (number, command) in COMMANDS.iter().enumerate() {
            let line = command.replace("ADDRESS", &address).replace("ID", &id);
            let args: Vec<&str> = line.split_whitespace().collect();
            let output = mqadmin(tool, room, &self.name_server.address(), &args)
                .with_context(|| format!("mqadmin {line}"))?;
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            if *command == "consumerProgress -g online-group" {
                self.commit()?; // the next commands have something to show
            }
            if command.starts_with("sendMessage") && command.contains("key1") {
                id = self.stored_id()?;
            }
            let shown = if tool == Make::Gantry && WORDED_ANEW.contains(command) {
                ensure!(
                    !output.status.success(),
                    "{command} ended with {}",
                    output.status
                );
                continue;
            } else {
                normalised(&stdout, command)
            };
            printed.insert(format!("{number:02} {command}"), shown);
        }
        Ok(printed)
    }

    /// The id of the first message of the topic, as it lies in a queue.
    fn stored_id(&self) -> Result<String> {
        let mut id = None;
        until("the message in its queue", || {
            for queue in 0..2 {
                let mut wire = self.broker.wire()?;
                let records =
                    gantry_e2e::ledger::read_queue(&mut wire, "made-by-cluster", queue, 1)?;
                if let Some(record) = records.first() {
                    let port = u32::from(self.broker.port());
                    id = Some(format!("7F000001{port:08X}{:016X}", record.log_offset));
                }
            }
            Ok(id.is_some())
        })?;
        id.context("no id")
    }

    fn commit(&self) -> Result<()> {
        let fields = [
            ("consumerGroup", "online-group"),
            ("topic", "made-by-cluster"),
            ("queueId", "0"),
            ("commitOffset", "0"),
        ];
        self.broker
            .wire()?
            .call(15, &fields, &[])?
            .success()
            .map(drop)
    }
}

/// Without addresses, ids, times, and the figures that differ from one run to the next.
fn normalised(text: &str, command: &str) -> String {
    let mut lines: Vec<String> = if command.starts_with("brokerStatus") {
        // Ours has more to say.
        let names = text.lines().map(figure_name);
        let is_ours = |name: &String| name.split(' ').any(|word| word.starts_with("gantry"));
        names.filter(|name| !is_ours(name)).collect()
    } else {
        text.lines()
            .map(|line| mask(line, command.starts_with("clusterList")))
            .collect()
    };
    if command.starts_with("topicList") || command.starts_with("consumerProgress") {
        lines.sort(); // a hash map's order, in Java
        // Apache's broker makes them when it looks for open transactions, a minute after its start.
        lines.retain(|line| !line.contains("RMQ_SYS_TRANS_"));
    }
    lines.join("\n") + "\n"
}

/// Of a line `name : value` the name; a folder in the name is the test's.
fn figure_name(line: &str) -> String {
    let name = mask(line.split(" :").next().unwrap_or(line), false);
    name.split('/').next().unwrap_or_default().to_owned()
}

/// A map's text, as Java prints it, in the order of its keys.
fn sorted_map(line: &str) -> Option<String> {
    let (name, map) = line.split_once('{')?;
    let mut entries: Vec<&str> = map.strip_suffix('}')?.split(", ").collect();
    entries.sort_unstable();
    let masked: Vec<String> = entries
        .iter()
        .map(|entry| match entry.split_once('=') {
            Some(("UNIQ_KEY", _)) => "UNIQ_KEY=<id>".to_owned(),
            _ => (*entry).to_owned(),
        })
        .collect();
    Some(format!("{}{{{}}}", mask(name, false), masked.join(", ")))
}

/// Addresses, ids and times become names, runs of blanks count as one; with `figures` a word that holds a digit
/// becomes `#`.
fn mask(line: &str, figures: bool) -> String {
    if line.starts_with("Properties:")
        && let Some(text) = sorted_map(line)
    {
        return text;
    }
    if let Some(folder) = line.strip_prefix("Message Body Path:") {
        let parent = folder
            .trim()
            .rsplit_once('/')
            .map_or("", |(parent, _)| parent);
        return format!("Message Body Path: {parent}/<id>");
    }
    let words = line.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| "[](){},;\"".contains(c));
        if bare.contains("127.0.0.1:") {
            "<address>".to_owned()
        } else if bare.len() >= 32 && bare.chars().all(|c| c.is_ascii_hexdigit()) {
            "<id>".to_owned()
        } else if bare.starts_with("V4_9_") {
            "<version>".to_owned()
        } else if is_time(bare) {
            "<time>".to_owned()
        } else if figures && bare.chars().any(|c| c.is_ascii_digit()) {
            "#".to_owned()
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A date, a time of day, or milliseconds since 1970.
fn is_time(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let rest_is = |set: &str| word.chars().all(|c| c.is_ascii_digit() || set.contains(c));
    (digits == 13 && rest_is("")) || (digits >= 8 && rest_is("-:,.")) && word.len() > digits
}

#[test]
fn fifteen_commands_print_the_same() -> Result<()> {
    let _turn = Turn::wait();
    let room = room("mqadmin")?;
    // Each pair of tool and servers has servers of its own: the commands change them.
    let pairs = [
        (Make::Apache, Make::Apache),
        (Make::Apache, Make::Gantry),
        (Make::Gantry, Make::Gantry),
        (Make::Gantry, Make::Apache),
    ];
    let printed: Vec<Result<BTreeMap<String, String>>> = thread::scope(|scope| {
        let runs: Vec<_> = pairs
            .iter()
            .enumerate()
            .map(|(number, (tool, servers))| {
                let room = room.path().join(number.to_string());
                scope.spawn(move || Site::open(*servers, &room)?.run(*tool, &room))
            })
            .collect();
        runs.into_iter()
            .map(|run| run.join().map_err(|_| anyhow!("a run panicked"))?)
            .collect()
    });
    let mut printed = printed.into_iter();
    let mut next = |which: &str| {
        printed
            .next()
            .context("too few runs")?
            .context(which.to_owned())
    };
    let reference = next("Apache's mqadmin on Apache's servers")?;
    let mut expected_of_ours = reference.clone();
    expected_of_ours.retain(|command, _| !WORDED_ANEW.iter().any(|other| command.ends_with(other)));
    let mut report = String::new();
    for (which, expected) in [
        ("Apache's mqadmin on our servers", &reference),
        ("our mqadmin on our servers", &expected_of_ours),
        ("our mqadmin on Apache's servers", &expected_of_ours),
    ] {
        if let Err(e) = compare(expected, &next(which)?) {
            report += &format!("{which}: {e:#}\n");
        }
    }
    ensure!(report.is_empty(), "{report}");
    Ok(())
}

/// Apache's tool ends with 0 whatever happens; ours tells scripts the truth.
#[test]
fn a_failed_command_has_a_non_zero_exit_status() -> Result<()> {
    let room = room("mqadmin-status")?;
    let site = Site::open(Make::Gantry, room.path())?;
    for (command, good) in [
        ("clusterList", true),
        ("topicRoute -t unknown-topic", false),
        ("updateTopic -t incomplete", false),
        ("queryMsgById -i 7F00000100002A9F00000000000FFFFF", false),
        ("noSuchCommand", false),
    ] {
        let args: Vec<&str> = command.split_whitespace().collect();
        let output = mqadmin(
            Make::Gantry,
            room.path(),
            &site.name_server.address(),
            &args,
        )?;
        ensure!(
            output.status.success() == good,
            "mqadmin {command} ended with {}",
            output.status
        );
    }
    let output = mqadmin(Make::Gantry, room.path(), "127.0.0.1:1", &["clusterList"])?;
    ensure!(
        !output.status.success(),
        "without a name server it ended with {}",
        output.status
    );
    Ok(())
}
