//! The wire: what a program that knows only the contract sees. Each test boots the real listener on
//! a free port of loopback, over a real catalog and a real repository in a scratch folder.

mod client;
mod engine;
mod events;
mod room;
mod rules;
mod story;
