//! Lines for systemd's journal: ours and their fields, prefixed `GANTRY_`, and for events the well-known `MESSAGE_ID`.
//!
//! `tracing-journald` prefixes every field of an event but its message, and takes fields without a prefix for a whole
//! layer alone: so each event that has a number has a layer.
//!
//! It sends at once, on the thread that logs, and waits while the journal's socket is full
//! (`docs/decisions/0003-journal-lines-are-sent-at-once.md`).

use std::io;

use tracing::field::{Field, Value, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Callsite, Event, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::events;

/// The way to the journal.
pub(crate) struct Journal {
    /// Of lines that are no event with a number.
    plain: tracing_journald::Layer,
    events: Vec<(&'static str, tracing_journald::Layer)>,
}

impl Journal {
    /// Connects to the journal, as the program with this name.
    pub(crate) fn connect(identifier: &str) -> io::Result<Self> {
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

    pub(crate) fn send<S>(&self, event: &Event<'_>, context: Context<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        self.layer(event).on_event(event, context);
    }

    /// Says before an event that so many like it were left out.
    pub(crate) fn send_left_out<S>(&self, event: &Event<'_>, count: u64, context: Context<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let metadata = left_out();
        let fields = metadata.fields();
        let named = |name| fields.field(name);
        let (Some(message), Some(number), Some(place)) =
            (named("message"), named(Number::FIELD), named("place"))
        else {
            return;
        };
        let text = format!("{count} lines like the next one were left out");
        let values: [(&Field, Option<&dyn Value>); 3] = [
            (&message, Some(&text)),
            (&number, Some(&events::SUPPRESSED)),
            (&place, Some(&event.metadata().name())),
        ];
        let values = fields.value_set(&values);
        // By `warn!` it would come through the whole subscriber again.
        self.send(&Event::new(metadata, &values), context);
    }

    /// A span's fields are kept with the span, for whichever layer sends an event in it.
    pub(crate) fn open<S>(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        self.plain.on_new_span(attributes, id, context);
    }

    pub(crate) fn record<S>(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        self.plain.on_record(id, values, context);
    }
}

/// What a line about lines that were left out is.
fn left_out() -> &'static Metadata<'static> {
    tracing::callsite! {
        name: "left_out",
        kind: tracing::metadata::Kind::EVENT,
        level: tracing::Level::WARN,
        fields: message, message_id, place
    }
    .metadata()
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
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == Self::FIELD {
            let known = self.1.iter().find(|(id, _)| *id == value);
            self.0 = known.map(|(_, layer)| layer);
        }
    }
}
