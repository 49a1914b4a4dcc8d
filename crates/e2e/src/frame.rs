//! The remoting protocol as far as a test needs it: JSON headers, one connection, one call at a time.
//!
//! Written from the protocol's description and shared with nothing that ships. [`Wire::send_bytes`] puts anything on
//! the wire, well formed or not.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// A connection to a name server or broker.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    opaque: i32,
}

/// What came back, or what the server asked us of its own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Response code, or request code of a request from the server.
    pub code: i64,
    /// The call it answers.
    pub opaque: i64,
    /// Bit 0: a response. Bit 1: wants no answer.
    pub flag: i64,
    /// The text people read.
    pub remark: Option<String>,
    /// The header's fields.
    pub fields: BTreeMap<String, String>,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// How a connection ended, if it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Closed in order (FIN).
    Closed,
    /// Torn down (RST).
    Reset,
    /// Still open after the time allowed.
    Open,
}

impl Wire {
    /// Connects; reading gives up after 10 s.
    pub fn connect(address: &str) -> Result<Wire> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Wire { stream, opaque: 0 })
    }

    /// How long a read may take from now on.
    pub fn patience(&self, limit: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(limit))?)
    }

    /// Sends a request and waits for its answer; requests of the server in between are dropped.
    pub fn call(&mut self, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let opaque = self.post(code, fields, body)?;
        loop {
            let answer = self.read()?;
            if answer.flag & 1 == 1 && answer.opaque == i64::from(opaque) {
                return Ok(answer);
            }
        }
    }

    /// Sends a request and does not wait. Returns the number of the call.
    pub fn post(&mut self, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Result<i32> {
        self.opaque += 1;
        let bytes = request(code, self.opaque, fields, body);
        self.send_bytes(&bytes)?;
        Ok(self.opaque)
    }

    /// Puts bytes on the wire as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads one frame.
    pub fn read(&mut self) -> Result<Answer> {
        let mut word = [0; 4];
        self.stream
            .read_exact(&mut word)
            .context("length of an answer")?;
        let length = usize::try_from(u32::from_be_bytes(word))?;
        ensure!(
            (4..=16 << 20).contains(&length),
            "an answer of {length} bytes"
        );
        let mut rest = vec![0; length];
        self.stream
            .read_exact(&mut rest)
            .context("rest of an answer")?;
        Answer::parse(&rest)
    }

    /// Reads until the connection ends or `limit` is over; what the server still says is dropped.
    pub fn end(&mut self, limit: Duration) -> Result<End> {
        self.patience(limit)?;
        let mut sink = [0; 4096];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return Ok(End::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(End::Reset),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(End::Open);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Answer {
    fn parse(frame: &[u8]) -> Result<Answer> {
        let (word, rest) = frame.split_first_chunk::<4>().context("header length")?;
        ensure!(
            word[0] == 0,
            "asked in JSON, answered in serialisation {}",
            word[0]
        );
        let length = usize::try_from(u32::from_be_bytes(*word))?;
        ensure!(
            length <= rest.len(),
            "header of {length} bytes in {}",
            rest.len()
        );
        let (header, body) = rest.split_at(length);
        let header: Value = serde_json::from_slice(header)
            .with_context(|| format!("header {}", String::from_utf8_lossy(header)))?;
        let number = |name: &str| {
            header[name]
                .as_i64()
                .with_context(|| format!("{name} in {header}"))
        };
        let mut fields = BTreeMap::new();
        if let Some(members) = header["extFields"].as_object() {
            for (name, value) in members {
                fields.insert(
                    name.clone(),
                    value.as_str().context("field is no string")?.to_owned(),
                );
            }
        }
        Ok(Answer {
            code: number("code")?,
            opaque: number("opaque")?,
            flag: number("flag")?,
            remark: header["remark"].as_str().map(str::to_owned),
            fields,
            body: body.to_vec(),
        })
    }

    /// A field that must be there.
    pub fn field(&self, name: &str) -> Result<&str> {
        self.fields
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no field {name} in {self:?}"))
    }

    /// A field that must be there and a number.
    pub fn number(&self, name: &str) -> Result<i64> {
        self.field(name)?
            .parse()
            .with_context(|| format!("{name} in {self:?}"))
    }

    /// The answer if its code is 0, else an error with the remark.
    pub fn success(self) -> Result<Answer> {
        if self.code != 0 {
            bail!(
                "code {}: {}",
                self.code,
                self.remark.as_deref().unwrap_or("no remark")
            );
        }
        Ok(self)
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("body {}", String::from_utf8_lossy(&self.body)))
    }
}

/// The bytes of a request as a 4.9.8 client would send it.
pub fn request(code: i32, opaque: i32, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let ext: Map<String, Value> = fields
        .iter()
        .map(|(k, v)| ((*k).to_owned(), Value::from(*v)))
        .collect();
    let header = json!({
        "code": code, "language": "JAVA", "version": 409, "opaque": opaque, "flag": 0,
        "serializeTypeCurrentRPC": "JSON", "extFields": ext,
    });
    assemble(header.to_string().as_bytes(), body)
}

/// A frame around any header bytes.
pub fn assemble(header: &[u8], body: &[u8]) -> Vec<u8> {
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = Vec::with_capacity(8 + header.len() + body.len());
    bytes.extend(word(4 + header.len() + body.len()));
    bytes.extend(word(header.len()));
    bytes.extend(header);
    bytes.extend(body);
    bytes
}
