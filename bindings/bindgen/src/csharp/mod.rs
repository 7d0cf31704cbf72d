//! The C# backend: one source file for a component, in C# 7 for .NET Standard 2.0, without `unsafe` code.
//!
//! `check` refuses what can't be expressed. Then come the public types (`records`, `enums`, `errors`, `objects`,
//! `callbacks`, `functions`), and in a namespace of their own the converters, the imported functions (`native`) and the
//! hand-written support code in `runtime/`. `types` knows what each UniFFI type is in C#, `calls` writes the body of
//! every call.
//!
//! How values cross is UniFFI's affair and the same as in its own backends: numbers and handles as they are, everything
//! else in a buffer that Rust allocates, big-endian; whoever receives a buffer or a handle owns it.

mod callbacks;
mod calls;
mod check;
mod code;
mod config;
mod defaults;
mod docs;
mod enums;
mod errors;
mod functions;
mod names;
mod native;
mod objects;
mod records;
#[cfg(test)]
mod tests;
mod types;

use std::fmt::Write as _;

use uniffi_bindgen::ComponentInterface;

use self::{callbacks::Trait, code::Code, config::ConfigTable, types::Types};
use crate::error::BindgenError;

/// Support code that is the same for every component.
const RUNTIME: &[&str] = &[
    include_str!("runtime/status.cs"),
    include_str!("runtime/buffer.cs"),
    include_str!("runtime/converters.cs"),
    include_str!("runtime/numbers.cs"),
    include_str!("runtime/containers.cs"),
    include_str!("runtime/handles.cs"),
    include_str!("runtime/library.cs"),
];

/// Public exceptions that every component has.
const EXCEPTIONS: &str = include_str!("runtime/exceptions.cs");

/// What stands for the namespace in the support code.
const NAMESPACE_MARK: &str = "@NAMESPACE@";

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's name, after the namespace.
    pub file_name: String,
    /// Its text.
    pub text: String,
}

/// Writes the C# source of a component whose FFI functions have been derived.
///
/// `library` is the native library's name without `lib` and ending; `config` is the component's configuration, of which
/// the table `bindings.csharp` is read.
///
/// # Errors
///
/// [`BindgenError::Unsupported`] and [`BindgenError::NameClash`] for what C# can't express,
/// [`BindgenError::Config`] for a wrong configuration.
pub fn generate(
    ci: &ComponentInterface,
    library: &str,
    config: &toml::Table,
) -> Result<Source, BindgenError> {
    let table = match config.get("bindings").and_then(|bindings| bindings.get("csharp")) {
        None => ConfigTable::default(),
        Some(table) => table.clone().try_into().map_err(|source| BindgenError::Config {
            place: "bindings.csharp".to_owned(),
            source: Box::new(source),
        })?,
    };
    let config = table.resolve(ci, library);
    let types = Types::new(ci, &config.namespace);
    check::check(types, &config)?;
    let traits = Trait::all(types);

    let mut public = Code::at(1);
    functions::class(&mut public, types, &config)?;
    for object in ci.object_definitions().iter().filter(|object| !object.has_callback_interface()) {
        objects::class(&mut public, types, object, None)?;
    }
    for definition in &traits {
        callbacks::class(&mut public, types, definition)?;
    }
    for record in ci.record_definitions() {
        records::class(&mut public, types, record)?;
    }
    for definition in ci.enum_definitions() {
        if types.is_error(definition.name()) {
            errors::class(&mut public, types, definition);
        } else {
            enums::class(&mut public, types, definition)?;
        }
    }

    let mut internal = Code::at(1);
    converters(&mut internal, types, &traits);
    native::expectations(&mut internal, types, &traits);
    native::class(&mut internal, types, &config);
    Ok(Source {
        file_name: format!("{}.cs", config.namespace),
        text: assemble(ci, &config.namespace, &public.into_text(), &internal.into_text()),
    })
}

fn converters(code: &mut Code, types: Types<'_>, traits: &[Trait<'_>]) {
    let ci = types.ci();
    code.gap();
    code.line(
        "/// <summary>Converters of the containers that occur, inner ones before outer ones.</summary>",
    );
    code.open("internal static class Converters");
    for (name, public, make) in types.containers() {
        code.line(format!("internal static readonly Converter<{public}> {name} = {make};"));
    }
    code.close();
    for record in ci.record_definitions() {
        records::codec(code, types, record);
    }
    for definition in ci.enum_definitions() {
        if types.is_error(definition.name()) {
            errors::codec(code, types, definition);
        } else {
            enums::codec(code, types, definition);
        }
    }
    for object in ci.object_definitions().iter().filter(|object| !object.has_callback_interface()) {
        objects::codec(code, types, object);
    }
    for definition in traits {
        callbacks::codec(code, types, definition);
        callbacks::table(code, types, definition);
    }
}

fn assemble(ci: &ComponentInterface, namespace: &str, public: &str, internal: &str) -> String {
    let mut text = String::new();
    let runtime = RUNTIME.join("\n").replace(NAMESPACE_MARK, namespace);
    let exceptions = EXCEPTIONS.replace(NAMESPACE_MARK, namespace);
    // The usings stand inside the namespace, so that no type of the facade hides what they bring.
    let usings: String =
        ["System", "System.Collections.Generic", "System.Runtime.InteropServices", "System.Text"]
            .map(|using| format!("    using {using};\n"))
            .concat();
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "// <auto-generated>Written by tuntrail-bindgen from the component `{}`. Changes will be lost.</auto-generated>\n\
         #pragma warning disable 1591 // Not every item of the facade needs a comment.\n\n\
         namespace {namespace}\n{{\n{public}\n{exceptions}}}\n\n\
         namespace {namespace}.{}\n{{\n{usings}\n{runtime}\n{internal}}}\n",
        ci.namespace(),
        types::INTEROP,
    );
    text
}
