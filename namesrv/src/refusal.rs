//! What a request can be told instead of an answer: a code and a text that names the object, the limit and the value.
//!
//! A refusal is a normal value, made where the decision is made and turned into a response in `dispatch`.

use gantry_wire::bodies::{BodyError, RegistrationError};
use gantry_wire::codes::response;
use gantry_wire::{HeaderError, Response};

use crate::kv::KvError;
use crate::routes::RegisterError;

/// Code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Response code.
    pub code: i32,
    /// Text for people.
    pub remark: String,
}

impl Refusal {
    /// A refusal without a code of its own (1).
    pub fn new(remark: impl Into<String>) -> Self {
        Self {
            code: response::SYSTEM_ERROR,
            remark: remark.into(),
        }
    }

    /// A refusal with a code.
    pub fn with(code: i32, remark: impl Into<String>) -> Self {
        Self {
            code,
            remark: remark.into(),
        }
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Response::refuse(refusal.code, refusal.remark)
    }
}

macro_rules! refused_with_its_text {
    ($($error:ty),*) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Refusal::new(error.to_string())
            }
        }
    )*};
}

refused_with_its_text!(
    HeaderError,
    BodyError,
    RegistrationError,
    RegisterError,
    KvError
);
