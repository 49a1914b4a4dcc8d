//! The key table: one row per key, from which the typed field, the parser, the listings, the sample and the
//! documentation all come, so that they cannot differ.
//!
//! [`settings!`](macro@crate::settings) turns rows into a struct with one typed field per key and an implementation of
//! [`Settings`]. This module knows single values; which file or variable they came from is the business of
//! `load`. It never reads the machine: what a default depends on arrives in a [`Host`].

use std::fmt;

/// What the defaults of some keys depend on; the shell around this crate fills it in.
#[derive(Clone, Debug)]
pub struct Host {
    /// Home folder of the user, without a trailing slash.
    pub user_home: String,
    /// Folder the program was unpacked into: the default of `rocketmqHome`.
    pub install_dir: String,
    /// Name of this machine, if it has one.
    pub host_name: Option<String>,
    /// Processors this process may use.
    pub cpus: u32,
}

impl Host {
    /// A made-up machine whose values read as descriptions; documentation is written for it.
    pub fn described() -> Self {
        Self {
            user_home: "~".into(),
            install_dir: "<installation folder>".into(),
            host_name: Some("<host name>".into()),
            cpus: 4,
        }
    }
}

/// How the values of a key are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Decimal,
    /// `true` or `false`.
    Switch,
    /// Any text.
    Text,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// The numbers that a key allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bounds {
    /// Not a number, or any.
    Any,
    /// Whole numbers, both ends included.
    Whole(i64, i64),
    /// Fractions, both ends included.
    Fraction(f64, f64),
}

/// What a value should have been; the loader adds key, place and the value itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(pub String);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What setting a key does in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it says.
    Honoured,
    /// Accepted and reported, but nothing depends on it, for this reason.
    WithoutEffect(&'static str),
    /// Only this value is accepted, for this reason: ignoring another would be dangerous.
    Only(&'static str, &'static str),
}

/// When a changed value is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// At the next start.
    Restart,
    /// When the files are read again (SIGHUP), but never by a request over the network.
    Reload,
    /// Also by a "update config" request.
    Update,
}

/// Looks at a text and says what would be allowed instead, if it is not.
pub type Check = fn(&str) -> Result<(), &'static str>;

/// Everything about a key that is not its name, type, default or description.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Allowed numbers, where the type alone allows too many.
    pub bounds: Option<Bounds>,
    /// A further check of the text; says what would be allowed.
    pub check: Option<Check>,
    /// What setting it does.
    pub verdict: Verdict,
    /// When a changed value is taken up.
    pub change: Change,
    /// Listed by `-m`.
    pub important: bool,
    /// Its value is never shown.
    pub secret: bool,
    /// First version with the key: `4.x` for what RocketMQ has, else ours.
    pub since: &'static str,
    /// The default in words, where it depends on the machine.
    pub shown: Option<&'static str>,
    /// Environment variables that set it, the later ones first.
    pub env: &'static [&'static str],
    /// Other correct names.
    pub aliases: &'static [&'static str],
    /// Names found in old files and in blogs: understood, with a warning.
    pub misspellings: &'static [&'static str],
}

impl Rule {
    /// A key of RocketMQ 4.x that is honoured and read at start.
    pub const fn new() -> Self {
        Self {
            bounds: None,
            check: None,
            verdict: Verdict::Honoured,
            change: Change::Restart,
            important: false,
            secret: false,
            since: "4.x",
            shown: None,
            env: &[],
            aliases: &[],
            misspellings: &[],
        }
    }

    /// Allows whole numbers from `lo` to `hi`.
    pub const fn between(mut self, lo: i64, hi: i64) -> Self {
        self.bounds = Some(Bounds::Whole(lo, hi));
        self
    }

    /// Allows fractions from `lo` to `hi`.
    pub const fn ratio(mut self, lo: f64, hi: f64) -> Self {
        self.bounds = Some(Bounds::Fraction(lo, hi));
        self
    }

    /// Adds a check of the text.
    pub const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Accepted, but nothing depends on it.
    pub const fn without_effect(mut self, reason: &'static str) -> Self {
        self.verdict = Verdict::WithoutEffect(reason);
        self
    }

    /// Any value but this one is an error.
    pub const fn only(mut self, value: &'static str, reason: &'static str) -> Self {
        self.verdict = Verdict::Only(value, reason);
        self
    }

    /// Taken up when the files are read again, and by an update request.
    pub const fn live(mut self) -> Self {
        self.change = Change::Update;
        self
    }

    /// Taken up when the files are read again.
    pub const fn reload(mut self) -> Self {
        self.change = Change::Reload;
        self
    }

    /// Listed by `-m`.
    pub const fn important(mut self) -> Self {
        self.important = true;
        self
    }

    /// Its value is never shown.
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// One of our own keys, not RocketMQ's.
    pub const fn ours(mut self) -> Self {
        self.since = "0.1";
        self
    }

    /// Describes a default that depends on the machine.
    pub const fn shown(mut self, text: &'static str) -> Self {
        self.shown = Some(text);
        self
    }

    /// Environment variables that set it.
    pub const fn env(mut self, names: &'static [&'static str]) -> Self {
        self.env = names;
        self
    }

    /// Other correct names.
    pub const fn aliases(mut self, names: &'static [&'static str]) -> Self {
        self.aliases = names;
        self
    }

    /// Names understood with a warning.
    pub const fn misspellings(mut self, names: &'static [&'static str]) -> Self {
        self.misspellings = names;
        self
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self::new()
    }
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key, as it is written in files.
    pub name: &'static str,
    /// Heading it is listed under.
    pub section: &'static str,
    /// What it does, in words; lines as written in the table.
    pub doc: &'static str,
    /// How values are written.
    pub kind: Kind,
    /// Allowed numbers.
    pub bounds: Bounds,
    /// The rest.
    pub rule: Rule,
}

impl Row {
    /// The description as one line.
    pub fn description(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What values are allowed, in words.
    pub fn allowed(&self) -> String {
        match (self.kind, self.bounds) {
            (Kind::Switch, _) => "true or false".into(),
            (Kind::Choice(words), _) => words.join(", "),
            (Kind::Integer, Bounds::Whole(lo, hi)) => match hi {
                i64::MAX => format!("a whole number from {lo}"),
                _ => format!("a whole number from {lo} to {hi}"),
            },
            (Kind::Decimal, Bounds::Fraction(lo, hi)) => format!("a number from {lo} to {hi}"),
            (Kind::Integer, _) => "a whole number".into(),
            (Kind::Decimal, _) => "a number".into(),
            (Kind::Text, _) => "text".into(),
        }
    }

    /// True if blanks around a value cannot be meant.
    pub fn ignores_blanks(&self) -> bool {
        self.kind != Kind::Text
    }
}

/// A type that a field of a table can have.
pub trait Setting: Sized {
    /// How it is written.
    const KIND: Kind;
    /// Numbers it can hold.
    const BOUNDS: Bounds;
    /// Reads a value.
    fn read(text: &str, bounds: Bounds) -> Result<Self, Expected>;
    /// Writes it as it would be read; an absent value is empty.
    fn write(&self) -> String;
}

/// A struct made by [`settings!`](macro@crate::settings): typed fields, addressable by key.
pub trait Settings: Clone + Send + Sync + 'static {
    /// All defaults for a machine.
    fn defaults(host: &Host) -> Self;
    /// The key table.
    fn rows() -> Vec<&'static Row>;
    /// Sets the field of a key; `None`: there is no such key. An error leaves the field as it was.
    fn set(&mut self, key: &str, text: &str) -> Option<Result<(), Expected>>;
    /// The field of a key as text.
    fn text(&self, key: &str) -> Option<String>;
}

/// Reads `text` into `slot`; what the setters made by the macro call.
pub fn assign<T: Setting>(slot: &mut T, text: &str, rule: &Rule) -> Result<(), Expected> {
    let bounds = rule.bounds.unwrap_or(T::BOUNDS);
    let value = T::read(text, bounds)?;
    if let Some(check) = rule.check {
        check(text).map_err(|allowed| Expected(allowed.into()))?;
    }
    *slot = value;
    Ok(())
}

fn expected_whole(bounds: Bounds) -> Expected {
    Expected(match bounds {
        Bounds::Whole(lo, i64::MAX) => format!("a whole number from {lo}"),
        Bounds::Whole(lo, hi) => format!("a whole number from {lo} to {hi}"),
        _ => "a whole number".into(),
    })
}

macro_rules! whole_numbers {
    ($($ty:ty: $lo:expr, $hi:expr;)*) => {$(
        impl Setting for $ty {
            const KIND: Kind = Kind::Integer;
            const BOUNDS: Bounds = Bounds::Whole($lo, $hi);
            fn read(text: &str, bounds: Bounds) -> Result<Self, Expected> {
                let number: i64 = text.parse().map_err(|_| expected_whole(bounds))?;
                if let Bounds::Whole(lo, hi) = bounds && !(lo <= number && number <= hi) {
                    return Err(expected_whole(bounds));
                }
                Self::try_from(number).map_err(|_| expected_whole(Self::BOUNDS))
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

// Java's int and long bound what other tools can hold, so wider Rust types keep Java's upper ends.
whole_numbers! {
    u16: 0, 65_535;
    u32: 0, 2_147_483_647;
    u64: 0, i64::MAX;
    i32: -2_147_483_648, 2_147_483_647;
    i64: i64::MIN, i64::MAX;
}

impl Setting for f64 {
    const KIND: Kind = Kind::Decimal;
    const BOUNDS: Bounds = Bounds::Any;

    fn read(text: &str, bounds: Bounds) -> Result<Self, Expected> {
        let expected = || match bounds {
            Bounds::Fraction(lo, hi) => Expected(format!("a number from {lo} to {hi}")),
            _ => Expected("a number".into()),
        };
        let number: f64 = text.parse().map_err(|_| expected())?;
        let inside = match bounds {
            Bounds::Fraction(lo, hi) => lo <= number && number <= hi,
            _ => number.is_finite(),
        };
        if inside { Ok(number) } else { Err(expected()) }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Switch;
    const BOUNDS: Bounds = Bounds::Any;

    fn read(text: &str, _: Bounds) -> Result<Self, Expected> {
        // Java takes everything but "true" as false, so that "yes" or "1" turn a switch off without a word.
        if text.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if text.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(Expected("true or false".into()))
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    const KIND: Kind = Kind::Text;
    const BOUNDS: Bounds = Bounds::Any;

    fn read(text: &str, _: Bounds) -> Result<Self, Expected> {
        Ok(text.to_owned())
    }

    fn write(&self) -> String {
        self.clone()
    }
}

impl Setting for Option<u16> {
    const KIND: Kind = u16::KIND;
    const BOUNDS: Bounds = u16::BOUNDS;

    fn read(text: &str, bounds: Bounds) -> Result<Self, Expected> {
        if text.is_empty() {
            return Ok(None);
        }
        u16::read(text, bounds).map(Some)
    }

    fn write(&self) -> String {
        self.map(|number| number.to_string()).unwrap_or_default()
    }
}

impl Setting for Option<String> {
    const KIND: Kind = Kind::Text;
    const BOUNDS: Bounds = Bounds::Any;

    fn read(text: &str, _: Bounds) -> Result<Self, Expected> {
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn write(&self) -> String {
        self.clone().unwrap_or_default()
    }
}

/// Declares an enum whose values are written as fixed words, and makes it usable as a field of a table.
#[macro_export]
macro_rules! choices {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// The word for it in files and dumps.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl $crate::Setting for $name {
            const KIND: $crate::Kind = $crate::Kind::Choice(&[$($word),+]);
            const BOUNDS: $crate::Bounds = $crate::Bounds::Any;

            fn read(text: &str, _: $crate::Bounds) -> Result<Self, $crate::Expected> {
                match text {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err($crate::Expected(format!("one of {}", [$($word),+].join(", ")))),
                }
            }

            fn write(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

/// Declares a key table and the struct that holds its values.
///
/// ```
/// gantry_config::settings! {
///     /// What a kettle can be told.
///     pub struct Kettle |host| {
///         section "Heat";
///         /// Degrees to stop at.
///         stop_at: u32 = 100, "stopAt" [.between(40, 100).live()];
///         /// Name on the display.
///         label: Option<String> = host.host_name.clone(), "label" [.shown("host name")];
///     }
/// }
/// use gantry_config::{Host, Settings};
/// let mut kettle = Kettle::defaults(&Host::described());
/// assert_eq!(kettle.set("stopAt", "95"), Some(Ok(())));
/// assert_eq!(kettle.stop_at, 95);
/// assert_eq!(kettle.set("stopAt", "190").unwrap().unwrap_err().0, "a whole number from 40 to 100");
/// ```
///
/// Tables that several programs share are fields of the form `part name: Type = default;` before the first section.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident |$host:ident| {
            $( $(#[$part_meta:meta])* part $part:ident: $part_type:ty = $part_default:expr; )*
            $(
                section $section:literal;
                $(
                    $(#[doc = $doc:literal])+
                    $field:ident: $type:ty = $default:expr, $key:literal $([ $($rule:tt)* ])?;
                )*
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($( $(#[doc = $doc])+ pub $field: $type, )*)*
            $( $(#[$part_meta])* pub $part: $part_type, )*
        }

        impl $crate::Settings for $name {
            fn defaults($host: &$crate::Host) -> Self {
                let _ = $host;
                Self {
                    $($( $field: $default, )*)*
                    $( $part: $part_default, )*
                }
            }

            fn rows() -> Vec<&'static $crate::Row> {
                static ROWS: &[$crate::Row] = &[
                    $($(
                        {
                            const RULE: $crate::Rule = $crate::Rule::new() $($($rule)*)?;
                            $crate::Row {
                                name: $key,
                                section: $section,
                                doc: concat!($($doc, "\n"),+),
                                kind: <$type as $crate::Setting>::KIND,
                                bounds: match RULE.bounds {
                                    Some(bounds) => bounds,
                                    None => <$type as $crate::Setting>::BOUNDS,
                                },
                                rule: RULE,
                            }
                        },
                    )*)*
                ];
                #[allow(unused_mut, reason = "tables without parts do not extend it")]
                let mut rows: Vec<&'static $crate::Row> = ROWS.iter().collect();
                $( rows.extend(<$part_type as $crate::Settings>::rows()); )*
                rows
            }

            fn set(&mut self, key: &str, text: &str) -> Option<Result<(), $crate::Expected>> {
                match key {
                    $($(
                        $key => {
                            const RULE: $crate::Rule = $crate::Rule::new() $($($rule)*)?;
                            Some($crate::assign(&mut self.$field, text, &RULE))
                        }
                    )*)*
                    _ => {
                        $( if let Some(done) = $crate::Settings::set(&mut self.$part, key, text) {
                            return Some(done);
                        } )*
                        None
                    }
                }
            }

            fn text(&self, key: &str) -> Option<String> {
                match key {
                    $($( $key => Some($crate::Setting::write(&self.$field)), )*)*
                    _ => {
                        $( if let Some(text) = $crate::Settings::text(&self.$part, key) {
                            return Some(text);
                        } )*
                        None
                    }
                }
            }
        }
    };
}
