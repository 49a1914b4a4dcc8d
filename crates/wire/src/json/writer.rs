//! Printing as fastjson 1.2.69 prints.
//!
//! Members come in alphabetical order (the types see to it), nulls are left out, there are no blanks. Keys that are no
//! strings stay raw but for the standard dialect. The pretty form puts each member on a line of its own behind tabs, and
//! maps with raw keys on one line with the closing brace on the next: that is how Java's files look.

use super::convert::{MapKey, ToJson};
use super::text;

/// Which of fastjson's forms is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// What bodies are written in.
    Compact,
    /// Routes for clients from 4.9.4 on: every key quoted, pure ASCII.
    Standard,
    /// The files in `config/`.
    Pretty,
}

/// Prints values one after the other.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    dialect: Dialect,
    depth: usize,
}

impl Writer {
    /// Starts with nothing.
    pub fn new(dialect: Dialect) -> Self {
        Writer {
            out: Vec::new(),
            dialect,
            depth: 0,
        }
    }

    /// What was printed.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Prints a string.
    pub fn text(&mut self, value: &str) {
        match self.dialect {
            Dialect::Standard => text::write_ascii(&mut self.out, value),
            Dialect::Compact | Dialect::Pretty => text::write_text(&mut self.out, value),
        }
    }

    /// Prints an integer.
    pub fn int(&mut self, value: i64) {
        text::write_int(&mut self.out, value);
    }

    /// Prints a number with a fraction as Java's `Double.toString`; what is no number becomes null.
    pub fn float(&mut self, value: f64) {
        if value.is_finite() {
            self.out.extend_from_slice(java_double(value).as_bytes());
        } else {
            self.raw("null");
        }
    }

    /// Prints something that is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Starts an object.
    pub fn object(&mut self) -> Members<'_> {
        self.out.push(b'{');
        self.depth += 1;
        Members {
            writer: self,
            any: false,
        }
    }

    /// Prints an array.
    pub fn list<'a, T: ToJson + 'a>(&mut self, elements: impl IntoIterator<Item = &'a T>) {
        self.out.push(b'[');
        self.depth += 1;
        let mut any = false;
        for element in elements {
            if any {
                self.out.push(b',');
            }
            any = true;
            self.line();
            element.to_json(self);
        }
        self.depth -= 1;
        if any {
            self.line();
        }
        self.out.push(b']');
    }

    /// Breaks the line in the pretty form.
    fn line(&mut self) {
        if self.dialect == Dialect::Pretty {
            self.out.push(b'\n');
            self.out.resize(self.out.len() + self.depth, b'\t');
        }
    }
}

/// The members of an object being printed; [`Members::end`] closes it.
#[derive(Debug)]
pub struct Members<'w> {
    writer: &'w mut Writer,
    any: bool,
}

impl Members<'_> {
    /// Prints a member unless it is null.
    pub fn member(&mut self, name: &str, value: &impl ToJson) {
        if value.is_null() {
            return;
        }
        self.comma();
        self.writer.line();
        self.writer.text(name);
        self.writer.out.push(b':');
        value.to_json(self.writer);
    }

    /// Prints an entry of a map.
    pub fn entry<K: MapKey>(&mut self, key: &K, value: &impl ToJson) {
        self.comma();
        if K::TEXT {
            self.writer.line();
            key.to_key(self.writer);
        } else if self.writer.dialect == Dialect::Standard {
            self.writer.out.push(b'"');
            key.to_key(self.writer);
            self.writer.out.push(b'"');
        } else {
            key.to_key(self.writer);
        }
        self.writer.out.push(b':');
        value.to_json(self.writer);
    }

    /// Closes the object.
    pub fn end(self) {
        self.writer.depth -= 1;
        if self.any {
            self.writer.line();
        }
        self.writer.out.push(b'}');
    }

    fn comma(&mut self) {
        if self.any {
            self.writer.out.push(b',');
        }
        self.any = true;
    }
}

/// Java prints at least one digit behind the point, and an exponent below 1/1000 and from ten million on.
fn java_double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        let text = value.to_string();
        return if text.contains('.') {
            text
        } else {
            text + ".0"
        };
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::java_double;

    #[test]
    fn doubles_print_as_java_prints_them() {
        let cases = [
            (0.0, "0.0"),
            (1.5, "1.5"),
            (-3.0, "-3.0"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (1.234_567_89e12, "1.23456789E12"),
            (0.1 + 0.2, "0.30000000000000004"),
        ];
        for (value, expected) in cases {
            assert_eq!(java_double(value), expected);
        }
    }
}
