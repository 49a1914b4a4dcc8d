//! The stored record as far as a test needs it, read from pull, query and view bodies.

use anyhow::{Context, Result, ensure};

const MAGIC: u32 = 0xDAA3_20A7;

/// One message as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its queue.
    pub queue_id: u32,
    /// Its place in the queue.
    pub queue_offset: u64,
    /// Its place in the log.
    pub log_offset: u64,
    /// Milliseconds since 1970.
    pub store_time: u64,
    /// The topic it is stored under.
    pub topic: String,
    /// The body as stored.
    pub body: Vec<u8>,
    /// The properties' text.
    pub properties: Vec<u8>,
}

/// All records of a body, which must hold nothing else.
pub fn all(mut bytes: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let mut reader = Reader(bytes);
        let size = usize::try_from(reader.u32()?)?;
        ensure!(
            size <= bytes.len(),
            "record of {size} bytes in {}",
            bytes.len()
        );
        let (record, rest) = bytes.split_at(size);
        records.push(one(record).with_context(|| format!("record {}", records.len()))?);
        bytes = rest;
    }
    Ok(records)
}

fn one(bytes: &[u8]) -> Result<Record> {
    let mut reader = Reader(bytes);
    reader.take(4)?;
    let magic = reader.u32()?;
    ensure!(magic == MAGIC, "magic {magic:08x}");
    let crc = reader.u32()?;
    let queue_id = reader.u32()?;
    reader.take(4)?; // flag
    let queue_offset = reader.u64()?;
    let log_offset = reader.u64()?;
    let sys_flag = reader.u32()?;
    reader.take(8)?; // born time
    reader.take(if sys_flag & 0x10 == 0 { 8 } else { 20 })?;
    let store_time = reader.u64()?;
    reader.take(if sys_flag & 0x20 == 0 { 8 } else { 20 })?;
    reader.take(12)?; // reconsume times, prepared offset
    let length = usize::try_from(reader.u32()?)?;
    let body = reader.take(length)?.to_vec();
    ensure!(
        crc == crc32(&body) & 0x7FFF_FFFF,
        "wrong CRC at queue offset {queue_offset}"
    );
    let length = usize::from(reader.take(1)?[0]);
    let topic = String::from_utf8(reader.take(length)?.to_vec())?;
    let length = usize::from(u16::from_be_bytes([reader.take(1)?[0], reader.take(1)?[0]]));
    let properties = reader.take(length)?.to_vec();
    ensure!(
        reader.0.is_empty(),
        "{} bytes behind the record",
        reader.0.len()
    );
    Ok(Record {
        queue_id,
        queue_offset,
        log_offset,
        store_time,
        topic,
        body,
        properties,
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        ensure!(
            count <= self.0.len(),
            "{count} bytes wanted, {} left",
            self.0.len()
        );
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into()?))
    }
}

/// CRC-32 as zlib has it.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        let [low, ..] = crc.to_le_bytes();
        crc = (crc >> 8) ^ TABLE[usize::from(low ^ byte)];
    }
    !crc
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { 0xEDB8_8320 } else { 0 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::{all, crc32};

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_record_is_read_and_a_changed_one_is_not() {
        let hex = "0000006adaa320a758932aac0000000300000000000000000000000400000000000000050000000000000000000000\
                   010a000009000015b300000000000000020a00000100002a9f0000000000000000000000000000000268690654\
                   6f7069634100074b455953016b31";
        let mut bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let record = &all(&bytes).unwrap()[0];
        assert_eq!(
            (record.queue_id, record.queue_offset, record.log_offset),
            (3, 4, 5)
        );
        assert_eq!(
            (record.topic.as_str(), record.body.as_slice()),
            ("TopicA", b"hi".as_slice())
        );
        bytes[86] ^= 1;
        assert!(all(&bytes).is_err());
    }
}
