//! Refuses what the C# backend can't express, before anything is written: no output is better than wrong output.

use std::collections::BTreeMap;

use uniffi_bindgen::{
    ComponentInterface,
    interface::{AsType, Callable, Type, UniffiTraitMethods},
};

use super::{
    callbacks::Trait,
    config::Config,
    names,
    types::{INTEROP, Types, plain},
};
use crate::error::BindgenError;

/// # Errors
///
/// [`BindgenError::Unsupported`] or [`BindgenError::NameClash`] for the first thing found.
pub(super) fn check(types: Types<'_>, config: &Config) -> Result<(), BindgenError> {
    let ci = types.ci();
    shapes(ci)?;
    for callable in ci.iter_callables() {
        check_callable(ci, callable)?;
    }
    for method in ci.callback_interface_definitions().iter().flat_map(|interface| interface.methods()) {
        check_callable(ci, method)?;
    }
    for ty in ci.iter_local_types() {
        check_type(types, ty)?;
    }
    if let Some(external) = ci.iter_external_types().next() {
        return Err(unsupported(
            format!("the type {} of another crate", external.name().unwrap_or_default()),
            "define the type in the facade crate",
        ));
    }
    check_names(types, config)
}

fn shapes(ci: &ComponentInterface) -> Result<(), BindgenError> {
    for record in ci.record_definitions() {
        if !record.methods().is_empty() || !record.constructors().is_empty() {
            return Err(unsupported(
                format!("methods of the record {}", record.name()),
                "use a free function",
            ));
        }
        only_display(record.name(), &record.uniffi_trait_methods(), true)?;
    }
    for definition in ci.enum_definitions() {
        if !definition.methods().is_empty() || !definition.constructors().is_empty() {
            return Err(unsupported(
                format!("methods of the enum {}", definition.name()),
                "use a free function",
            ));
        }
        // C#'s enums have no methods, and an exception's text is its message.
        let prints = !definition.is_flat() && !ci.is_name_used_as_error(definition.name());
        only_display(definition.name(), &definition.uniffi_trait_methods(), prints)?;
    }
    for object in ci.object_definitions() {
        only_display(object.name(), &object.uniffi_trait_methods(), true)?;
        let implements_foreign = object.trait_impls().into_iter().next();
        if let Some(implementation) = implements_foreign {
            return Err(unsupported(
                format!(
                    "that {} implements the exported trait {:?}",
                    object.name(),
                    implementation.trait_ty.name()
                ),
                "return the trait object from a function",
            ));
        }
    }
    Ok(())
}

fn only_display(name: &str, traits: &UniffiTraitMethods, display: bool) -> Result<(), BindgenError> {
    let rejected = traits.debug_fmt.is_some()
        || traits.eq_eq.is_some()
        || traits.hash_hash.is_some()
        || traits.ord_cmp.is_some()
        || (!display && traits.display_fmt.is_some());
    if rejected {
        return Err(unsupported(format!("exported Rust traits of {name}"), "export a method"));
    }
    Ok(())
}

fn check_callable(ci: &ComponentInterface, callable: &dyn Callable) -> Result<(), BindgenError> {
    let name = callable.ffi_func().name();
    if callable.is_async() {
        return Err(unsupported(
            format!("the async function {name}"),
            "block in Rust and wrap the call in Task.Run by hand",
        ));
    }
    match callable.throws_type() {
        None => Ok(()),
        Some(Type::Enum { name, .. }) if ci.get_enum_definition(name).is_some() => Ok(()),
        Some(_) => Err(unsupported(format!("an error of {name} that is no enum"), "use an enum as error")),
    }
}

fn check_type(types: Types<'_>, ty: &Type) -> Result<(), BindgenError> {
    match plain(ty) {
        Type::Optional { inner_type } if matches!(plain(inner_type), Type::Optional { .. }) => {
            Err(unsupported("an optional optional".to_owned(), "use an enum with three variants"))
        }
        Type::Map { key_type, .. } => check_key(types, key_type),
        Type::Set { inner_type } => check_key(types, inner_type),
        _ => Ok(()),
    }
}

/// Keys must compare by value in C#, as they do in Rust.
fn check_key(types: Types<'_>, ty: &Type) -> Result<(), BindgenError> {
    if types.is_value(ty) || *plain(ty) == Type::String {
        return Ok(());
    }
    Err(unsupported(
        format!("a map or set with keys of type {}", types.public(ty)),
        "use text or numbers as keys",
    ))
}

/// Two Rust names may become one in C#, or one that this code needs itself.
fn check_names(types: Types<'_>, config: &Config) -> Result<(), BindgenError> {
    let ci = types.ci();
    let mut top = Scope::new("the namespace");
    for name in [INTEROP, "InternalException", "LibraryException"] {
        top.add(name.to_owned(), "the generated code's own")?;
    }
    if !ci.function_definitions().is_empty() {
        top.add(config.functions_class.clone(), "the class of the functions")?;
    }
    for record in ci.record_definitions() {
        let class = names::upper(record.name());
        let mut fields = Scope::new(record.name());
        for field in record.fields() {
            fields.add(names::property(field.name(), &class), field.name())?;
        }
        top.add(class, record.name())?;
    }
    for definition in ci.enum_definitions() {
        let class = types.class(&definition.as_type());
        let mut variants = Scope::new(definition.name());
        for variant in definition.variants() {
            let is_error = types.is_error(definition.name());
            let name = match (is_error, definition.is_flat()) {
                (true, _) => names::exception_variant(variant.name(), &class),
                (false, true) => names::upper(variant.name()),
                (false, false) => names::variant(variant.name(), &class),
            };
            let mut fields = Scope::new(variant.name());
            for (index, field) in variant.fields().iter().enumerate() {
                fields.add(names::upper(&names::field(field.name(), index)), field.name())?;
            }
            variants.add(name, variant.name())?;
        }
        top.add(class, definition.name())?;
    }
    for object in ci.object_definitions() {
        let class = names::upper(object.name());
        let mut members = Scope::new(object.name());
        for constructor in object.alternate_constructors() {
            members.add(names::method(constructor.name(), &class), constructor.name())?;
        }
        for method in object.methods() {
            members.add(names::method(method.name(), &class), method.name())?;
        }
        top.add(class, object.name())?;
    }
    for definition in Trait::all(types) {
        top.add(names::interface(definition.name), definition.name)?;
    }
    let mut functions = Scope::new("the functions");
    for function in ci.function_definitions() {
        functions.add(names::method(function.name(), &config.functions_class), function.name())?;
    }
    Ok(())
}

/// Names that must differ from each other.
struct Scope<'a> {
    place: &'a str,
    taken: BTreeMap<String, String>,
}

impl<'a> Scope<'a> {
    fn new(place: &'a str) -> Self {
        Self { place, taken: BTreeMap::new() }
    }

    fn add(&mut self, name: String, from: &str) -> Result<(), BindgenError> {
        match self.taken.insert(name.clone(), from.to_owned()) {
            None => Ok(()),
            Some(other) => Err(BindgenError::NameClash {
                place: self.place.to_owned(),
                name,
                first: other,
                second: from.to_owned(),
            }),
        }
    }
}

fn unsupported(what: String, instead: &'static str) -> BindgenError {
    BindgenError::Unsupported { what, instead }
}
