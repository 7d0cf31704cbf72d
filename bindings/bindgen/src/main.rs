//! `tuntrail-bindgen`: writes bindings, or the listing of the API, from a built library.

use std::{error::Error, process::ExitCode};

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};
use tuntrail_bindgen::Language;

/// Writes the bindings of a UniFFI library and the listing of its API.
#[derive(Debug, Parser)]
#[command(name = "tuntrail-bindgen", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the bindings for one language.
    Generate {
        /// The built library; it must not be stripped.
        #[arg(long)]
        library: Utf8PathBuf,
        /// The language.
        #[arg(long)]
        language: Language,
        /// The directory to write into.
        #[arg(long)]
        out: Utf8PathBuf,
        /// A UniFFI global configuration file.
        #[arg(long)]
        config: Option<Utf8PathBuf>,
    },
    /// Print the listing of the API.
    Api {
        /// The built library; it must not be stripped.
        #[arg(long)]
        library: Utf8PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Generate { library, language, out, config } => {
            tuntrail_bindgen::generate(&library, language, &out, config.as_deref())
        }
        Command::Api { library } => tuntrail_bindgen::api(&library).map(|text| print!("{text}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuntrail-bindgen: {error}");
            let mut cause = error.source();
            while let Some(deeper) = cause {
                cause = deeper.source();
                if let Some(deeper) = cause {
                    eprintln!("  because of {deeper}");
                }
            }
            ExitCode::FAILURE
        }
    }
}
