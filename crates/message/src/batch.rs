//! The body of a batch send: items back to back, each a message without what the request header says for all.
//!
//! `total i32, magic i32, crc i32, flag i32, body length i32, body, properties length i16, properties`.
//! The first three are whatever the client wrote; like Java's broker, nobody looks at them.

use thiserror::Error;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The user's flag.
    pub flag: i32,
    /// The message body.
    pub body: &'a [u8],
    /// The properties text, as the client wrote it.
    pub properties: &'a [u8],
}

/// Why a batch body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The body ends inside an item.
    #[error("batch item {index} needs {need} bytes where the batch has {left}")]
    Truncated {
        /// Which item, from 0.
        index: usize,
        /// What its next field takes.
        need: usize,
        /// What is left.
        left: usize,
    },
    /// A length below zero.
    #[error("batch item {index} has the length {length}")]
    NegativeLength {
        /// Which item, from 0.
        index: usize,
        /// What it says.
        length: i32,
    },
}

/// The items of a batch body. Ends behind the first error.
#[must_use]
pub fn items(body: &[u8]) -> Items<'_> {
    Items {
        rest: body,
        index: 0,
    }
}

/// Iterator of [`items`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.item();
        self.index += 1;
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

impl<'a> Items<'a> {
    fn item(&mut self) -> Result<Item<'a>, BatchError> {
        self.take(12)?;
        let flag = i32::from_be_bytes(self.array()?);
        let body_length = i32::from_be_bytes(self.array()?);
        let body = self.sized(body_length)?;
        let properties_length = i16::from_be_bytes(self.array()?);
        let properties = self.sized(i32::from(properties_length))?;
        Ok(Item {
            flag,
            body,
            properties,
        })
    }

    fn sized(&mut self, length: i32) -> Result<&'a [u8], BatchError> {
        let index = self.index;
        self.take(
            usize::try_from(length).map_err(|_| BatchError::NegativeLength { index, length })?,
        )
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, need: usize) -> Result<&'a [u8], BatchError> {
        let Some((taken, rest)) = self.rest.split_at_checked(need) else {
            return Err(BatchError::Truncated {
                index: self.index,
                need,
                left: self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(taken)
    }
}

/// Appends an item as clients write it; `properties` must fit 32767 bytes, else nothing is written and `false` comes
/// back.
#[must_use]
pub fn push(out: &mut Vec<u8>, item: &Item<'_>) -> bool {
    let total = i32::try_from(22 + item.body.len() + item.properties.len());
    let (Ok(total), Ok(body), Ok(properties)) = (
        total,
        i32::try_from(item.body.len()),
        i16::try_from(item.properties.len()),
    ) else {
        return false;
    };
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&item.flag.to_be_bytes());
    out.extend_from_slice(&body.to_be_bytes());
    out.extend_from_slice(item.body);
    out.extend_from_slice(&properties.to_be_bytes());
    out.extend_from_slice(item.properties);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the wire specification, taken from a Java client.
    const GOLDEN: &str = "0000002b0000000000000000000000000000000268690013574149540174727565025441475301546167\
                          41";

    fn golden() -> Vec<u8> {
        (0..GOLDEN.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&GOLDEN[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn a_java_client_s_item_is_read_and_written() {
        let item = Item {
            flag: 0,
            body: b"hi",
            properties: b"WAIT\x01true\x02TAGS\x01TagA",
        };
        assert_eq!(items(&golden()).collect::<Vec<_>>(), [Ok(item)]);
        let mut out = Vec::new();
        assert!(push(&mut out, &item));
        assert_eq!(out, golden());
    }

    #[test]
    fn items_follow_each_other() {
        let two = [golden(), golden()].concat();
        assert_eq!(items(&two).filter(Result::is_ok).count(), 2);
        assert_eq!(items(b"").count(), 0);
    }

    #[test]
    fn every_cut_is_an_error_and_the_last_thing_read() {
        let whole = golden();
        for length in 1..whole.len() {
            let read: Vec<_> = items(&whole[..length]).collect();
            assert!(
                matches!(read[..], [Err(BatchError::Truncated { index: 0, .. })]),
                "{length}: {read:?}"
            );
        }
    }

    #[test]
    fn a_negative_length_is_named() {
        let mut bad = golden();
        bad[16] = 0xFF;
        let error = items(&bad).next().unwrap().unwrap_err();
        assert_eq!(
            error,
            BatchError::NegativeLength {
                index: 0,
                length: -16_777_214
            }
        );
    }

    #[test]
    fn properties_that_do_not_fit_are_not_written() {
        let mut out = Vec::new();
        assert!(!push(
            &mut out,
            &Item {
                flag: 0,
                body: b"",
                properties: &[b'a'; 32768]
            }
        ));
        assert!(out.is_empty());
    }
}
