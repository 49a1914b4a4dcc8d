//! Lines for systemd's journal: ours and their fields, prefixed `GANTRY_`, and for events the well-known `MESSAGE_ID`.
//!
//! `tracing-journald` prefixes every field of an event but its message, and takes fields without a prefix for a whole
//! layer alone: so each event that has a number has a layer.
//!
//! It connects and sends at once, and waits while the journal's socket is full. So an event is [`Kept`] for a thread that may
//! wait, and made again there for a subscriber of its own (`docs/decisions/0003-journal-lines-wait-for-a-thread.md`). Spans
//! are not kept: none is logged.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Value, Visit};
use tracing::{Callsite, Event, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::events;

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// An event has no more fields.
const FIELDS_MAX: usize = 32;

/// The way to the journal, for a thread that may wait.
pub(crate) struct Journal {
    identifier: String,
    /// Made with the first event.
    way: Option<Layered<Numbered, Registry>>,
}

impl Journal {
    /// The way for the program with this name, if a journal is there. Does not wait for one that does not read.
    pub(crate) fn find(identifier: String) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // The journal throws an empty message away.
        match socket.send_to(&[], SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(Self {
                identifier,
                way: None,
            }),
        }
    }

    /// Sends an event; waits while the journal does not read. An error: there was no journal to connect to.
    pub(crate) fn send(&mut self, kept: &Kept) -> io::Result<()> {
        let way = match &mut self.way {
            Some(way) => way,
            none => {
                let numbered = Numbered::connect(&self.identifier)?;
                none.insert(tracing_subscriber::registry().with(numbered))
            }
        };
        let Some((first, _)) = kept.values.first() else {
            return Ok(());
        };
        let mut values: [(&Field, Option<&dyn Value>); FIELDS_MAX] = [(first, None); FIELDS_MAX];
        for (place, (field, text)) in values.iter_mut().zip(&kept.values) {
            *place = (field, Some(text));
        }
        let values = kept.metadata.fields().value_set(&values);
        way.event(&Event::new(kept.metadata, &values));
        Ok(())
    }
}

/// An event that outlives the call that made it: what it said, as text.
pub(crate) struct Kept {
    metadata: &'static Metadata<'static>,
    values: Vec<(Field, String)>,
}

impl Kept {
    /// Keeps an event, cut to about so many bytes.
    pub(crate) fn of(event: &Event<'_>, bytes_max: usize) -> Self {
        let mut texts = Texts {
            values: Vec::with_capacity(event.metadata().fields().len()),
            room: bytes_max,
        };
        event.record(&mut texts);
        Self {
            metadata: event.metadata(),
            values: texts.values,
        }
    }

    /// Says before an event that so many like it were left out.
    pub(crate) fn left_out(event: &Event<'_>, count: u64) -> Self {
        let text = format!("{count} lines like the next one were left out");
        let place = event.metadata().name().to_owned();
        let number = events::SUPPRESSED.to_owned();
        Self::note([("message", text), (Number::FIELD, number), ("place", place)])
    }

    /// Says that so many lines found no room.
    pub(crate) fn dropped(count: u64) -> Self {
        Self::note([("message", format!("{count} log lines were dropped"))])
    }

    fn note<const N: usize>(values: [(&str, String); N]) -> Self {
        let metadata = note();
        let field = |(name, text): (&str, String)| Some((metadata.fields().field(name)?, text));
        Self {
            metadata,
            values: values.into_iter().filter_map(field).collect(),
        }
    }
}

/// What a line about lines that are missing is.
fn note() -> &'static Metadata<'static> {
    tracing::callsite! {
        name: "left_out",
        kind: tracing::metadata::Kind::EVENT,
        level: tracing::Level::WARN,
        fields: message, message_id, place
    }
    .metadata()
}

/// Collects what an event says, as far as there is room.
struct Texts {
    values: Vec<(Field, String)>,
    room: usize,
}

impl Texts {
    fn push(&mut self, field: &Field, mut text: String) {
        text.truncate(text.floor_char_boundary(self.room));
        self.room -= text.len();
        self.values.push((field.clone(), text));
    }
}

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = write!(text, "{value:?}");
        self.push(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.to_owned());
    }
}

/// Chooses among layers by the number that an event says.
struct Numbered {
    /// Of lines that are no event with a number.
    plain: tracing_journald::Layer,
    events: Vec<(&'static str, tracing_journald::Layer)>,
}

impl Numbered {
    fn connect(identifier: &str) -> io::Result<Self> {
        let layer = || {
            let priorities = PriorityMappings {
                info: Priority::Informational,
                debug: Priority::Debug,
                ..PriorityMappings::new()
            };
            let layer = tracing_journald::layer()?
                .with_field_prefix(Some("GANTRY".to_owned()))
                .with_priority_mappings(priorities)
                .with_syslog_identifier(identifier.to_owned());
            Ok::<_, io::Error>(layer)
        };
        let event = |id| Ok((id, layer()?.with_custom_fields([("MESSAGE_ID", id)])));
        Ok(Self {
            plain: layer()?,
            events: events::ALL
                .into_iter()
                .map(event)
                .collect::<io::Result<_>>()?,
        })
    }

    fn layer(&self, event: &Event<'_>) -> &tracing_journald::Layer {
        let mut number = Number(None, &self.events);
        // Few have one, and looking for it visits every field.
        if event.metadata().fields().field(Number::FIELD).is_some() {
            event.record(&mut number);
        }
        number.0.unwrap_or(&self.plain)
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Numbered {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.layer(event).on_event(event, context);
    }
}

/// Finds the layer of the number that an event says.
struct Number<'a>(
    Option<&'a tracing_journald::Layer>,
    &'a [(&'static str, tracing_journald::Layer)],
);

impl Number<'_> {
    const FIELD: &'static str = "message_id";
}

impl Visit for Number<'_> {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == Self::FIELD {
            let known = self.1.iter().find(|(id, _)| *id == value);
            self.0 = known.map(|(_, layer)| layer);
        }
    }
}
