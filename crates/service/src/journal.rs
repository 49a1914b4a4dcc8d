//! Lines for systemd's journal in its own protocol, one datagram each: fields stay fields.
//!
//! Ours are prefixed `GANTRY_`; the well-known ones (`MESSAGE`, `PRIORITY`, `MESSAGE_ID`, `SYSLOG_IDENTIFIER`) are not.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// A longer value is cut: a line must fit into a datagram of any system.
const VALUE_BYTES: usize = 16 << 10;
/// More than this of fields is left out.
const LINE_BYTES: usize = 64 << 10;

/// The way to the journal. Sending waits while the journal has much to do.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// Connects to the journal at this socket.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self { socket })
    }

    /// Sends what [`encode`] or [`note`] has made.
    pub(crate) fn send(&self, line: &[u8]) -> io::Result<()> {
        self.socket.send(line).map(drop)
    }
}

/// An event of the program with this name, with more text behind its message.
pub(crate) fn encode(identifier: &str, event: &Event<'_>, more: &str) -> Vec<u8> {
    let metadata = event.metadata();
    let mut line = Line::default();
    put(&mut line.fields, "PRIORITY", priority(*metadata.level()));
    put(&mut line.fields, "SYSLOG_IDENTIFIER", identifier);
    put(&mut line.fields, "GANTRY_TARGET", metadata.target());
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("thread");
    put(&mut line.fields, "GANTRY_THREAD", name);
    event.record(&mut line);
    line.message.push_str(more);
    put(&mut line.fields, "MESSAGE", &line.message);
    line.fields
}

/// A warning that is no event of the program.
pub(crate) fn note(identifier: &str, message_id: &str, message: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    put(&mut fields, "PRIORITY", priority(Level::WARN));
    put(&mut fields, "SYSLOG_IDENTIFIER", identifier);
    put(&mut fields, "MESSAGE_ID", message_id);
    put(&mut fields, "MESSAGE", message);
    fields
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<u8>,
}

impl Line {
    fn field(&mut self, name: &str, value: &str) {
        match name {
            "message" => self.message.push_str(value),
            "message_id" => put(&mut self.fields, "MESSAGE_ID", value),
            name => {
                let mut own = String::from("GANTRY_");
                // The journal takes capitals, digits and underscores.
                own.extend(name.chars().map(|character| match character {
                    'a'..='z' => character.to_ascii_uppercase(),
                    'A'..='Z' | '0'..='9' => character,
                    _ => '_',
                }));
                put(&mut self.fields, &own, value);
            }
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.field(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field.name(), value);
    }
}

/// `NAME`, the length in 8 bytes, the value: a form that takes line breaks.
fn put(into: &mut Vec<u8>, name: &str, value: &str) {
    let cut = (0..=VALUE_BYTES.min(value.len()))
        .rev()
        .find(|&at| value.is_char_boundary(at))
        .unwrap_or(0);
    if LINE_BYTES < into.len() && name != "MESSAGE" {
        return;
    }
    into.extend_from_slice(name.as_bytes());
    into.push(b'\n');
    into.extend_from_slice(&(cut as u64).to_le_bytes());
    into.extend_from_slice(&value.as_bytes()[..cut]);
    into.push(b'\n');
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    /// The fields of a datagram.
    pub(crate) fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap());
            let from = end + 9;
            let to = from + usize::try_from(length).unwrap();
            let value = String::from_utf8(bytes[from..to].to_vec()).unwrap();
            assert_eq!(bytes[to], b'\n');
            assert!(fields.insert(name, value).is_none());
            bytes = &bytes[to + 1..];
        }
        fields
    }
}
