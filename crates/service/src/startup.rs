//! From the command line to a checked configuration, or to the exit code of a program that has nothing to run.
//!
//! The shell around `gantry-config`: it reads arguments, environment and files and prints; it decides nothing about
//! values. Nothing that the operator wrote is ever written.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gantry_manual::Opt;

use gantry_config::{
    Action, Finding, Host, Loaded, Options, Settings, Severity, UnknownKeys, options, print,
};

use crate::exit::{BAD_CONFIG, FAILED, OK, complain, say};
use crate::host::this_host;
use crate::owner;

/// What differs between daemons.
#[derive(Debug)]
pub struct Program<C> {
    /// Name of the program.
    pub name: &'static str,
    /// One line about it, for its manual page.
    pub about: &'static str,
    /// Paragraphs about it, likewise.
    pub description: &'static [&'static str],
    /// Files of an installed package, and what is in them.
    pub files: &'static [(&'static str, &'static str)],
    /// Commands that run in place of the daemon.
    pub commands: &'static [Command],
    /// Other manual pages.
    pub see_also: &'static [&'static str],
    /// Where changes made at run time are kept.
    pub override_file: fn(&C) -> PathBuf,
    /// Settles what follows from other values or from the machine, and adds findings.
    pub settle: fn(&mut Loaded<C>),
    /// Adds what a start would find out later and with more time, for who asks whether a configuration is good.
    pub look: fn(&mut Loaded<C>),
}

/// What runs in place of the daemon when its name is the first word.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The word.
    pub name: &'static str,
    /// What follows it, in short.
    pub usage: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Words of which one follows it, for completions.
    pub words: fn() -> Vec<&'static str>,
    /// Its options, for the manual page and completions.
    pub options: fn() -> Vec<Opt>,
}

/// What `main` does next.
#[derive(Debug)]
pub enum Start<C> {
    /// Serve with this configuration.
    Run(Box<Loaded<C>>),
    /// End with this code; all is said.
    Exit(ExitCode),
}

/// Reads options, environment and files of this process.
pub fn begin<C: Settings>(program: &Program<C>) -> Start<C> {
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned());
    let options = match parse(program, args) {
        Ok(options) => options,
        Err(misuse) => {
            complain(&misuse);
            say(&options::help(program.name));
            say(&commands(program));
            return Start::Exit(ExitCode::from(FAILED));
        }
    };
    match options.action {
        Action::Help => {
            say(&options::help(program.name));
            say(&commands(program));
            return Start::Exit(ExitCode::from(OK));
        }
        Action::Version => {
            say(&format!(
                "{} {} (Gantry, RocketMQ 4.9 protocol)\n",
                program.name,
                env!("CARGO_PKG_VERSION")
            ));
            return Start::Exit(ExitCode::from(OK));
        }
        Action::Generate(kind) => {
            say(&crate::manual::text(program, kind));
            return Start::Exit(ExitCode::from(OK));
        }
        Action::Run | Action::Check | Action::Test | Action::PrintAll | Action::PrintImportant => {}
    }
    if options.action == Action::Run {
        crate::notify::status("Reading the configuration");
    }
    let mut loaded = if options.action == Action::Run {
        load(program, &options, |name| std::env::var(name).ok())
    } else {
        load_by_hand(program, &options)
    };
    if options.action == Action::Check {
        (program.look)(&mut loaded);
    }
    conclude(program, &options, loaded)
}

/// Understands a command line, or says what is wrong with it.
pub fn parse<C>(
    program: &Program<C>,
    args: impl IntoIterator<Item = String>,
) -> Result<Options, String> {
    let options = options::parse(args).map_err(|error| error.to_string())?;
    let Some(word) = options.stray() else {
        return Ok(options);
    };
    let name = program.name;
    let commands: Vec<&str> = program.commands.iter().map(|one| one.name).collect();
    Err(match commands.as_slice() {
        [] => format!("{name}: {word} is no option, and there are no commands"),
        all => format!(
            "{name}: {word} is no option; the first word may be a command: {}",
            all.join(", ")
        ),
    })
}

/// The commands of a program, as its help lists them.
fn commands<C>(program: &Program<C>) -> String {
    let lines = program.commands.iter().map(|command| {
        let call = format!("{} {}", command.name, command.usage);
        format!(" {} {call:<24} {}\n", program.name, command.about)
    });
    let lines: String = lines.collect();
    if lines.is_empty() {
        lines
    } else {
        format!("commands:\n{lines}")
    }
}

/// All layers in their order.
pub fn load<C: Settings>(
    program: &Program<C>,
    options: &Options,
    variable: impl Fn(&str) -> Option<String>,
) -> Loaded<C> {
    load_on(&this_host(), program, options, variable, |loaded| {
        let overrides = (program.override_file)(&loaded.config);
        override_file(loaded, &overrides);
    })
}

fn load_on<C: Settings>(
    host: &Host,
    program: &Program<C>,
    options: &Options,
    variable: impl Fn(&str) -> Option<String>,
    overrides: impl FnOnce(&mut Loaded<C>),
) -> Loaded<C> {
    let unknown_keys = if options.strict {
        UnknownKeys::Refuse
    } else {
        UnknownKeys::Warn
    };
    let mut loaded = Loaded::defaults(host, unknown_keys);
    for argument in &options.ignored {
        loaded.find(
            Severity::Warning,
            format!("command line: {argument} belongs to no option, ignored"),
        );
    }
    loaded.environment(variable);
    if let Some(file) = configuration_file(options) {
        administrators_file(&mut loaded, &file);
    }
    overrides(&mut loaded);
    if let Some(name_servers) = &options.name_servers {
        loaded.command_line("-n", "namesrvAddr", name_servers);
    }
    (program.settle)(&mut loaded);
    loaded.judge();
    loaded
}

/// All layers as the unit of a configuration file of the packages has them: who looks by hand is not told by systemd where
/// the state is.
pub fn load_by_hand<C: Settings>(program: &Program<C>, options: &Options) -> Loaded<C> {
    let known = |name: &str| std::env::var(name).ok();
    let state = options.config_file.as_deref().and_then(unit_state);
    let Some(state) = state.filter(|_| known(STATE).is_none()) else {
        return load(program, options, known);
    };
    let mut host = this_host();
    // The home of the user that units run as is the folder above.
    if let Some(home) = Path::new(&state).parent() {
        host.user_home = home.display().to_string();
    }
    let variable = |name: &str| known(name).or_else(|| (name == STATE).then(|| state.clone()));
    // Whoever may not look there would be refused what the unit is not.
    let is_hidden = is_hidden(Path::new(&state));
    load_on(&host, program, options, variable, |loaded| {
        let path = (program.override_file)(&loaded.config);
        if is_hidden {
            let text = format!(
                "{}: this user may not look whether settings were changed at run time",
                path.display()
            );
            loaded.find(Severity::Warning, text);
        } else {
            override_file(loaded, &path);
        }
    })
}

/// The variable by which systemd tells where the state is.
const STATE: &str = "STATE_DIRECTORY";

/// Where the unit of a configuration file of the packages keeps its state (`StateDirectory=`).
pub fn unit_state(file: &str) -> Option<String> {
    let below = Path::new(file).strip_prefix("/etc/gantry").ok()?;
    let name = below.file_name()?.to_str()?;
    let name = ENDINGS
        .iter()
        .find_map(|ending| name.strip_suffix(&format!(".{ending}")))
        .unwrap_or(name);
    Some(format!("/var/lib/gantry/{name}"))
}

fn is_hidden(folder: &Path) -> bool {
    let listed = std::fs::read_dir(folder);
    listed.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The file that `-c` means: units name it without its ending, and the administrator chooses the form.
pub fn configuration_file(options: &Options) -> Option<String> {
    let file = options.config_file.as_ref()?;
    Some(with_ending(file).unwrap_or_else(|| file.clone()))
}

fn administrators_file<C: Settings>(loaded: &mut Loaded<C>, file: &str) {
    if let Some(other) = twin(Path::new(file)) {
        let text = format!("{file}: {} is there too; keep one of them", other.display());
        loaded.find(Severity::Error, text);
    }
    match std::fs::read(file) {
        Ok(bytes) => loaded.file(file, &bytes),
        Err(error) => {
            let text = if Path::new(file).extension().is_none() && !Path::new(file).is_file() {
                let [one, other] = ENDINGS;
                format!("no configuration file: neither {file}.{one} nor {file}.{other} is there")
            } else {
                format!("{file}: cannot read the configuration file: {error}")
            };
            loaded.find(Severity::Error, text);
        }
    }
}

/// The endings of the two forms of a configuration file.
const ENDINGS: [&str; 2] = ["toml", "properties"];

/// The file that is meant by a name without its ending, if there is one.
fn with_ending(file: &str) -> Option<String> {
    let has_one = Path::new(file)
        .extension()
        .is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
    if has_one || Path::new(file).is_file() {
        return None;
    }
    ENDINGS
        .iter()
        .map(|ending| format!("{file}.{ending}"))
        .find(|name| Path::new(name).exists())
}

/// The same file in the other form, if there is one: nobody could tell which of the two counts.
fn twin(file: &Path) -> Option<PathBuf> {
    let other = match file.extension()?.to_str()? {
        "toml" => "properties",
        "properties" => "toml",
        _ => return None,
    };
    Some(file.with_extension(other)).filter(|path| path.exists())
}

fn override_file<C: Settings>(loaded: &mut Loaded<C>, path: &Path) {
    match std::fs::read(path) {
        Ok(bytes) => loaded.overrides(&path.display().to_string(), &bytes),
        // A file where the folder should be is for who needs the folder to name.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) => {}
        Err(error) => {
            let folder = path.parent().unwrap_or(path);
            let remedy = owner::remedy(&error, path, folder).map(|remedy| format!("; {remedy}"));
            let text = format!(
                "{}: cannot read settings changed at run time: {error}{}",
                path.display(),
                remedy.unwrap_or_default()
            );
            loaded.find(Severity::Error, text);
        }
    }
}

fn conclude<C: Settings>(program: &Program<C>, options: &Options, loaded: Loaded<C>) -> Start<C> {
    match options.action {
        Action::Check => say(&print::with_sources(&loaded)),
        Action::PrintAll if !loaded.refused() => say(&print::all(&loaded.config)),
        Action::PrintImportant if !loaded.refused() => say(&print::important(&loaded.config)),
        _ => {}
    }
    let runs = options.action == Action::Run;
    if loaded.refused() || !runs {
        let least = match options.action {
            Action::Check => Severity::Note,
            // The reload that follows says the rest.
            Action::Test => Severity::Error,
            _ => Severity::Warning,
        };
        for finding in loaded
            .findings
            .iter()
            .filter(|finding| least <= finding.severity)
        {
            let level = journal_level(finding);
            complain(&format!(
                "{level}{}: {}: {finding}",
                program.name,
                word(finding)
            ));
        }
        if runs && let Some(error) = loaded.first_error() {
            crate::notify::failed(&format!("configuration: {error}"), None);
        }
        return Start::Exit(ExitCode::from(if loaded.refused() {
            BAD_CONFIG
        } else {
            OK
        }));
    }
    Start::Run(Box::new(loaded))
}

/// Logs what was found when the files were read again. Nothing is taken up from one with errors, so what follows from its
/// values is not said.
pub fn announce_again<C: Settings>(program: &str, fresh: &Loaded<C>) {
    let least = if fresh.refused() {
        Severity::Warning
    } else {
        Severity::Note
    };
    let worth = fresh.findings.iter();
    let worth = worth.filter(|finding| least <= finding.severity);
    announce(program, &worth.cloned().collect::<Vec<_>>());
}

/// Logs what was found; what needs attention is also said on stderr, if that is another place. Call it once logging is up.
pub fn announce(program: &str, findings: &[Finding]) {
    for finding in findings {
        match finding.severity {
            Severity::Note => tracing::info!("configuration: {finding}"),
            Severity::Warning => tracing::warn!("configuration: {finding}"),
            Severity::Error => tracing::error!("configuration: {finding}"),
        }
        if Severity::Note < finding.severity && !crate::logging::in_journal() {
            complain(&format!("{program}: {}: {finding}", word(finding)));
        }
    }
}

/// What the journal takes for the level of a line on stderr: there is no log yet.
fn journal_level(finding: &Finding) -> &'static str {
    match finding.severity {
        _ if !crate::logging::in_journal() => "",
        Severity::Note => "<6>",
        Severity::Warning => "<4>",
        Severity::Error => "<3>",
    }
}

fn word(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::unit_state;

    #[test]
    fn the_state_of_a_packaged_daemon_is_where_its_unit_keeps_it() {
        for (file, state) in [
            ("/etc/gantry/broker", Some("/var/lib/gantry/broker")),
            ("/etc/gantry/broker.toml", Some("/var/lib/gantry/broker")),
            ("/etc/gantry/namesrv", Some("/var/lib/gantry/namesrv")),
            ("/etc/gantry/broker/a.properties", Some("/var/lib/gantry/a")),
            ("/etc/gantry/broker/a.b", Some("/var/lib/gantry/a.b")),
            ("/home/x/broker.toml", None),
            ("/etc/gantry", None),
        ] {
            assert_eq!(unit_state(file).as_deref(), state, "{file}");
        }
    }
}
