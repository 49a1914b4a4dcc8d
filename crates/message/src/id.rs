//! The message id that a broker gives: where the message is stored, in hexadecimal digits.
//!
//! Address (4 or 16 bytes), port (4 bytes), log offset (8 bytes): 32 or 56 upper-case digits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::LogOffset;

/// Where a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The broker that stores it.
    pub host: SocketAddr,
    /// Its place in that broker's log.
    pub offset: LogOffset,
}

/// Why a text is no message id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// Neither 32 nor 56 digits.
    #[error("message id of {length} characters, expected 32 or 56")]
    Length {
        /// What it has.
        length: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error("message id with a character that is no hexadecimal digit")]
    Digit,
    /// The port does not fit.
    #[error("message id with port {port}, the limit is 65535")]
    Port {
        /// What it says.
        port: u32,
    },
    /// The log offset is negative.
    #[error("message id with a negative log offset")]
    Offset,
}

impl fmt::Display for MessageId {
    // Part of every answer to a send: digits are set by hand, the formatter's padding costs ten times as much.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; DIGITS_MAX / 2];
        let host_len = match self.host.ip() {
            IpAddr::V4(ip) => {
                bytes[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                bytes[..16].copy_from_slice(&ip.octets());
                16
            }
        };
        let len = host_len + 12;
        bytes[host_len..host_len + 4].copy_from_slice(&u32::from(self.host.port()).to_be_bytes());
        bytes[host_len + 4..len].copy_from_slice(&self.offset.0.to_be_bytes());
        let mut digits = [0; DIGITS_MAX];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(&bytes[..len]) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&digits[..2 * len]).map_err(|_| fmt::Error)?)
    }
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
/// Of an id with an IPv6 host.
const DIGITS_MAX: usize = 56;

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let length = text.len();
        if !(length == 32 || length == 56) {
            return Err(IdError::Length { length });
        }
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(IdError::Digit);
        }
        let (ip, rest) = text.split_at(length - 24);
        let (port, offset) = rest.split_at(8);
        let digits = |text: &str| u128::from_str_radix(text, 16).map_err(|_| IdError::Digit);
        let ip = if ip.len() == 8 {
            IpAddr::V4(Ipv4Addr::from(
                u32::try_from(digits(ip)?).map_err(|_| IdError::Digit)?,
            ))
        } else {
            IpAddr::V6(Ipv6Addr::from(digits(ip)?))
        };
        let port = u32::try_from(digits(port)?).map_err(|_| IdError::Digit)?;
        let offset = i64::try_from(digits(offset)?).map_err(|_| IdError::Offset)?;
        Ok(Self {
            host: SocketAddr::new(ip, u16::try_from(port).map_err(|_| IdError::Port { port })?),
            offset: LogOffset(offset.cast_unsigned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_both_ways() {
        for text in [
            "0A00000100002A9F0000000000000005",
            "20010DB800000000000000000000000100002A9F00000000000003E8",
        ] {
            let id: MessageId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        let id: MessageId = "0a00000100002a9f0000000000000005".parse().unwrap();
        assert_eq!(id.host, "10.0.0.1:10911".parse().unwrap());
        assert_eq!(id.offset, LogOffset(5));
    }

    #[test]
    fn what_is_no_id_is_refused_by_name() {
        for (text, expected) in [
            ("", IdError::Length { length: 0 }),
            ("0A0000010000", IdError::Length { length: 12 }),
            ("0A00000100002A9F000000000000000G", IdError::Digit),
            ("+A00000100002A9F0000000000000005", IdError::Digit),
            (
                "0A000001000100000000000000000005",
                IdError::Port { port: 65536 },
            ),
            ("0A00000100002A9FF000000000000005", IdError::Offset),
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(expected), "{text}");
        }
    }
}
