//! `mqbroker store`: options, help, and what goes to stdout, to stderr and into the exit code.
//!
//! Exit codes are an interface: 0 healthy or done, 1 faults were found (and after a repair: are left), 2 it could not be
//! done. What a configuration file says comes from the caller, because its keys are the broker's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use gantry_disk::OsDisk;

use crate::check::{CheckOptions, check};
use crate::dump::{self, Bodies, Form};
use crate::export;
use crate::messages::{ReadTotals, Selection};
use crate::progress::Progress;
use crate::repair::{Mode, repair};
use crate::report::Report;
use crate::target::{DoctorError, Shape, Target, holder_text};

/// All is well, or done.
pub const HEALTHY: u8 = 0;
/// Faults were found.
pub const FAULTS: u8 = 1;
/// It could not be done: no such directory, a broker works on it, the system refused, options that make no sense.
pub const NOT_DONE: u8 = 2;

/// What a configuration file says of a store.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    /// `storePathRootDir`.
    pub root: PathBuf,
    /// Everything else.
    pub shape: Shape,
}

/// Reads a broker's configuration file.
pub type Configure<'a> = &'a dyn Fn(&str) -> Result<Configured, String>;

/// One option of a command.
struct Flag {
    name: &'static str,
    /// Name of its value in the help; empty for a switch.
    value: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, value, help }
}

const PLACE: &[Flag] = &[
    flag(
        "-c",
        "FILE",
        "the broker's configuration: paths, sizes of files, delay levels",
    ),
    flag(
        "--commitlog",
        "DIR[,DIR]",
        "the directories of the log [commitlog below DIR]",
    ),
];

const SELECTION: &[Flag] = &[
    flag("--from", "N", "from this log offset on"),
    flag("--to", "N", "up to this log offset"),
    flag("--topic", "T", "messages of this topic"),
    flag("--queue", "N", "messages of this queue"),
    flag("--key", "K", "messages with this key or unique key"),
    flag("--limit", "N", "at most so many"),
];

const OUTPUT: &[Flag] = &[flag(
    "--output",
    "text|json",
    "for people or for scripts [text]",
)];

/// A command.
struct Command {
    name: &'static str,
    about: &'static str,
    flags: &'static [&'static [Flag]],
    /// Paragraphs below the options.
    more: &'static str,
    run: fn(&Call<'_>, &mut Streams<'_>) -> Result<u8, DoctorError>,
}

/// The names of all commands.
pub fn names() -> Vec<&'static str> {
    COMMANDS.iter().map(|command| command.name).collect()
}

const COMMANDS: &[Command] = &[
    Command {
        name: "check",
        about: "looks at everything in a store and names what is damaged; changes nothing",
        flags: &[
            PLACE,
            OUTPUT,
            &[
                flag("--live", "", "look although a broker works on the store"),
                flag(
                    "--max-findings",
                    "N",
                    "list at most so many faults, and as many notes [1000]",
                ),
            ],
        ],
        more: "Exit code: 0 healthy, 1 faults, 2 it could not look at everything.\n\n\
               Examples:\n\
               \x20 mqbroker store check ~/store\n\
               \x20 mqbroker store check -c /etc/gantry/broker/a.properties --output json > report.json\n\
               \x20 mqbroker store check /data/store --commitlog /disk1/commitlog,/disk2/commitlog\n",
        run: run_check,
    },
    Command {
        name: "dump",
        about: "shows messages, queue entries, index files or checkpoints; changes nothing",
        flags: &[
            PLACE,
            OUTPUT,
            SELECTION,
            &[
                flag("--body", "", "show bodies"),
                flag(
                    "--what",
                    "records|queue|index|checkpoint",
                    "what to show [records]; of a queue --from and --to are numbers in the queue",
                ),
            ],
        ],
        more: "Examples:\n\
               \x20 mqbroker store dump ~/store --topic Orders --key 4711 --body\n\
               \x20 mqbroker store dump ~/store --from 1073741824 --limit 20\n\
               \x20 mqbroker store dump ~/store --what queue --topic Orders --queue 0 --from 100 --to 110\n\
               \x20 mqbroker store dump ~/store --what index --topic Orders --key 4711\n\
               \x20 mqbroker store dump ~/store --what checkpoint\n",
        run: run_dump,
    },
    Command {
        name: "export",
        about: "saves messages as JSON lines, past any damage; changes nothing in the store",
        flags: &[
            PLACE,
            SELECTION,
            &[
                flag(
                    "--file",
                    "FILE",
                    "write to this file, which must not be there yet [stdout]",
                ),
                flag("--resume", "", "go on with FILE behind its last whole line"),
            ],
        ],
        more: "Each line has the body (base64, as it is stored), properties, ids and the log offset. The last line on stderr\n\
               says where to go on. Exit code: 0 all of it, 1 parts of the log could not be read, 2 it could not be done.\n\n\
               Examples:\n\
               \x20 mqbroker store export ~/store --file orders.jsonl --topic Orders\n\
               \x20 mqbroker store export ~/store --file orders.jsonl --topic Orders --resume\n\
               \x20 mqbroker store export ~/store --from 1073741824 --to 2147483648 | gzip > part.jsonl.gz\n",
        run: run_export,
    },
    Command {
        name: "repair",
        about: "makes a store good again; whatever it drops is kept in quarantine/",
        flags: &[
            PLACE,
            &[flag("--dry-run", "", "only say what would be done")],
        ],
        more: "Examines the store, replaces tables that cannot be read by their backups, makes damaged queues and indexes again\n\
               from the log, and recovers the log as the start of a broker does. No broker may work on the store. Exit code: 0\n\
               the store is healthy now, 1 faults are left (or, with --dry-run, there), 2 it could not be done.\n\n\
               Examples:\n\
               \x20 mqbroker store repair ~/store --dry-run\n\
               \x20 mqbroker store repair ~/store\n",
        run: run_repair,
    },
];

/// Where output goes.
struct Streams<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

/// A command line, understood.
struct Call<'a> {
    given: BTreeMap<&'static str, String>,
    dir: Option<PathBuf>,
    configure: Configure<'a>,
}

/// Runs `store` with its arguments. Returns the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = String>,
    configure: Configure<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let is_asked = ["-h", "--help", "help"].contains(&name.as_str());
        return if is_asked {
            print(out, &overview(), HEALTHY)
        } else {
            let known = if name.is_empty() {
                String::new()
            } else {
                format!("mqbroker store: no command {name}\n")
            };
            print(err, &format!("{known}{}", overview()), NOT_DONE)
        };
    };
    let call = match parse(command, arguments, configure) {
        Ok(Some(call)) => call,
        Ok(None) => return print(out, &help(command), HEALTHY),
        Err(error) => {
            let text = format!("mqbroker store {name}: {error} (mqbroker store {name} --help)\n");
            return print(err, &text, NOT_DONE);
        }
    };
    let mut streams = Streams { out, err };
    let done = (command.run)(&call, &mut streams).and_then(|code| {
        let flushed = streams.out.flush();
        flushed
            .map_err(DoctorError::io("write", Path::new("the output")))
            .map(|()| code)
    });
    match done {
        Ok(code) => code,
        // Whoever reads has seen enough.
        Err(DoctorError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            HEALTHY
        }
        Err(error) => print(
            streams.err,
            &format!("mqbroker store {name}: {error}\n"),
            NOT_DONE,
        ),
    }
}

/// Says something and ends with `code`. A closed stream is nobody's concern.
fn print(to: &mut dyn Write, text: &str, code: u8) -> u8 {
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
    code
}

fn overview() -> String {
    let mut text = "usage: mqbroker store COMMAND DIR [OPTIONS]\n\n\
                    Looks into the store of a broker that is stopped, Apache's or Gantry's. DIR is its storePathRootDir.\n\n"
        .to_owned();
    for command in COMMANDS {
        let _ = writeln!(text, "  {:<8} {}", command.name, command.about);
    }
    text.push_str("\nmqbroker store COMMAND --help explains a command.\n");
    text
}

fn help(command: &Command) -> String {
    let mut text = format!(
        "usage: mqbroker store {0} DIR [OPTIONS]\n\n{1}.\n\n",
        command.name, command.about
    );
    for flag in command.flags.iter().copied().flatten() {
        let left = format!("{} {}", flag.name, flag.value);
        let _ = writeln!(text, "  {left:<38} {}", flag.help);
    }
    let _ = write!(text, "  {:<38} this text\n\n{}", "--help", command.more);
    text
}

/// `None`: help is asked for.
fn parse<'a>(
    command: &Command,
    arguments: impl Iterator<Item = String>,
    configure: Configure<'a>,
) -> Result<Option<Call<'a>>, String> {
    let mut call = Call {
        given: BTreeMap::new(),
        dir: None,
        configure,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "-h" || argument == "--help" {
            return Ok(None);
        }
        if !argument.starts_with('-') {
            if call.dir.replace(PathBuf::from(&argument)).is_some() {
                return Err(format!("{argument}: there is a directory already"));
            }
            continue;
        }
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut flags = command.flags.iter().copied().flatten();
        let flag = flags
            .find(|flag| flag.name == name)
            .ok_or_else(|| format!("unknown option {name}"))?;
        let value = match inline {
            Some(_) if flag.value.is_empty() => return Err(format!("{name} takes no value")),
            Some(value) => value,
            None if flag.value.is_empty() => String::new(),
            None => arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value: {}", flag.value))?,
        };
        call.given.insert(flag.name, value);
    }
    Ok(Some(call))
}

impl Call<'_> {
    fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, DoctorError> {
        let Some(text) = self.given.get(name) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            DoctorError::Usage(format!("{name} {text} is not a number that can be"))
        })?;
        Ok(Some(number))
    }

    fn word<'w>(&self, name: &str, words: &'w [&'w str]) -> Result<&'w str, DoctorError> {
        let given = self.given.get(name).map(String::as_str);
        let word = given.unwrap_or(words[0]);
        words
            .iter()
            .copied()
            .find(|known| *known == word)
            .ok_or_else(|| {
                DoctorError::Usage(format!("{name} {word} is none of {}", words.join(", ")))
            })
    }

    fn form(&self) -> Result<Form, DoctorError> {
        Ok(match self.word("--output", &["text", "json"])? {
            "json" => Form::Json,
            _ => Form::Text,
        })
    }

    fn selection(&self) -> Result<Selection, DoctorError> {
        Ok(Selection {
            from: self.number("--from")?,
            to: self.number("--to")?,
            topic: self.given.get("--topic").cloned(),
            queue: self.number("--queue")?,
            key: self.given.get("--key").cloned(),
            limit: self.number("--limit")?,
        })
    }

    fn target(&self) -> Result<Target, DoctorError> {
        let mut configured = match self.given.get("-c") {
            Some(file) => (self.configure)(file).map_err(DoctorError::Usage)?,
            None => Configured::default(),
        };
        if let Some(dirs) = self.given.get("--commitlog") {
            configured.shape.log_dirs = dirs.split(',').map(PathBuf::from).collect();
        }
        let root = match &self.dir {
            Some(dir) => dir.clone(),
            None if self.has("-c") => configured.root,
            None => {
                let text = "which store? Give its directory or -c FILE";
                return Err(DoctorError::Usage(text.to_owned()));
            }
        };
        Target::new(Arc::new(OsDisk), &root, configured.shape)
    }
}

fn run_check(call: &Call<'_>, to: &mut Streams<'_>) -> Result<u8, DoctorError> {
    let form = call.form()?;
    let options = CheckOptions {
        limit: call
            .number("--max-findings")?
            .unwrap_or(CheckOptions::default().limit),
        live: call.has("--live"),
    };
    let report = check(&call.target()?, options, &Progress::on_terminal())?;
    match print_report(to.out, &report, form).and_then(|()| to.out.flush()) {
        // Whoever reads has seen enough; the verdict stands.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed.map_err(DoctorError::io("write", Path::new("the output")))?,
    }
    Ok(report.exit_code())
}

fn print_report(out: &mut dyn Write, report: &Report, form: Form) -> io::Result<()> {
    match form {
        Form::Text => write!(out, "{report}"),
        Form::Json => {
            serde_json::to_writer_pretty(&mut *out, report)?;
            writeln!(out)
        }
    }
}

fn run_dump(call: &Call<'_>, to: &mut Streams<'_>) -> Result<u8, DoctorError> {
    let what = call.word("--what", &["records", "queue", "index", "checkpoint"])?;
    let (form, selection) = (call.form()?, call.selection()?);
    let target = call.target()?;
    warn_of_broker(&target, to.err)?;
    let bodies = if call.has("--body") {
        Bodies::Shown
    } else {
        Bodies::Hidden
    };
    match what {
        "queue" => dump::queue(&target, &selection, form, to.out)?,
        "index" => dump::index(&target, &selection, form, to.out)?,
        "checkpoint" => dump::checkpoint(&target, form, to.out)?,
        _ => {
            let hidden = Progress::hidden();
            dump::records(&target, &selection, (form, bodies), to.out, &hidden)?;
        }
    }
    Ok(HEALTHY)
}

fn run_export(call: &Call<'_>, to: &mut Streams<'_>) -> Result<u8, DoctorError> {
    let selection = call.selection()?;
    let target = call.target()?;
    warn_of_broker(&target, to.err)?;
    let err = &mut *to.err;
    let mut left = false;
    let mut complain = |text: &str| {
        left = true;
        let _ = writeln!(err, "{text}");
    };
    let totals: ReadTotals = match (call.given.get("--file"), call.has("--resume")) {
        (Some(file), false) => {
            let progress = Progress::on_terminal();
            export::to_new_file(
                &target,
                &selection,
                Path::new(file),
                &mut complain,
                &progress,
            )?
        }
        (Some(file), true) => {
            let progress = Progress::on_terminal();
            export::resume(
                &target,
                &selection,
                Path::new(file),
                &mut complain,
                &progress,
            )?
        }
        (None, true) => {
            return Err(DoctorError::Usage("--resume needs --file".to_owned()));
        }
        (None, false) => {
            let hidden = Progress::hidden();
            export::export(&target, &selection, to.out, &mut complain, &hidden)?
        }
    };
    let ReadTotals { messages, next, .. } = totals;
    let _ = writeln!(to.err, "{messages} messages; go on with --from {next}");
    Ok(if left { FAULTS } else { HEALTHY })
}

fn run_repair(call: &Call<'_>, to: &mut Streams<'_>) -> Result<u8, DoctorError> {
    let mode = if call.has("--dry-run") {
        Mode::DryRun
    } else {
        Mode::ForReal
    };
    let report = repair(&call.target()?, mode, to.out, &Progress::on_terminal())?;
    let text = match report.exit_code() {
        HEALTHY => "the store is healthy",
        FAULTS => "the store has faults",
        _ => "not everything could be looked at",
    };
    // What was done was done, whoever listens.
    let _ = writeln!(to.out, "{text}").and_then(|()| to.out.flush());
    Ok(report.exit_code())
}

fn warn_of_broker(target: &Target, err: &mut dyn Write) -> Result<(), DoctorError> {
    if let Some(holder) = target.live()? {
        let _ = writeln!(
            err,
            "a broker ({}) works on this store: what it is writing at this moment may look damaged",
            holder_text(holder)
        );
    }
    Ok(())
}
