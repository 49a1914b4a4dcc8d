//! Request frames made once and patched in place, and the few words of an answer that a load generator needs.
//!
//! The frames are those of the Java client: a JSON header, short field names for a send, a unique key and `WAIT` in
//! the properties. Answers are scanned, not parsed: inside a JSON text a quote is always escaped, so `"opaque":`
//! can only be the member itself.

use anyhow::{Context, Result, bail};

/// The first opaque: ten digits whatever is added, so that a frame never changes its length.
pub(crate) const OPAQUE_BASE: u32 = 1_000_000_000;
/// Requests in flight on one connection stay below this.
pub(crate) const IN_FLIGHT_MAX: usize = 100_000;

const BORN_DIGITS: usize = 13;
const KEY_DIGITS: usize = 16;
const OPAQUE_DIGITS: usize = 10;
const TOPIC_DIGITS: usize = 5;

/// The topics that a load goes to: one, or many that share a prefix and end in a number of five digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topics<'a> {
    prefix: &'a str,
    pub(crate) count: usize,
    /// Queues of each.
    pub(crate) queues: usize,
}

impl<'a> Topics<'a> {
    pub(crate) fn new(prefix: &'a str, count: usize, queues: usize) -> Result<Topics<'a>> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"%|_-".contains(&byte);
        if prefix.is_empty() || !prefix.bytes().all(good) {
            bail!("--topic {prefix:?} holds more than letters, digits and %|_-");
        }
        Ok(Topics {
            prefix,
            count,
            queues,
        })
    }

    /// The name of one of them.
    pub(crate) fn name(&self, number: usize) -> String {
        if self.count == 1 {
            self.prefix.to_owned()
        } else {
            format!("{}-{number:05}", self.prefix)
        }
    }
}

/// A send request (310) to one queue of any of the topics, and where its changing parts lie.
pub(crate) struct SendFrame {
    bytes: Vec<u8>,
    /// Where the topic's number is, when there are several.
    topic_at: Option<usize>,
    born_at: usize,
    key_at: usize,
    opaque_at: usize,
}

impl SendFrame {
    /// A frame for `queue` of the first topic. `run` makes the unique keys of this run differ from those of others.
    pub(crate) fn new(
        topics: &Topics<'_>,
        queue: usize,
        run: u64,
        body: &[u8],
    ) -> Result<SendFrame> {
        let (topic, queues) = (topics.name(0), topics.queues);
        let mut header =
            format!("{{\"code\":310,\"extFields\":{{\"a\":\"mqbench\",\"b\":\"{topic}");
        let topic_at = (1 < topics.count).then_some(header.len() - TOPIC_DIGITS + 8);
        header.push_str(&format!(
            "\",\"c\":\"TBW102\",\"d\":\"{queues}\",\"e\":\"{queue}\",\"f\":\"0\",\"g\":\""
        ));
        let born_at = header.len();
        header.push_str(&"0".repeat(BORN_DIGITS));
        header.push_str(&format!("\",\"h\":\"0\",\"i\":\"UNIQ_KEY\\u0001{run:016X}"));
        let key_at = header.len();
        header.push_str(&"0".repeat(KEY_DIGITS));
        header.push_str(
            "\\u0002WAIT\\u0001true\",\"j\":\"0\",\"k\":\"false\",\"m\":\"false\",\"n\":\"mqbench\"},\"flag\":0,\
             \"language\":\"JAVA\",\"opaque\":",
        );
        let opaque_at = header.len();
        header.push_str(&"0".repeat(OPAQUE_DIGITS));
        header.push_str(",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}");
        let bytes = frame(&header, body)?;
        Ok(SendFrame {
            bytes,
            topic_at,
            born_at: born_at + 8,
            key_at: key_at + 8,
            opaque_at: opaque_at + 8,
        })
    }

    /// Names the topic that the next requests go to.
    pub(crate) fn set_topic(&mut self, number: usize) {
        if let Some(at) = self.topic_at {
            decimal(&mut self.bytes[at..at + TOPIC_DIGITS], number as u64);
        }
    }

    /// Writes the time that new messages say they were born at.
    pub(crate) fn set_born(&mut self, millis: u64) {
        decimal(
            &mut self.bytes[self.born_at..self.born_at + BORN_DIGITS],
            millis,
        );
    }

    /// Appends one request.
    pub(crate) fn push(&self, out: &mut Vec<u8>, opaque: u32, key: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[start..];
        decimal(
            &mut frame[self.opaque_at..self.opaque_at + OPAQUE_DIGITS],
            u64::from(opaque),
        );
        hexadecimal(&mut frame[self.key_at..self.key_at + KEY_DIGITS], key);
    }
}

/// A request whose fields vary: pulls, offsets, topic creation.
pub(crate) fn request(code: i32, opaque: u32, fields: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut members = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        if value
            .bytes()
            .any(|byte| byte < b' ' || byte == b'"' || byte == b'\\')
        {
            bail!("{name} {value:?} holds a quote, a backslash or a control character");
        }
        members.push(format!("\"{name}\":\"{value}\""));
    }
    let header = format!(
        "{{\"code\":{code},\"extFields\":{{{}}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{opaque},\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}}",
        members.join(",")
    );
    frame(&header, &[])
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) code: i32,
    pub(crate) opaque: u32,
    /// The whole JSON header, for what only some need.
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads a whole frame. Needs a JSON header, as the requests have.
    pub(crate) fn read(frame: &'a [u8]) -> Result<Answer<'a>> {
        let word = frame
            .first_chunk::<8>()
            .context("a frame without header word")?;
        let [_, _, _, _, serialization, size @ ..] = *word;
        let size = u32::from_be_bytes([0, size[0], size[1], size[2]]) as usize;
        let (header, body) = frame[8..]
            .split_at_checked(size)
            .context("a header longer than its frame")?;
        if serialization != 0 {
            bail!("a JSON request was answered with serialization {serialization}");
        }
        let opaque = after_last(header, b"\"opaque\":")
            .and_then(number)
            .context("an answer without opaque")?;
        let code = match header.strip_prefix(b"{\"code\":") {
            Some(rest) => number(rest),
            None => after_last(header, b"\"code\":").and_then(number),
        };
        let code = code.context("an answer without code")?;
        Ok(Answer {
            code: i32::try_from(code)?,
            opaque: u32::try_from(opaque)?,
            header,
            body,
        })
    }

    /// A number among the extension fields.
    pub(crate) fn field(&self, name: &str) -> Option<i64> {
        after_last(self.header, format!("\"{name}\":\"").as_bytes()).and_then(number)
    }

    /// The remark, as it stands in the header.
    pub(crate) fn remark(&self) -> String {
        let rest = after_last(self.header, b"\"remark\":\"").unwrap_or_default();
        let end =
            (0..rest.len()).find(|at| rest[*at] == b'"' && (*at == 0 || rest[at - 1] != b'\\'));
        String::from_utf8_lossy(&rest[..end.unwrap_or(rest.len())]).into_owned()
    }
}

/// Sizes of the messages in the body of a pull answer; stops at the first that is not whole.
pub(crate) fn record_sizes(body: &[u8]) -> impl Iterator<Item = usize> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        rest = rest.get(size.max(4)..)?;
        Some(size)
    })
}

fn frame(header: &str, body: &[u8]) -> Result<Vec<u8>> {
    let total = u32::try_from(4 + header.len() + body.len())?;
    let mut bytes = Vec::with_capacity(total as usize + 4);
    bytes.extend_from_slice(&total.to_be_bytes());
    // The top byte of the header word is the serialization: 0 is JSON.
    bytes.extend_from_slice(&u32::try_from(header.len())?.to_be_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    Ok(bytes)
}

fn decimal(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn hexadecimal(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}

pub(crate) fn after_last<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = text
        .windows(name.len())
        .rposition(|window| window == name)?;
    Some(&text[at + name.len()..])
}

/// The number at the front, if there is one.
pub(crate) fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let mut value = 0_i64;
    for digit in &digits[..end] {
        value = value
            .checked_mul(10)?
            .checked_add(i64::from(digit - b'0'))?;
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_wire::frame as wire;

    #[test]
    fn a_patched_frame_is_what_the_java_client_sends() {
        let mut template =
            SendFrame::new(&Topics::new("T1", 1, 8).unwrap(), 3, 0xAB, b"body").unwrap();
        template.set_born(1_700_000_000_123);
        let mut out = b"before".to_vec();
        template.push(&mut out, OPAQUE_BASE + 7, 0xBEEF);
        let frame = wire::split(&out[6..], wire::FRAME_MAX).unwrap().unwrap();
        assert_eq!(frame.size, out.len() - 6);
        assert_eq!(frame.body, b"body");
        let header = frame.decode().unwrap();
        assert_eq!((header.code, header.opaque), (310, 1_000_000_007));
        assert_eq!(header.fields.get("b"), Some("T1"));
        assert_eq!(header.fields.get("d"), Some("8"));
        assert_eq!(header.fields.get("e"), Some("3"));
        assert_eq!(header.fields.get("g"), Some("1700000000123"));
        assert_eq!(
            header.fields.get("i"),
            Some("UNIQ_KEY\u{1}00000000000000AB000000000000BEEF\u{2}WAIT\u{1}true")
        );
        assert!(Topics::new("a\"b", 1, 1).is_err());
    }

    #[test]
    fn a_frame_goes_to_any_of_many_topics() {
        let topics = Topics::new("T", 30, 4).unwrap();
        let mut template = SendFrame::new(&topics, 1, 0, b"body").unwrap();
        for number in [0, 29, 7] {
            template.set_topic(number);
            let mut out = Vec::new();
            template.push(&mut out, OPAQUE_BASE, 0);
            let frame = wire::split(&out, wire::FRAME_MAX).unwrap().unwrap();
            let header = frame.decode().unwrap();
            assert_eq!(
                header.fields.get("b"),
                Some(topics.name(number).as_str()),
                "{number}"
            );
        }
        assert_eq!(topics.name(29), "T-00029");
    }

    #[test]
    fn a_varying_request_is_readable_and_cannot_be_broken_out_of() {
        let bytes = request(11, 5, &[("topic", "T"), ("queueOffset", "12")]).unwrap();
        let header = wire::split(&bytes, wire::FRAME_MAX)
            .unwrap()
            .unwrap()
            .decode()
            .unwrap()
            .into_owned();
        assert_eq!((header.code, header.opaque), (11, 5));
        assert_eq!(header.fields.get("queueOffset"), Some("12"));
        assert!(request(11, 5, &[("topic", "T\",\"x\":\"")]).is_err());
    }

    fn answer(header: &str, body: &[u8]) -> Vec<u8> {
        frame(header, body).unwrap()
    }

    #[test]
    fn answers_are_scanned_whatever_the_order_of_members() {
        let check = |header: &str, code: i32, opaque: u32| {
            let bytes = answer(header, b"xy");
            let read = Answer::read(&bytes).unwrap();
            assert_eq!(
                (read.code, read.opaque, read.body),
                (code, opaque, &b"xy"[..]),
                "{header}"
            );
        };
        check(
            r#"{"code":0,"extFields":{"queueId":"1"},"flag":1,"opaque":5,"version":409}"#,
            0,
            5,
        );
        check(r#"{"opaque":7,"flag":1,"remark":"x","code":14}"#, 14, 7);
        check(r#"{"code":-1,"remark":"\"opaque\":9","opaque":1}"#, -1, 1);
    }

    #[test]
    fn fields_and_remark_are_found() {
        let header = r#"{"code":0,"extFields":{"nextBeginOffset":"42","minOffset":"0"},"opaque":1,"remark":"a \"b\" c"}"#;
        let bytes = answer(header, &[]);
        let read = Answer::read(&bytes).unwrap();
        assert_eq!(read.field("nextBeginOffset"), Some(42));
        assert_eq!(read.field("maxOffset"), None);
        assert_eq!(read.remark(), "a \\\"b\\\" c");
    }

    #[test]
    fn broken_answers_are_errors() {
        for (bytes, expected) in [
            (Vec::new(), "a frame without header word"),
            (
                vec![0, 0, 0, 5, 0, 0, 0, 9, b'{'],
                "a header longer than its frame",
            ),
            (answer("{\"code\":0}", &[]), "an answer without opaque"),
            (answer("{\"opaque\":0}", &[]), "an answer without code"),
            (
                vec![0, 0, 0, 4, 1, 0, 0, 0],
                "a JSON request was answered with serialization 1",
            ),
        ] {
            assert_eq!(Answer::read(&bytes).unwrap_err().to_string(), expected);
        }
        let huge = answer(r#"{"code":99999999999999999999,"opaque":1}"#, &[]);
        assert!(Answer::read(&huge).is_err());
    }

    #[test]
    fn records_are_counted_up_to_the_first_broken_one() {
        let body = [
            &8_u32.to_be_bytes()[..],
            &[0; 4],
            &4_u32.to_be_bytes(),
            &100_u32.to_be_bytes(),
            &[0; 9],
        ]
        .concat();
        assert_eq!(record_sizes(&body).collect::<Vec<_>>(), [8, 4]);
        assert_eq!(record_sizes(&[0, 0]).count(), 0);
    }
}
