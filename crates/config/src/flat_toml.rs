//! The TOML form: the same key names as in `.properties`, at the top level.
//!
//! Keys with dots may be written plain (`tls.server.mode = "disabled"`), which TOML takes as nested tables;
//! they are put together again here. Lists and dates are not values of any key.

use toml::de::{DeTable, DeValue};

use crate::entry::{Entry, SyntaxError, Written};

/// All entries in file order.
pub fn parse(text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let message = error.message();
        // The parser does not name it, and the line alone does not say which of its two places is meant.
        let key = text
            .get(span.clone())
            .filter(|_| message == "duplicate key");
        SyntaxError {
            line: line_at(text, span.start),
            misdeed: key.map_or_else(|| message.to_owned(), |key| format!("{message} {key}")),
        }
    })?;
    let mut entries = Vec::new();
    flatten(text, "", table.get_ref(), &mut entries)?;
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn flatten(
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    entries: &mut Vec<Entry>,
) -> Result<(), SyntaxError> {
    for (key, value) in table {
        let line = line_at(text, key.span().start);
        let name = match prefix {
            "" => key.get_ref().to_string(),
            _ => format!("{prefix}.{}", key.get_ref()),
        };
        let (value, written) = match value.get_ref() {
            DeValue::String(value) => (value.to_string(), Written::Quoted),
            DeValue::Boolean(value) => (value.to_string(), Written::Switch),
            DeValue::Integer(value) => (decimal(value.as_str(), value.radix()), Written::Number),
            DeValue::Float(value) => (value.as_str().to_owned(), Written::Number),
            DeValue::Table(inner) => {
                flatten(text, &name, inner, entries)?;
                continue;
            }
            DeValue::Array(_) => return Err(not_a_value(line, &name, "a list")),
            DeValue::Datetime(_) => return Err(not_a_value(line, &name, "a date or time")),
        };
        entries.push(Entry {
            key: name,
            value,
            line,
            written,
        });
    }
    Ok(())
}

fn not_a_value(line: u32, key: &str, what: &str) -> SyntaxError {
    SyntaxError {
        line,
        misdeed: format!("{key}: {what} is not a value of any key"),
    }
}

/// Hexadecimal and the like in the decimal form that value parsers know; what does not fit stays as it is and fails there.
fn decimal(digits: &str, radix: u32) -> String {
    match i64::from_str_radix(digits, radix) {
        Ok(number) => number.to_string(),
        Err(_) => digits.to_owned(),
    }
}

fn line_at(text: &str, offset: usize) -> u32 {
    let lines = text
        .as_bytes()
        .iter()
        .take(offset)
        .filter(|&&byte| byte == b'\n')
        .count();
    u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1)
}
