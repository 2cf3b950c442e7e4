//! The wire: what a program that knows only the contract sees. Each test boots the real listener on
//! a free port of loopback, over a real catalog and a real repository in a scratch folder.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod bad_input;
mod callers;
mod callers_table;
mod client;
mod contents;
mod dialect_limits;
mod documents;
mod downloads;
mod engine;
mod events;
mod headers;
mod holds;
mod identity;
mod limits;
mod lists;
mod log;
mod measures;
mod order;
mod races;
mod room;
mod rules;
mod secrecy;
mod story;
mod tenants;
mod timing;
mod tls;
