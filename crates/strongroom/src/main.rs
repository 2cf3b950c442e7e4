//! The executable. Everything is in the library, so that tests can boot it in process.

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom::run(std::env::args_os())
}
