//! How Rust types join in: plain values, lists, maps.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Error, Key, Reader, unexpected};
use super::writer::Writer;

/// Can be read from JSON.
pub trait FromJson: Sized {
    /// Reads one value; `None` for `null`, which leaves a member at its default.
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error>;
}

/// Can be printed as JSON.
pub trait ToJson {
    /// Prints the value.
    fn to_json(&self, writer: &mut Writer);

    /// Whether the value is Java's null, which is left out of an object.
    fn is_null(&self) -> bool {
        false
    }
}

/// Can be a key of a map.
pub trait MapKey: Ord + Sized {
    /// Whether keys of this type are strings, which are quoted in every dialect.
    const TEXT: bool;

    /// Reads a key.
    fn from_key(key: &Key<'_>, reader: &Reader<'_>) -> Result<Self, Error>;

    /// Prints a key; not quoted unless it is a string.
    fn to_key(&self, writer: &mut Writer);
}

/// Whether member names ascend, which is the order fastjson prints them in. For compile-time checks.
pub(crate) const fn in_order(names: &[&str]) -> bool {
    let mut at = 1;
    while at < names.len() {
        if !less(names[at - 1].as_bytes(), names[at].as_bytes()) {
            return false;
        }
        at += 1;
    }
    true
}

const fn less(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() {
        if left[at] != right[at] {
            return left[at] < right[at];
        }
        at += 1;
    }
    left.len() < right.len()
}

/// The member that a name means: itself, or as fastjson's second try takes it, without regard to case, `_` and `-`.
pub(crate) fn member_of(name: &str, members: &[&'static str]) -> Option<&'static str> {
    let exact = members.iter().find(|member| **member == name);
    exact
        .or_else(|| {
            members
                .iter()
                .find(|member| letters(name).eq(letters(member)))
        })
        .copied()
}

fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes()
        .filter(|byte| !matches!(byte, b'_' | b'-'))
        .map(|byte| byte.to_ascii_lowercase())
}

impl FromJson for String {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        Ok(reader.text_of_any()?.map(Cow::into_owned))
    }
}

impl ToJson for String {
    fn to_json(&self, writer: &mut Writer) {
        writer.text(self);
    }
}

impl FromJson for bool {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        reader.boolean()
    }
}

impl ToJson for bool {
    fn to_json(&self, writer: &mut Writer) {
        writer.raw(if *self { "true" } else { "false" });
    }
}

impl FromJson for i32 {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        reader.int32()
    }
}

impl ToJson for i32 {
    fn to_json(&self, writer: &mut Writer) {
        writer.int(i64::from(*self));
    }
}

impl FromJson for i64 {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        reader.int64()
    }
}

impl ToJson for i64 {
    fn to_json(&self, writer: &mut Writer) {
        writer.int(*self);
    }
}

impl FromJson for f64 {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        reader.float64()
    }
}

impl ToJson for f64 {
    fn to_json(&self, writer: &mut Writer) {
        writer.float(*self);
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        Ok(T::from_json(reader)?.map(Some))
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self, writer: &mut Writer) {
        match self {
            Some(value) => value.to_json(writer),
            None => writer.raw("null"),
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        let mut list = Vec::new();
        let found = reader.array(|reader| {
            if let Some(element) = T::from_json(reader)? {
                reader.charge::<T>()?;
                list.push(element);
            }
            Ok(())
        })?;
        Ok(found.then_some(list))
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self, writer: &mut Writer) {
        writer.list(self);
    }
}

impl<T: FromJson + Ord> FromJson for BTreeSet<T> {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        Ok(Vec::from_json(reader)?.map(|list| list.into_iter().collect()))
    }
}

impl<T: ToJson> ToJson for BTreeSet<T> {
    fn to_json(&self, writer: &mut Writer) {
        writer.list(self);
    }
}

impl<K: MapKey, V: FromJson> FromJson for BTreeMap<K, V> {
    fn from_json(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        let mut map = BTreeMap::new();
        let found = reader.object(|reader, key| {
            let key = K::from_key(&key, reader)?;
            if let Some(value) = V::from_json(reader)? {
                reader.charge::<(K, V)>()?;
                map.insert(key, value);
            }
            Ok(())
        })?;
        Ok(found.then_some(map))
    }
}

impl<K: MapKey, V: ToJson> ToJson for BTreeMap<K, V> {
    fn to_json(&self, writer: &mut Writer) {
        let mut members = writer.object();
        for (key, value) in self {
            members.entry(key, value);
        }
        members.end();
    }
}

impl MapKey for String {
    const TEXT: bool = true;

    fn from_key(key: &Key<'_>, _: &Reader<'_>) -> Result<Self, Error> {
        Ok(match key {
            Key::Text(text) => text.clone().into_owned(),
            Key::Object(text) => (*text).to_string(),
        })
    }

    fn to_key(&self, writer: &mut Writer) {
        writer.text(self);
    }
}

impl MapKey for i32 {
    const TEXT: bool = false;

    fn from_key(key: &Key<'_>, reader: &Reader<'_>) -> Result<Self, Error> {
        integer_key(key, reader, "a 32-bit integer as key")
    }

    fn to_key(&self, writer: &mut Writer) {
        writer.int(i64::from(*self));
    }
}

impl MapKey for i64 {
    const TEXT: bool = false;

    fn from_key(key: &Key<'_>, reader: &Reader<'_>) -> Result<Self, Error> {
        integer_key(key, reader, "a 64-bit integer as key")
    }

    fn to_key(&self, writer: &mut Writer) {
        writer.int(*self);
    }
}

fn integer_key<T: std::str::FromStr>(
    key: &Key<'_>,
    reader: &Reader<'_>,
    wanted: &'static str,
) -> Result<T, Error> {
    let text = match key {
        Key::Text(text) => text.as_ref(),
        Key::Object(text) => text,
    };
    text.parse()
        .map_err(|_| Error::new(reader.position(), unexpected(wanted, text)))
}
