//! Arguments in, exit status out; the library does the rest.

use std::process::ExitCode;

use clap::Parser;
use doorward::cli::{Cli, status_of};

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(code) => code,
        // Whoever read our output has seen enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("doorward: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            status_of(&error).into()
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
