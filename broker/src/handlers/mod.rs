//! What the broker does for each request, one file a noun; `dispatch` says which code goes where.
//!
//! A handler is a struct with just the parts it uses. It decodes, decides and answers with a `Response` or a
//! `Refusal`; it knows neither sockets nor other handlers. Methods that may wait for a disk say "Blocks".

pub mod admin;
pub mod clients;
pub mod heartbeat;
pub mod locks;
pub mod offsets;
pub mod pull;
pub mod query;
pub mod send;
pub mod send_back;
