//! Reads the facade's description out of a built library.

use camino::Utf8Path;
use uniffi_bindgen::{BindgenLoader, BindgenPaths, Component, ComponentInterface, GlobalConfig};

use crate::error::BindgenError;

/// The components of a library, with their configuration, ready to be written.
///
/// # Errors
///
/// [`BindgenError::Library`], [`BindgenError::Config`] or [`BindgenError::Metadata`].
pub(crate) fn components(
    library: &Utf8Path,
    config: Option<&Utf8Path>,
) -> Result<Vec<Component<toml::Table>>, BindgenError> {
    let global = match config {
        None => GlobalConfig::default(),
        Some(path) => GlobalConfig::from_file(path)
            .map(|(config, _)| config)
            .map_err(|source| BindgenError::Config { place: path.to_string(), source: source.into() })?,
    };
    let loader = BindgenLoader::new(BindgenPaths::default(), global);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| BindgenError::Library {
        path: library.to_owned(),
        source,
    };
    let metadata = loader.load_metadata(library).map_err(|source| failed(source.into()))?;
    let interfaces = loader.load_cis(metadata).map_err(|source| failed(source.into()))?;
    let mut components =
        loader.load_components(interfaces, |_, value| Ok(value.try_into()?)).map_err(|source| {
            BindgenError::Config {
                place: config.map_or_else(|| "defaults".to_owned(), ToString::to_string),
                source: source.into(),
            }
        })?;
    components.sort_by(|a, b| a.ci.namespace().cmp(b.ci.namespace()));
    for component in &mut components {
        derive(&mut component.ci)?;
    }
    Ok(components)
}

/// Works out the functions at the boundary.
pub(crate) fn derive(ci: &mut ComponentInterface) -> Result<(), BindgenError> {
    ci.derive_ffi_funcs().map_err(BindgenError::metadata)
}

/// The library's name without `lib` in front and without its ending.
pub(crate) fn library_name(library: &Utf8Path) -> String {
    let stem = library.file_stem().unwrap_or_default();
    stem.strip_prefix("lib").unwrap_or(stem).to_owned()
}
