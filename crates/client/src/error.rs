//! Why something asked of a server has no result.
//!
//! The texts keep the words that operators and scripts know from Java's client: `CODE: n  DESC: text`,
//! `connect to <address> failed`, `wait response on the channel <address> timeout`.

use std::io;

use gantry_net::client::CallError;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No name server is known.
    #[error("no name server address: give -n host:9876 or set NAMESRV_ADDR")]
    NoNameServer,
    /// No connection to a server.
    #[error("connect to {address} failed: {reason}")]
    Connect {
        /// The address as given.
        address: String,
        /// What the operating system says.
        reason: io::Error,
    },
    /// No connection to any name server.
    #[error("connect to {} failed: {}", listed(.all), reason(.last))]
    NoNameServerAnswers {
        /// All that were tried.
        all: Vec<String>,
        /// What the last one ended with.
        last: Box<Error>,
    },
    /// Connected, but no answer came.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server answered with an error.
    #[error("{0}")]
    Refused(Refused),
    /// The server's answer cannot be understood.
    #[error("cannot read the {what} from <{address}>: {reason}")]
    BadAnswer {
        /// What was asked for.
        what: &'static str,
        /// Who answered.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The route has no queue that can be written.
    #[error("No route info of this topic: {0}")]
    NoQueue(String),
    /// A broker that no route knows, or whose master is away.
    #[error("The broker[{0}] not exist")]
    NoBroker(String),
    /// Every try of a send failed.
    #[error("Send [{times}] times, still failed, Topic: {topic}, BrokersSent: {}: {last}", listed(.brokers))]
    SendFailed {
        /// How often it was tried.
        times: usize,
        /// The message's topic.
        topic: String,
        /// Brokers in the order tried.
        brokers: Vec<String>,
        /// What the last one ended with.
        last: Box<Error>,
    },
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Response code.
    pub code: i32,
    /// The server's words.
    pub remark: String,
    /// The broker that refused; `None` for name servers, and where Java does not tell either.
    pub broker: Option<String>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CODE: {}  DESC: {}", self.code, self.remark)?;
        match &self.broker {
            Some(broker) => write!(f, " BROKER: {broker}"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The response code, if a server answered.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Refused(refused) => Some(refused.code),
            Self::SendFailed { last, .. } => last.code(),
            _ => None,
        }
    }
}

/// Why, without saying whom once more.
fn reason(error: &Error) -> String {
    match error {
        Error::Connect { reason, .. } => reason.to_string(),
        other => other.to_string(),
    }
}

fn listed(addresses: &[String]) -> String {
    format!("[{}]", addresses.join(", "))
}
