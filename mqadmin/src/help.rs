//! Help texts, laid out as commons-cli lays them out, byte for byte: width 110, options by letter; and from the same table
//! the manual page and shell completions.

use std::fmt::Write as _;

use gantry_manual::{self as manual, Chapter, Kind, Manual, Opt, Value};

use crate::{
    arguments::{COMMON, Need, OptionSpec},
    table::{COMMANDS, Command},
};

const WIDTH: usize = 110;
/// Continuation lines of the usage begin under the word after `usage: `.
const USAGE_INDENT: usize = 7;

/// The list of commands that `mqadmin` alone prints.
pub fn overview() -> String {
    let mut text = String::from("The most commonly used mqadmin commands are:\n");
    for command in COMMANDS.iter().filter(|command| !command.own) {
        let _ = writeln!(text, "   {:<20} {}", command.name, command.about);
    }
    text.push_str("\nSee 'mqadmin help <command>' for more information on a specific command.\n");
    text
}

/// What `mqadmin --version` prints, in the words of the daemons.
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("mqadmin {version} (Gantry, RocketMQ 4.9 protocol)\n")
}

/// What of the list this version has, for a note beside it.
pub fn available() -> String {
    let here = |own: bool| {
        let all = COMMANDS.iter().filter(|command| command.run.is_some());
        let names = all.filter(|command| command.own == own).map(|it| it.name);
        names.collect::<Vec<_>>().join(" ")
    };
    format!(
        "of these, this version has: {}; of its own: {}",
        here(false),
        here(true)
    )
}

/// The same table as a manual page or a completion: commands of this version only.
pub fn manual(kind: Kind) -> String {
    let opt = |option: OptionSpec| Opt {
        short: Some(option.short),
        long: option.long,
        value: match option.takes_value {
            true => Value::Text("VALUE"),
            false => Value::None,
        },
        about: match option.need {
            Need::Required => format!("{} (required)", option.about),
            Need::OneOf => format!("{} (one of these is required)", option.about),
            Need::Optional => option.about.to_owned(),
        },
    };
    let command = |command: &Command| manual::Command {
        name: command.name,
        about: command.about.to_owned(),
        words: Vec::new(),
        options: sorted(command).into_iter().map(opt).collect(),
    };
    let exit = [
        ("0", "All went well."),
        (
            "1",
            "Something failed, wrong usage included; stderr says what.",
        ),
    ];
    let page = Manual {
        name: "mqadmin".into(),
        section: 1,
        about: "looks at clusters of RocketMQ 4.x and changes them".into(),
        version: env!("CARGO_PKG_VERSION"),
        synopsis: ["COMMAND [OPTIONS]", "help COMMAND", "--version"]
            .map(String::from)
            .into(),
        description: vec![
            "Works with name servers and brokers of Gantry and of Apache RocketMQ 4.x. Commands, options and output are those of \
             Apache's tool. Results go to stdout, what went wrong to stderr."
                .into(),
            "Every command needs to know a name server: -n, else the variable NAMESRV_ADDR.".into(),
        ],
        options: Vec::new(),
        commands: COMMANDS
            .iter()
            .filter(|command| command.run.is_some())
            .map(command)
            .collect(),
        chapters: vec![Chapter {
            title: "EXIT STATUS".into(),
            text: Vec::new(),
            items: exit.map(|(code, text)| (code.into(), text.into())).into(),
        }],
        see_also: vec!["mqbroker(8)", "mqnamesrv(8)", "mqbench(1)"],
    };
    page.write(kind)
}

/// All options of a command, by letter.
fn sorted(command: &Command) -> Vec<OptionSpec> {
    // A command may have words of its own for a common option.
    let is_own = |common: &&OptionSpec| command.options.iter().any(|own| own.short == common.short);
    let common = COMMON.iter().filter(|common| !is_own(common));
    let mut options: Vec<OptionSpec> = command.options.iter().chain(common).copied().collect();
    options.sort_by_key(|option| (option.short.to_ascii_lowercase(), option.short));
    options
}

/// The help of one command.
pub fn of(command: &Command) -> String {
    let options = sorted(command);
    let mut text = wrapped(&usage(command.name, &options), USAGE_INDENT);
    let column = options
        .iter()
        .map(|option| label(option).len())
        .max()
        .unwrap_or(0)
        + 3;
    for option in &options {
        text.push_str(&wrapped(
            &format!("{:<column$}{}", label(option), option.about),
            column,
        ));
    }
    text
}

fn usage(name: &str, options: &[OptionSpec]) -> String {
    let mut words = Vec::new();
    let mut group_printed = false;
    for option in options {
        let word = format!(
            "-{}{}",
            option.short,
            if option.takes_value { " <arg>" } else { "" }
        );
        match option.need {
            Need::Optional => words.push(format!("[{word}]")),
            Need::Required => words.push(word),
            Need::OneOf if group_printed => words.push(String::new()),
            Need::OneOf => {
                group_printed = true;
                let group = options.iter().filter(|option| option.need == Need::OneOf);
                let members: Vec<_> = group
                    .map(|option| format!("-{} <arg>", option.short))
                    .collect();
                words.push(members.join(" | "));
            }
        }
    }
    format!("usage: mqadmin {name} {}", words.join(" "))
}

fn label(option: &OptionSpec) -> String {
    format!(
        " -{},--{}{}",
        option.short,
        option.long,
        if option.takes_value { " <arg>" } else { "" }
    )
}

/// Lines of at most `WIDTH`, broken at blanks, all but the first indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut rest = text.to_owned();
    while rest.len() > WIDTH {
        let at = rest
            .get(..=WIDTH)
            .and_then(|line| line.rfind(' '))
            .filter(|&at| at >= indent);
        let at = at.unwrap_or(WIDTH);
        let (line, after) = rest.split_at_checked(at).unwrap_or((&rest, ""));
        lines.push_str(line.trim_end());
        lines.push('\n');
        rest = format!("{:indent$}{}", "", after.trim());
    }
    lines.push_str(rest.trim_end());
    lines.push('\n');
    lines
}
