//! Ports of one daemon that get in each other's way: known from the configuration alone, before anything is bound.

use std::net::IpAddr;

use crate::load::{Loaded, Severity, Source};
use crate::settings::Settings;

/// A port that a daemon listens on.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// The key that says so.
    pub key: &'static str,
    /// What it is called where it only follows from the key.
    pub name: &'static str,
    /// The address it is on.
    pub ip: IpAddr,
    /// Its number.
    pub number: u16,
}

impl Port {
    /// A port that its key says.
    pub const fn of(key: &'static str, ip: IpAddr, number: u16) -> Self {
        Self {
            key,
            name: key,
            ip,
            number,
        }
    }

    /// Whether only one of the two can be bound.
    fn meets(&self, other: &Self) -> bool {
        let is_all = self.ip.is_unspecified() || other.ip.is_unspecified();
        self.number == other.number && (is_all || self.ip == other.ip)
    }
}

impl<C: Settings> Loaded<C> {
    /// Names each port that an earlier one of the list takes. A port that nobody asked for is
    /// done without.
    pub fn ports_apart(&mut self, ports: &[Port]) {
        for (at, port) in ports.iter().enumerate() {
            let Some(taker) = ports.iter().take(at).find(|other| port.meets(other)) else {
                continue;
            };
            let (source, number) = (self.source(port.key), port.number);
            let text = format!(
                "{source}: {}={number}: the port of {}",
                port.name, taker.name
            );
            match source {
                Source::Default => self.find(
                    Severity::Warning,
                    format!("{text}, which goes first; set {}", port.key),
                ),
                _ => self.find(Severity::Error, text),
            }
        }
    }
}
