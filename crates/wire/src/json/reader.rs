//! The lenient pull parser.
//!
//! Accepts what fastjson accepts and clients send: raw numbers and objects as member names, unquoted names, single quotes,
//! stray commas, comments, numbers and truth values as texts. Positions in errors are byte offsets.

use std::borrow::Cow;

use super::{DEPTH_MAX, text};

/// Memory for elements that every text may use.
const MEMORY_FREE: usize = 1 << 20;
/// Memory for elements that each byte of a text may use.
const MEMORY_PER_BYTE: usize = 8;

/// What is wrong with a text, where, and in which member of which type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Byte offset.
    pub at: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
    /// Java's name of the body type, if one was being read.
    pub object: Option<&'static str>,
    /// The member of that type.
    pub field: Option<&'static str>,
}

/// What can be wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The text ends too early.
    #[error("the text ends too early")]
    UnexpectedEnd,
    /// `null` or nothing where a value is needed.
    #[error("nothing there")]
    Null,
    /// Something else stands there.
    #[error("expected {wanted}, found {found}")]
    Unexpected {
        /// What was expected.
        wanted: &'static str,
        /// What stands there, shortened.
        found: String,
    },
    /// Objects and arrays nested too deeply.
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// A backslash with something unknown behind it.
    #[error("unknown escape")]
    BadEscape,
    /// A back-reference, which no client of 4.x or 5.x sends to a server.
    #[error("back-references ($ref) are not supported")]
    Reference,
    /// More text behind the value.
    #[error("more text behind the value")]
    Trailing,
    /// Lists and maps of tiny elements that would take far more memory than their text.
    #[error("more elements than {budget} bytes of memory hold")]
    TooManyElements {
        /// Bytes allowed for a text of this length.
        budget: usize,
    },
}

impl Error {
    pub(crate) fn new(at: usize, kind: ErrorKind) -> Self {
        Error {
            at,
            kind,
            object: None,
            field: None,
        }
    }

    /// Adds the type that was being read, unless a deeper one is named already.
    #[must_use]
    pub fn of(mut self, object: &'static str) -> Self {
        self.object = self.object.or(Some(object));
        self
    }

    /// Adds the member that was being read, unless a deeper one is named already.
    #[must_use]
    pub fn within(mut self, object: &'static str, field: &'static str) -> Self {
        if self.object.is_none() {
            (self.object, self.field) = (Some(object), Some(field));
        }
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.object, self.field) {
            (Some(object), Some(field)) => write!(f, "{object}.{field}: ")?,
            (Some(object), None) => write!(f, "{object}: ")?,
            (None, _) => {}
        }
        write!(f, "{} (at byte {})", self.kind, self.at)
    }
}

impl std::error::Error for Error {}

/// A value that holds no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A number, as written.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

impl<'a> Scalar<'a> {
    /// The text that Java would hold where it wants a string.
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Scalar::Text(text) => Some(text),
            Scalar::Number(text) => Some(Cow::Borrowed(text)),
            Scalar::Bool(true) => Some(Cow::Borrowed("true")),
            Scalar::Bool(false) => Some(Cow::Borrowed("false")),
            Scalar::Null => None,
        }
    }
}

/// A member's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// A string, an unquoted word or a raw number.
    Text(Cow<'a, str>),
    /// A whole object or array, as written.
    Object(&'a str),
}

/// Pulls values out of a text, one after the other.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    /// Bytes that elements of lists and maps take so far.
    taken: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning.
    pub fn new(text: &'a str) -> Self {
        Reader {
            text,
            at: 0,
            depth: 0,
            taken: 0,
        }
    }

    /// Reads an object, calling `member` with each name; it must read or skip the value. `Ok(false)` says that there was
    /// `null` (or an empty string, which fastjson takes for it).
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Key<'a>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        if !self.open(b'{', "an object")? {
            return Ok(false);
        }
        loop {
            self.commas();
            if self.take(b'}') {
                break;
            }
            let key = self.key()?;
            if matches!(&key, Key::Text(name) if name == "$ref") {
                return Err(Error::new(self.at, ErrorKind::Reference));
            }
            self.blanks();
            if !self.take(b':') {
                return Err(self.unexpected("a colon"));
            }
            member(self, key)?;
            self.separator(b'}')?;
        }
        self.depth -= 1;
        Ok(true)
    }

    /// Reads an array, calling `element` before each element; it must read or skip it. `Ok(false)` says that there was
    /// `null`.
    pub fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        if !self.open(b'[', "an array")? {
            return Ok(false);
        }
        loop {
            self.commas();
            if self.take(b']') {
                break;
            }
            element(self)?;
            self.separator(b']')?;
        }
        self.depth -= 1;
        Ok(true)
    }

    /// Whether an array comes next.
    pub fn at_array(&mut self) -> bool {
        self.blanks();
        self.peek() == Some(b'[')
    }

    /// Reads a value that holds no others.
    pub fn scalar(&mut self) -> Result<Scalar<'a>, Error> {
        self.blanks();
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                let (text, end) = text::quoted(self.text, self.at + 1, quote)?;
                self.at = end;
                Ok(Scalar::Text(text))
            }
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => Ok(Scalar::Number(self.number())),
            Some(b't') if self.word("true") => Ok(Scalar::Bool(true)),
            Some(b'f') if self.word("false") => Ok(Scalar::Bool(false)),
            Some(b'n') if self.word("null") => Ok(Scalar::Null),
            Some(b'u') if self.word("undefined") => Ok(Scalar::Null),
            Some(b'N') if self.word("NaN") => Ok(Scalar::Null),
            _ => Err(self.unexpected("a plain value")),
        }
    }

    /// Reads an integer of 64 bits, which may stand in quotes; `None` for `null` or an empty string.
    pub fn int64(&mut self) -> Result<Option<i64>, Error> {
        self.integer("a 64-bit integer", |text| text.parse().ok())
    }

    /// Reads an integer of 32 bits, which may stand in quotes; `None` for `null` or an empty string.
    pub fn int32(&mut self) -> Result<Option<i32>, Error> {
        self.integer("a 32-bit integer", |text| text.parse().ok())
    }

    fn integer<T>(
        &mut self,
        wanted: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some((at, text)) = self.figures()? else {
            return Ok(None);
        };
        // Java truncates a fraction; digits in front of a dot are an integer as they stand.
        let digits = match text.split_once('.') {
            Some((digits, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
                Cow::Borrowed(digits)
            }
            _ => expanded(&text),
        };
        parse(&digits)
            .map(Some)
            .ok_or_else(|| Error::new(at, unexpected(wanted, &text)))
    }

    /// Reads a floating-point number, which may stand in quotes; `None` for `null` or an empty string.
    pub fn float64(&mut self) -> Result<Option<f64>, Error> {
        let Some((at, text)) = self.figures()? else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number
            .map(Some)
            .ok_or_else(|| Error::new(at, unexpected("a finite number", &text)))
    }

    /// A number's text and position; truth values count as one and zero.
    fn figures(&mut self) -> Result<Option<(usize, Cow<'a, str>)>, Error> {
        self.blanks();
        let at = self.at;
        let text = match self.scalar()? {
            Scalar::Null => return Ok(None),
            Scalar::Bool(true) => Cow::Borrowed("1"),
            Scalar::Bool(false) => Cow::Borrowed("0"),
            Scalar::Text(text) if text.is_empty() || text == "null" => return Ok(None),
            Scalar::Text(text) => text,
            Scalar::Number(text) => Cow::Borrowed(text),
        };
        Ok(Some((at, text)))
    }

    /// Reads a truth value; numbers count as in C, texts by their content.
    pub fn boolean(&mut self) -> Result<Option<bool>, Error> {
        self.blanks();
        let at = self.at;
        let text = match self.scalar()? {
            Scalar::Null => return Ok(None),
            Scalar::Bool(value) => return Ok(Some(value)),
            Scalar::Text(text) => text,
            Scalar::Number(text) => Cow::Borrowed(text),
        };
        match text.as_ref() {
            "" | "null" => Ok(None),
            "1" | "Y" | "T" => Ok(Some(true)),
            "0" | "N" | "F" => Ok(Some(false)),
            text if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            text if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            text => Err(Error::new(at, unexpected("true or false", text))),
        }
    }

    /// Reads any value as text: plain ones by their content, objects and arrays as written.
    pub fn text_of_any(&mut self) -> Result<Option<Cow<'a, str>>, Error> {
        self.blanks();
        if let Some(b'{' | b'[') = self.peek() {
            return self.raw().map(|raw| Some(Cow::Borrowed(raw)));
        }
        Ok(self.scalar()?.into_text())
    }

    /// Skips a value and gives it as written.
    pub fn raw(&mut self) -> Result<&'a str, Error> {
        self.blanks();
        let from = self.at;
        self.skip()?;
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }

    /// Skips a value.
    pub fn skip(&mut self) -> Result<(), Error> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(|reader, _| reader.skip()).map(drop),
            Some(b'[') => self.array(Self::skip).map(drop),
            _ => self.scalar().map(drop),
        }
    }

    /// Makes sure that nothing follows.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.blanks();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Error::new(self.at, ErrorKind::Trailing)),
        }
    }

    /// A reader for a part of this text ([`Key::Object`]), as deep as this one.
    pub fn inner<'b>(&self, text: &'b str) -> Reader<'b> {
        Reader {
            text,
            at: 0,
            depth: self.depth,
            taken: 0,
        }
    }

    /// Accounts for an element of a list or map before it is kept. What `[{},{},...` makes of three bytes may be a hundred
    /// times as large; real texts take less memory than eight times their length.
    pub fn charge<T>(&mut self) -> Result<(), Error> {
        let budget = MEMORY_FREE + self.text.len().saturating_mul(MEMORY_PER_BYTE);
        self.taken = self.taken.saturating_add(size_of::<T>());
        if budget < self.taken {
            return Err(Error::new(self.at, ErrorKind::TooManyElements { budget }));
        }
        Ok(())
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    fn open(&mut self, bracket: u8, wanted: &'static str) -> Result<bool, Error> {
        self.blanks();
        if !self.take(bracket) {
            let at = self.at;
            return match self.scalar() {
                Ok(Scalar::Null) => Ok(false),
                Ok(Scalar::Text(text)) if text.is_empty() => Ok(false),
                Ok(other) => Err(Error::new(
                    at,
                    unexpected(wanted, &other.into_text().unwrap_or_default()),
                )),
                Err(Error {
                    kind: ErrorKind::Unexpected { found, .. },
                    at,
                    ..
                }) => Err(Error::new(at, ErrorKind::Unexpected { wanted, found })),
                Err(error) => Err(error),
            };
        }
        if DEPTH_MAX <= self.depth {
            return Err(Error::new(self.at - 1, ErrorKind::TooDeep));
        }
        self.depth += 1;
        Ok(true)
    }

    fn key(&mut self) -> Result<Key<'a>, Error> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                let (text, end) = text::quoted(self.text, self.at + 1, quote)?;
                self.at = end;
                Ok(Key::Text(text))
            }
            Some(b'{' | b'[') => self.raw().map(Key::Object),
            _ => {
                let from = self.at;
                let rest = self.text.get(from..).unwrap_or_default();
                let word = |c: char| {
                    c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '+' | '.' | '@' | '%')
                };
                let len = rest.find(|c| !word(c)).unwrap_or(rest.len());
                if len == 0 {
                    return Err(self.unexpected("a member name"));
                }
                self.at += len;
                Ok(Key::Text(Cow::Borrowed(
                    rest.get(..len).unwrap_or_default(),
                )))
            }
        }
    }

    /// Between values there must be a comma, or the end.
    fn separator(&mut self, close: u8) -> Result<(), Error> {
        self.blanks();
        match self.peek() {
            Some(b',') => Ok(()),
            Some(byte) if byte == close => Ok(()),
            _ => Err(self.unexpected(if close == b'}' {
                "a comma or }"
            } else {
                "a comma or ]"
            })),
        }
    }

    fn number(&mut self) -> &'a str {
        let from = self.at;
        while let Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E') = self.peek() {
            self.at += 1;
        }
        let number = self.text.get(from..self.at).unwrap_or_default();
        // fastjson lets numbers carry Java's type letters.
        if let Some(b'L' | b'S' | b'B' | b'D' | b'F') = self.peek() {
            self.at += 1;
        }
        number
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text.get(self.at..self.at + word.len()) == Some(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn commas(&mut self) {
        self.blanks();
        while self.take(b',') {
            self.blanks();
        }
    }

    /// Skips blanks and comments.
    fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0c | 0x08) => self.at += 1,
                Some(b'/') => {
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    let end = match rest.as_bytes().get(1) {
                        Some(b'/') => Some(rest.find('\n').map_or(rest.len(), |at| at + 1)),
                        Some(b'*') => rest
                            .get(2..)
                            .and_then(|rest| rest.find("*/"))
                            .map(|at| at + 4),
                        _ => None,
                    };
                    let Some(end) = end else { return };
                    self.at += end;
                }
                _ => return,
            }
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn unexpected(&self, wanted: &'static str) -> Error {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Error::new(self.at, ErrorKind::UnexpectedEnd);
        }
        let end = rest.char_indices().nth(12).map_or(rest.len(), |(at, _)| at);
        Error::new(
            self.at,
            unexpected(wanted, rest.get(..end).unwrap_or_default()),
        )
    }
}

/// A number with an exponent as its integer digits; anything else as it is.
fn expanded(text: &str) -> Cow<'_, str> {
    match text.parse::<f64>() {
        Ok(value) if text.contains(['e', 'E']) && value.abs() < 1e18 => {
            Cow::Owned(format!("{:.0}", value.trunc()))
        }
        _ => Cow::Borrowed(text),
    }
}

/// An error that quotes the beginning of what was found.
pub(super) fn unexpected(wanted: &'static str, found: &str) -> ErrorKind {
    let found = found
        .get(..found.floor_char_boundary(64))
        .unwrap_or_default()
        .escape_debug()
        .to_string();
    ErrorKind::Unexpected { wanted, found }
}
