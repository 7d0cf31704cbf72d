//! What can go wrong while bindings are written.

use std::{error::Error, io};

use camino::Utf8PathBuf;

/// Why no bindings were written.
#[derive(Debug, thiserror::Error)]
pub enum BindgenError {
    /// The library has no metadata, or metadata of another UniFFI version.
    #[error("{path}: {source}; give an unstripped library that was built with the same UniFFI version")]
    Library {
        /// The library.
        path: Utf8PathBuf,
        /// What UniFFI says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The metadata contradicts itself.
    #[error("the library's metadata: {source}")]
    Metadata {
        /// What UniFFI says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The configuration has a mistake.
    #[error("the configuration, {place}: {source}")]
    Config {
        /// The file or table.
        place: String,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// UniFFI's own backend for a language failed.
    #[error("writing {language}: {source}")]
    Backend {
        /// The language.
        language: &'static str,
        /// What UniFFI says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The facade has something that the C# backend does not support.
    #[error("C# bindings don't support {what}: {instead}")]
    Unsupported {
        /// What it is, with its name.
        what: String,
        /// What to write in the facade in its place.
        instead: &'static str,
    },
    /// Two names of the facade become the same name in C#.
    #[error("in {place}, {first} and {second} are both {name} in C#: rename one of them")]
    NameClash {
        /// Where both are.
        place: String,
        /// The C# name.
        name: String,
        /// One Rust name.
        first: String,
        /// The other.
        second: String,
    },
    /// A file could not be written.
    #[error("{path}: {source}")]
    Output {
        /// The file or directory.
        path: Utf8PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BindgenError {
    pub(crate) fn metadata(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Metadata { source: source.into() }
    }
}
