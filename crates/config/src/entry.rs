//! What both file forms yield: keys and values as text, each with the line it stands on.

use std::fmt;

/// How a value was written, which TOML tells and `.properties` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Without any mark of its type.
    Plain,
    /// In quotes.
    Quoted,
    /// As a number.
    Number,
    /// As `true` or `false`.
    Switch,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key as written.
    pub key: String,
    /// The value as text.
    pub value: String,
    /// Line of the key, from 1.
    pub line: u32,
    /// How the value was written.
    pub written: Written,
}

/// A file that cannot be read as what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line of the misdeed, from 1.
    pub line: u32,
    /// The misdeed.
    pub misdeed: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.misdeed)
    }
}

impl std::error::Error for SyntaxError {}
