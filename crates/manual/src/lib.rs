//! Manual pages and shell completions, made from one description of a program.
//!
//! Each program fills in a [`Manual`] from the same table that parses its command line and prints its help, so that
//! none of them can differ; `PROGRAM --generate KIND` prints the result, which packages put in its place.
//! Pure: text in, text out. [`mod@roff`] writes pages, [`mod@shells`] completions.

pub mod roff;
pub mod shells;

/// What can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The manual page of the program.
    Page,
    /// The manual page of its settings, for programs that have any.
    Settings,
    /// Completion for bash.
    Bash,
    /// Completion for zsh.
    Zsh,
    /// Completion for fish.
    Fish,
}

impl Kind {
    /// All kinds with their names on the command line.
    pub const ALL: &'static [(&'static str, Kind)] = &[
        ("man", Kind::Page),
        ("man-settings", Kind::Settings),
        ("complete-bash", Kind::Bash),
        ("complete-zsh", Kind::Zsh),
        ("complete-fish", Kind::Fish),
    ];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
    }

    /// All names, for a message or a help line.
    pub fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

/// What follows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    None,
    /// Text, under this name in the manual page.
    Text(&'static str),
    /// The name of a file.
    File,
    /// One of a few words.
    OneOf(&'static [&'static str]),
}

/// An option of a program or of one of its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opt {
    /// The letter behind one hyphen.
    pub short: Option<char>,
    /// The name behind two.
    pub long: &'static str,
    /// What follows it.
    pub value: Value,
    /// One line about it.
    pub about: String,
}

/// A command of a program that has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub about: String,
    /// Words of which one follows it, and files behind that.
    pub words: Vec<&'static str>,
    /// Its options.
    pub options: Vec<Opt>,
}

/// Further text of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// The heading.
    pub title: String,
    /// Paragraphs.
    pub text: Vec<String>,
    /// Terms and what is to be said about them.
    pub items: Vec<(String, String)>,
}

/// A program, or a file that it reads, as its users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manual {
    /// The name, also of the page.
    pub name: String,
    /// The section of the page.
    pub section: u8,
    /// One line about it.
    pub about: String,
    /// Version, for the foot of the page.
    pub version: &'static str,
    /// Ways to call it, without its name; none for a file.
    pub synopsis: Vec<String>,
    /// What it is: paragraphs.
    pub description: Vec<String>,
    /// Options in front of any command.
    pub options: Vec<Opt>,
    /// Its commands.
    pub commands: Vec<Command>,
    /// Whatever else there is to say, in order.
    pub chapters: Vec<Chapter>,
    /// Other pages: `mqbroker(8)`.
    pub see_also: Vec<&'static str>,
}

impl Manual {
    /// The text of this kind; [`Kind::Settings`] is a manual of its own, written like a page.
    pub fn write(&self, kind: Kind) -> String {
        match kind {
            Kind::Page | Kind::Settings => roff::page(self),
            Kind::Bash => shells::bash(self),
            Kind::Zsh => shells::zsh(self),
            Kind::Fish => shells::fish(self),
        }
    }
}

#[cfg(test)]
pub(crate) fn example() -> Manual {
    let topic = Opt {
        short: Some('t'),
        long: "topic",
        value: Value::Text("NAME"),
        about: "the topic's name: it's [any]".into(),
    };
    let file = Opt {
        short: Some('c'),
        long: "configFile",
        value: Value::File,
        about: ".properties or .toml".into(),
    };
    let level = Opt {
        short: None,
        long: "level",
        value: Value::OneOf(&["low", "high"]),
        about: "how much".into(),
    };
    let help = Opt {
        short: Some('h'),
        long: "help",
        value: Value::None,
        about: "print help".into(),
    };
    Manual {
        name: "tool".into(),
        section: 8,
        about: "does things".into(),
        version: "1.2.3",
        synopsis: vec!["[OPTIONS]".into()],
        description: vec!["A tool - with a path\\name.".into(), ".dotted start".into()],
        options: vec![file, level, help.clone()],
        commands: vec![
            Command {
                name: "route",
                about: "shows a route".into(),
                words: vec![],
                options: vec![topic, help.clone()],
            },
            Command {
                name: "store",
                about: "looks into a store".into(),
                words: vec!["check", "dump"],
                options: vec![help],
            },
        ],
        chapters: vec![Chapter {
            title: "EXIT STATUS".into(),
            text: vec![],
            items: vec![("0".into(), "All is well.".into())],
        }],
        see_also: vec!["other(1)"],
    }
}
