//! The manual pages of a daemon: its options, signals and exit codes, and the settings of its file, all from their tables.

use gantry_config::{Settings, document, options};
use gantry_manual::{Chapter, Command, Kind, Manual};

use crate::exit::{BAD_CONFIG, FAILED, OK};
use crate::startup::{self, Program};

/// What `--generate` prints.
pub fn text<C: Settings>(program: &Program<C>, kind: Kind) -> String {
    match kind {
        Kind::Settings => settings(program).write(kind),
        Kind::Page | Kind::Bash | Kind::Zsh | Kind::Fish => daemon(program).write(kind),
    }
}

fn daemon<C>(program: &Program<C>) -> Manual {
    let list = |items: &[(&str, &str)]| {
        let own = |(term, text): &(&str, &str)| ((*term).to_owned(), (*text).to_owned());
        items.iter().map(own).collect()
    };
    let chapter = |title: &str, items| Chapter {
        title: title.to_owned(),
        text: Vec::new(),
        items,
    };
    let exit = [
        (
            OK,
            "It was asked to stop and stopped in order, or what was asked for is printed.",
        ),
        (
            FAILED,
            "It failed, at the start or later; trying again may help.",
        ),
        (
            BAD_CONFIG,
            "The configuration is bad, or the host does not permit what it asks for (files of another user, folders that cannot be \
             written, ports below 1024): that must change first. The units do not start it again then.",
        ),
    ];
    let exit = exit
        .iter()
        .map(|(code, text)| (code.to_string(), (*text).to_owned()))
        .collect();
    let signals = list(&[
        ("SIGTERM, SIGINT", "Stop in order."),
        (
            "SIGHUP",
            "Read the configuration again and take up what may change while it runs; the log names what needs a restart.",
        ),
        ("SIGUSR1, SIGUSR2", "Nothing."),
    ]);
    let calls = program.commands.iter();
    let calls = calls.map(|command| format!("{} {}", command.name, command.usage));
    Manual {
        name: program.name.to_owned(),
        section: 8,
        about: program.about.to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        synopsis: std::iter::once("[OPTIONS]".to_owned())
            .chain(calls)
            .collect(),
        description: program
            .description
            .iter()
            .map(|text| (*text).to_owned())
            .collect(),
        options: options::described(),
        commands: program.commands.iter().map(command).collect(),
        chapters: vec![
            chapter("SIGNALS", signals),
            chapter("EXIT STATUS", exit),
            chapter("FILES", list(program.files)),
        ],
        see_also: program.see_also.to_vec(),
    }
}

fn command(command: &startup::Command) -> Command {
    Command {
        name: command.name,
        about: command.about.to_owned(),
        words: (command.words)(),
        options: (command.options)(),
    }
}

fn settings<C: Settings>(program: &Program<C>) -> Manual {
    let name = program.name;
    Manual {
        name: format!("{name}.toml"),
        section: 5,
        about: format!("settings of {name}"),
        version: env!("CARGO_PKG_VERSION"),
        synopsis: Vec::new(),
        description: vec![
            format!(
                "The file that {name} reads with -c: TOML without tables if its name ends in .toml, else a .properties file as \
                 RocketMQ writes it, with the same keys."
            ),
            "An unknown key is a warning, an error with --strict. A value that is not allowed ends the start with exit status 78. \
             A setting may also come from the variable that is named with it; the file wins. The file is never written: what is \
             changed at run time goes to gantry-override.properties in the state folder, which wins over the file."
                .to_owned(),
            format!(
                "Only settings that do something in this version are listed. {name} --check-config tells for every value where it came from."
            ),
        ],
        options: Vec::new(),
        commands: Vec::new(),
        chapters: document::chapters::<C>(),
        see_also: program.see_also.to_vec(),
    }
}
