//! The `[bindings.csharp]` table of the configuration.

use serde::Deserialize;
use uniffi_bindgen::ComponentInterface;

use super::names;

/// What can be chosen for C#.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    /// The namespace of the public types; by default the component's name.
    pub(super) namespace: String,
    /// The native library as `DllImport` names it: without `lib` and ending.
    pub(super) cdylib_name: String,
    /// The class of the free functions; by default the component's name and `Functions`.
    pub(super) functions_class: String,
}

/// The same, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigTable {
    namespace: Option<String>,
    cdylib_name: Option<String>,
    functions_class: Option<String>,
}

impl ConfigTable {
    /// Fills in what isn't chosen.
    pub(super) fn resolve(self, ci: &ComponentInterface, library: &str) -> Config {
        let component = names::upper(ci.namespace());
        Config {
            namespace: self.namespace.unwrap_or_else(|| component.clone()),
            cdylib_name: self.cdylib_name.unwrap_or_else(|| library.to_owned()),
            functions_class: self.functions_class.unwrap_or_else(|| format!("{component}Functions")),
        }
    }
}
