//! Extension fields: the name and value texts that carry a request's or response's typed header.
//!
//! Knows texts only. What a field means stands in [`crate::headers`].

use std::borrow::Cow;
use std::fmt::Display;

use smallvec::SmallVec;

use crate::headers::{HeaderDecode, HeaderError};

/// A V2 send has 14 fields, a signed one 16; more than that goes to the heap.
const INLINE: usize = 16;

/// Fields that one header may have. Java sets no limit; real headers have below thirty.
pub const FIELDS_MAX: usize = 4096;

/// The extension fields of one header, in the order received, borrowed from it where nothing had to be unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    items: SmallVec<[(Cow<'a, str>, Cow<'a, str>); INLINE]>,
}

impl<'a> Fields<'a> {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Value of a field. A name that was sent twice counts with its last value, as in Java's map.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.items
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_ref())
    }

    /// Every field in the order received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.items
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds a field.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.items.push((name.into(), value.into()));
    }

    /// Adds a field that a peer sent, unless there are too many.
    pub(crate) fn receive(
        &mut self,
        name: Cow<'a, str>,
        value: Cow<'a, str>,
    ) -> Result<(), HeaderError> {
        if FIELDS_MAX <= self.items.len() {
            return Err(HeaderError::TooManyFields);
        }
        self.items.push((name, value));
        Ok(())
    }

    /// The same for borrowed texts. Inlined, because handing over finished pairs costs more than everything else here.
    #[inline]
    pub(crate) fn receive_borrowed(&mut self, name: &'a str, value: &'a str) -> Option<()> {
        if FIELDS_MAX <= self.items.len() {
            return None;
        }
        self.items.push((Cow::Borrowed(name), Cow::Borrowed(value)));
        Some(())
    }

    /// The typed header that these fields spell. Missing or unparsable fields are an error that names header, field and
    /// value; it is an answer for the peer, no reason to close the connection.
    pub fn header<'s, T: HeaderDecode<'s>>(&'s self) -> Result<T, HeaderError> {
        T::decode(self.iter())
    }

    /// The same fields without a borrow.
    pub fn into_owned<'b>(self) -> Fields<'b> {
        let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
            (
                Cow::Owned(name.into_owned()),
                Cow::Owned(value.into_owned()),
            )
        };
        Fields {
            items: self.items.into_iter().map(own).collect(),
        }
    }
}

/// Where a typed header writes its fields: straight into a frame, or into a list.
pub trait FieldSink {
    /// Adds a field with a text value.
    fn text(&mut self, name: &str, value: &str);
    /// Adds a field with a number.
    fn int(&mut self, name: &str, value: i64);
    /// Adds a field with a truth value.
    fn bool(&mut self, name: &str, value: bool) {
        self.text(name, if value { "true" } else { "false" });
    }
    /// Adds a field with anything that can be shown.
    fn show(&mut self, name: &str, value: &dyn Display) {
        self.text(name, &value.to_string());
    }
}

impl FieldSink for Fields<'static> {
    fn text(&mut self, name: &str, value: &str) {
        self.push(name.to_string(), value.to_string());
    }

    fn int(&mut self, name: &str, value: i64) {
        self.push(name.to_string(), value.to_string());
    }
}

impl FieldSink for Vec<(Cow<'static, str>, String)> {
    fn text(&mut self, name: &str, value: &str) {
        self.push((Cow::Owned(name.to_string()), value.to_string()));
    }

    fn int(&mut self, name: &str, value: i64) {
        self.push((Cow::Owned(name.to_string()), value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_equal_names_counts() {
        let mut fields = Fields::new();
        fields.push("topic", "A");
        fields.push("topic", "B");
        assert_eq!(fields.get("topic"), Some("B"));
        assert_eq!(fields.get("Topic"), None);
        assert_eq!(fields.len(), 2);
    }
}
