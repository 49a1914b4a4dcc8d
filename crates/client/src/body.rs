//! The body of a stored message as its sender meant it: decompressed if a client compressed it. Pure.

use std::{borrow::Cow, io::Read};

use flate2::read::ZlibDecoder;
use gantry_message::{RecordView, SysFlag};

/// No sender sends more than a frame holds; what grows beyond this is no message but an attack.
const PLAIN_BYTES_MAX: usize = 64 << 20;

/// Why a body cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum CompressedBody {
    /// Not what its flag says.
    #[error("the body is marked as zlib and is not: {0}")]
    Damaged(std::io::Error),
    /// Grows too much.
    #[error("the body grows beyond {PLAIN_BYTES_MAX} bytes")]
    TooLarge,
    /// LZ4 and zstd, which clients of 5.x may choose.
    #[error("the body is compressed in a way that is not supported (type {0:#x})")]
    Unsupported(u32),
}

/// The message's body, decompressed where its flag says so.
pub fn plain_body<'a>(record: &RecordView<'a>) -> Result<Cow<'a, [u8]>, CompressedBody> {
    let flag = record.sys_flag();
    if !flag.has(SysFlag::COMPRESSED) {
        return Ok(Cow::Borrowed(record.body()));
    }
    match flag.0 & SysFlag::COMPRESSION_TYPE_MASK {
        0 | 0x300 => inflate(record.body()).map(Cow::Owned),
        other => Err(CompressedBody::Unsupported(other)),
    }
}

fn inflate(body: &[u8]) -> Result<Vec<u8>, CompressedBody> {
    let mut plain = Vec::new();
    let limit = PLAIN_BYTES_MAX as u64 + 1;
    ZlibDecoder::new(body)
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(CompressedBody::Damaged)?;
    if PLAIN_BYTES_MAX < plain.len() {
        Err(CompressedBody::TooLarge)
    } else {
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};
    use gantry_message::{Millis, Record};

    use super::*;

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn check(flag: u32, body: &[u8]) -> Result<Vec<u8>, String> {
        let host = "127.0.0.1:1".parse().unwrap();
        let record = Record {
            topic: "T",
            queue_id: 0.into(),
            flag: 0,
            sys_flag: SysFlag(flag),
            born_time: Millis(0),
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: 0,
            body,
            properties: b"",
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes).unwrap();
        let view = RecordView::parse(&bytes).unwrap();
        plain_body(&view)
            .map(Cow::into_owned)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn zlib_is_undone_and_nothing_else_is_touched() {
        assert_eq!(check(0, b"plain").unwrap(), b"plain");
        assert_eq!(check(0x1, &zlib(b"hello")).unwrap(), b"hello");
        assert_eq!(check(0x301, &zlib(b"hello")).unwrap(), b"hello");
        assert_eq!(
            check(0x101, b"lz4").unwrap_err(),
            "the body is compressed in a way that is not supported (type 0x100)"
        );
        assert!(
            check(0x1, b"not zlib")
                .unwrap_err()
                .starts_with("the body is marked as zlib")
        );
    }

    #[test]
    fn a_body_that_grows_without_end_is_refused() {
        let bomb = zlib(&vec![0; PLAIN_BYTES_MAX + 1]);
        assert_eq!(
            check(0x1, &bomb).unwrap_err(),
            "the body grows beyond 67108864 bytes"
        );
    }
}
