//! Message ids as Java's client makes them: what `UNIQ_KEY` carries, and what operators search for.
//!
//! Hexadecimal digits of: address (4 or 16 bytes), process (2), a number of this generator (4), milliseconds since the
//! month began in local time (4), counter (2). The time is an argument; which address is ours is asked once.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use gantry_message::Millis;
use jiff::{Timestamp, Zoned, tz::TimeZone};

/// Makes ids that no other generator makes.
#[derive(Debug)]
pub struct UniqueIds {
    prefix: String,
    month: Mutex<Month>,
    counter: AtomicU16,
}

/// Invariant: `begin <= end`; both zero before the first id.
#[derive(Debug, Default, Clone, Copy)]
struct Month {
    begin: i64,
    end: i64,
}

impl UniqueIds {
    /// A generator with this machine's address and this process's number.
    pub fn new() -> Self {
        // A hasher of the standard library starts from a random state: all that is needed to tell generators apart.
        let random = RandomState::new().build_hasher().finish();
        let pid = u16::try_from(std::process::id() & 0xFFFF).unwrap_or_default();
        Self::with(
            own_address(),
            pid,
            u32::try_from(random & 0xFFFF_FFFF).unwrap_or_default(),
        )
    }

    fn with(address: IpAddr, pid: u16, own: u32) -> Self {
        let address = match address {
            IpAddr::V4(ip) => format!("{:08X}", u32::from(ip)),
            IpAddr::V6(ip) => format!("{:032X}", u128::from(ip)),
        };
        Self {
            prefix: format!("{address}{pid:04X}{own:08X}"),
            month: Mutex::new(Month::default()),
            counter: AtomicU16::new(0),
        }
    }

    /// The next id.
    pub fn next(&self, now: Millis) -> String {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let span = self.since_month_began(now.0);
        format!("{}{span:08X}{counter:04X}", self.prefix)
    }

    fn since_month_began(&self, now: i64) -> u32 {
        let mut month = self.month.lock().unwrap_or_else(PoisonError::into_inner);
        // As in Java: a clock that went back a little does not count as another month.
        if month.end <= now || now < month.begin - 1_000_000 {
            *month = month_of(now);
        }
        u32::try_from((now - month.begin).clamp(0, i64::from(u32::MAX))).unwrap_or(0)
    }
}

impl Default for UniqueIds {
    fn default() -> Self {
        Self::new()
    }
}

fn month_of(now: i64) -> Month {
    let begin = |zoned: &Zoned| zoned.first_of_month().and_then(|day| day.start_of_day());
    let zoned =
        Timestamp::from_millisecond(now).map(|timestamp| timestamp.to_zoned(TimeZone::system()));
    let ends = zoned.and_then(|zoned| {
        let first = begin(&zoned)?;
        let next = begin(&first.checked_add(jiff::Span::new().days(31))?)?;
        Ok(Month {
            begin: first.timestamp().as_millisecond(),
            end: next.timestamp().as_millisecond(),
        })
    });
    // A time that no calendar knows: the id stays unique by its other parts.
    ends.unwrap_or(Month {
        begin: now,
        end: now.saturating_add(1),
    })
}

/// The address this machine uses towards the world; no packet is sent to find it.
fn own_address() -> IpAddr {
    let asked = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        // An address of the documentation range: only the choice of the route matters.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    asked.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_javas_layout() {
        let ids = UniqueIds::with(IpAddr::V4(Ipv4Addr::new(10, 1, 1, 9)), 0x14B4, 0x73D1_6E93);
        let now = Millis(1_700_000_000_123);
        let (first, second) = (ids.next(now), ids.next(now));
        assert_eq!(first.len(), 32);
        assert!(first.starts_with("0A01010914B473D16E93"), "{first}");
        assert!(
            first.ends_with("0000") && second.ends_with("0001"),
            "{first} {second}"
        );
        let span = i64::from_str_radix(&first[20..28], 16).unwrap();
        let began = Timestamp::from_millisecond(now.0 - span)
            .unwrap()
            .to_zoned(TimeZone::system());
        assert_eq!(
            (began.day(), began.hour(), began.minute(), began.second()),
            (1, 0, 0, 0)
        );
        assert_eq!(began.month(), 11);
    }

    #[test]
    fn an_address_of_16_bytes_makes_an_id_of_56_digits() {
        assert_eq!(
            UniqueIds::with("::1".parse().unwrap(), 1, 2)
                .next(Millis(0))
                .len(),
            56
        );
    }

    #[test]
    fn a_new_month_starts_again() {
        let ids = UniqueIds::with(IpAddr::V4(Ipv4Addr::LOCALHOST), 1, 2);
        let span = |now| u32::from_str_radix(&ids.next(Millis(now))[20..28], 16).unwrap();
        let november = month_of(1_700_000_000_000);
        assert_eq!(
            span(november.end - 1),
            u32::try_from(november.end - november.begin - 1).unwrap()
        );
        assert_eq!(span(november.end), 0);
        assert_eq!(
            span(november.end - 5),
            0,
            "a clock that goes back by a blink"
        );
        assert_eq!(span(i64::MAX), 0);
    }

    #[test]
    fn two_generators_differ() {
        let now = Millis(1_700_000_000_000);
        assert_ne!(UniqueIds::new().next(now), UniqueIds::new().next(now));
    }
}
