//! The wire: what a program that knows only the contract sees. Each test boots the real listener on
//! a free port of loopback, over a real catalog and a real repository in a scratch folder.

mod bad_input;
mod client;
mod documents;
mod engine;
mod events;
mod headers;
mod limits;
mod log;
mod measures;
mod order;
mod room;
mod rules;
mod secrecy;
mod story;
mod tenants;
mod tls;
