//! Writes the bindings of a UniFFI facade for Kotlin, Swift, C# and Python, and the listing of its API.
//!
//! Kotlin, Swift and Python come from UniFFI's own backends; C# from the one in [`csharp`], because none exists for
//! UniFFI 0.32. Everything is read from the metadata in a built, unstripped library. This runs on a developer's or CI
//! machine and never ships.

mod api;
pub mod csharp;
mod error;
mod load;

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use uniffi_bindgen::bindings::{self, GenerateOptions, TargetLanguage};

pub use self::error::BindgenError;

/// A language to write bindings for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// For Android and the JVM.
    Kotlin,
    /// For Apple's systems, with the C header and module map.
    Swift,
    /// For Windows, and everything else that has .NET.
    Csharp,
    /// For tests.
    Python,
}

/// Writes the bindings of every component in `library` into `out`, which is created if need be.
///
/// `config` is a UniFFI global configuration file.
///
/// # Errors
///
/// [`BindgenError`]: nothing is left half written but files of components that came before the failing one.
pub fn generate(
    library: &Utf8Path,
    language: Language,
    out: &Utf8Path,
    config: Option<&Utf8Path>,
) -> Result<(), BindgenError> {
    let output = |path: &Utf8Path, source| BindgenError::Output { path: path.to_owned(), source };
    fs::create_dir_all(out).map_err(|source| output(out, source))?;
    let (target, name) = match language {
        Language::Kotlin => (TargetLanguage::Kotlin, "Kotlin"),
        Language::Swift => (TargetLanguage::Swift, "Swift"),
        Language::Python => (TargetLanguage::Python, "Python"),
        Language::Csharp => {
            for component in load::components(library, config)? {
                let source =
                    csharp::generate(&component.ci, &load::library_name(library), &component.config)?;
                let path = out.join(source.file_name);
                fs::write(&path, source.text).map_err(|source| output(&path, source))?;
            }
            return Ok(());
        }
    };
    bindings::generate(GenerateOptions {
        languages: vec![target],
        source: library.to_owned(),
        out_dir: out.to_owned(),
        config_override: config.map(Utf8PathBuf::from),
        ..GenerateOptions::default()
    })
    .map_err(|source| BindgenError::Backend { language: name, source: source.into() })
}

/// The listing of the API of every component in `library`: a text file with a comment on top.
///
/// # Errors
///
/// [`BindgenError::Library`] or [`BindgenError::Metadata`].
pub fn api(library: &Utf8Path) -> Result<String, BindgenError> {
    let mut text = String::from(
        "# What apps can use, by `tuntrail-bindgen api`. Numbers in brackets are places that count at the boundary.\n",
    );
    for component in load::components(library, None)? {
        text.push_str(&format!("\n## {}\n\n", component.ci.namespace()));
        for line in api::listing(&component.ci) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}
