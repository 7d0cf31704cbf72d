//! What a UniFFI type is in C#: its public name, its form at the boundary, and how it gets from one to the other.
//!
//! Every name is written with `global::`, so that a type, variant or property of the facade may have any name without
//! hiding one that the generated code needs.

use std::collections::BTreeMap;

use uniffi_bindgen::{
    ComponentInterface,
    interface::{Argument, AsType, FfiType, Type},
};

use super::names;

/// The namespace, inside the public one, of everything that callers don't see.
pub(super) const INTEROP: &str = "Interop";

/// Types of one component, written for one namespace.
#[derive(Clone, Copy)]
pub(super) struct Types<'a> {
    ci: &'a ComponentInterface,
    namespace: &'a str,
}

impl<'a> Types<'a> {
    pub(super) fn new(ci: &'a ComponentInterface, namespace: &'a str) -> Self {
        Self { ci, namespace }
    }

    pub(super) fn ci(&self) -> &'a ComponentInterface {
        self.ci
    }

    /// Something in the public namespace.
    pub(super) fn global(&self, name: &str) -> String {
        format!("global::{}.{name}", self.namespace)
    }

    /// Something in the internal namespace.
    pub(super) fn interop(&self, name: &str) -> String {
        format!("global::{}.{INTEROP}.{name}", self.namespace)
    }

    /// The type as callers see it.
    pub(super) fn public(&self, ty: &Type) -> String {
        match plain(ty) {
            Type::UInt8 => "byte".to_owned(),
            Type::Int8 => "sbyte".to_owned(),
            Type::UInt16 => "ushort".to_owned(),
            Type::Int16 => "short".to_owned(),
            Type::UInt32 => "uint".to_owned(),
            Type::Int32 => "int".to_owned(),
            Type::UInt64 => "ulong".to_owned(),
            Type::Int64 => "long".to_owned(),
            Type::Float32 => "float".to_owned(),
            Type::Float64 => "double".to_owned(),
            Type::Boolean => "bool".to_owned(),
            Type::String => "string".to_owned(),
            Type::Bytes => "byte[]".to_owned(),
            Type::Timestamp => "global::System.DateTime".to_owned(),
            Type::Duration => "global::System.TimeSpan".to_owned(),
            Type::Optional { inner_type } if self.is_value(inner_type) => {
                format!("{}?", self.public(inner_type))
            }
            Type::Optional { inner_type } => self.public(inner_type),
            Type::Sequence { inner_type } => collection("IReadOnlyList", &[self.public(inner_type)]),
            Type::Set { inner_type } => collection("ISet", &[self.public(inner_type)]),
            Type::Map { key_type, value_type } => {
                collection("IReadOnlyDictionary", &[self.public(key_type), self.public(value_type)])
            }
            named => self.global(&self.class(named)),
        }
    }

    /// The name of a type of the facade, without its namespace.
    pub(super) fn class(&self, ty: &Type) -> String {
        let name = ty.name().unwrap_or_default();
        match ty {
            Type::Enum { .. } if self.is_error(name) => names::exception(name),
            Type::CallbackInterface { .. } => names::interface(name),
            Type::Object { imp, .. } if imp.has_callback_interface() => names::interface(name),
            _ => names::upper(name),
        }
    }

    /// Whether a type of the facade is thrown somewhere.
    pub(super) fn is_error(&self, name: &str) -> bool {
        self.ci.is_name_used_as_error(name)
    }

    /// Whether C# treats it as a value, so that its optional form is `T?`.
    pub(super) fn is_value(&self, ty: &Type) -> bool {
        match plain(ty) {
            Type::String | Type::Bytes => false,
            Type::Enum { name, .. } => {
                !self.is_error(name)
                    && self.ci.get_enum_definition(name).is_some_and(uniffi_bindgen::interface::Enum::is_flat)
            }
            Type::Optional { .. }
            | Type::Sequence { .. }
            | Type::Set { .. }
            | Type::Map { .. }
            | Type::Record { .. }
            | Type::Object { .. }
            | Type::CallbackInterface { .. } => false,
            _ => true,
        }
    }

    /// Whether an argument of this type must not be null.
    pub(super) fn forbids_null(&self, ty: &Type) -> bool {
        !self.is_value(ty) && !matches!(plain(ty), Type::Optional { .. })
    }

    /// The converter of a type: an expression.
    pub(super) fn codec(&self, ty: &Type) -> String {
        let ty = plain(ty);
        match ty {
            Type::Optional { .. } | Type::Sequence { .. } | Type::Set { .. } | Type::Map { .. } => {
                self.interop(&format!("Converters.{}", mangled(ty)))
            }
            Type::Record { name, .. }
            | Type::Enum { name, .. }
            | Type::Object { name, .. }
            | Type::CallbackInterface { name, .. } => {
                self.interop(&format!("{}Codec.Instance", names::upper(name)))
            }
            Type::String => self.interop("TextConverter.Instance"),
            _ => self.interop(&format!("{}Converter.Instance", mangled(ty))),
        }
    }

    /// The expression that makes `value` ready for the boundary.
    pub(super) fn lower(&self, ty: &Type, value: &str) -> String {
        match FfiType::from(plain(ty)) {
            FfiType::RustBuffer(_) => format!("{}.Lower({value})", self.codec(ty)),
            _ if matches!(plain(ty), Type::Boolean) => {
                format!("{}({value})", self.interop("BooleanConverter.ToByte"))
            }
            _ => match plain(ty) {
                Type::Object { name, .. } | Type::CallbackInterface { name, .. } => {
                    format!("{}({value})", self.handle_function(name, "LowerHandle"))
                }
                _ => value.to_owned(),
            },
        }
    }

    /// The expression that takes `value` over from the boundary.
    pub(super) fn lift(&self, ty: &Type, value: &str) -> String {
        match FfiType::from(plain(ty)) {
            FfiType::RustBuffer(_) => format!("{}.Lift({value})", self.codec(ty)),
            _ if matches!(plain(ty), Type::Boolean) => {
                format!("{}({value})", self.interop("BooleanConverter.FromByte"))
            }
            _ => match plain(ty) {
                Type::Object { name, .. } | Type::CallbackInterface { name, .. } => {
                    format!("{}({value})", self.handle_function(name, "LiftHandle"))
                }
                _ => value.to_owned(),
            },
        }
    }

    /// The statement that gives a lowered value back if the call it was meant for doesn't happen. Plain numbers need none.
    pub(super) fn release(&self, ty: &Type, lowered: &str) -> Option<String> {
        match plain(ty) {
            Type::Object { name, .. } | Type::CallbackInterface { name, .. } => {
                Some(format!("{}({lowered});", self.handle_function(name, "ReleaseHandle")))
            }
            ty => matches!(FfiType::from(ty), FfiType::RustBuffer(_)).then(|| format!("{lowered}.Free();")),
        }
    }

    /// The form an argument has at the boundary.
    pub(super) fn ffi_argument(&self, argument: &Argument) -> String {
        if argument.is_borrowed_bytes() {
            return self.interop("ForeignBytes");
        }
        self.ffi(&FfiType::from(plain(&argument.as_type())))
    }

    /// A boundary type in C#.
    pub(super) fn ffi(&self, ty: &FfiType) -> String {
        match ty {
            FfiType::UInt8 => "byte".to_owned(),
            FfiType::Int8 => "sbyte".to_owned(),
            FfiType::UInt16 => "ushort".to_owned(),
            FfiType::Int16 => "short".to_owned(),
            FfiType::UInt32 => "uint".to_owned(),
            FfiType::Int32 => "int".to_owned(),
            FfiType::UInt64 | FfiType::Handle => "ulong".to_owned(),
            FfiType::Int64 => "long".to_owned(),
            FfiType::Float32 => "float".to_owned(),
            FfiType::Float64 => "double".to_owned(),
            FfiType::RustBuffer(_) => self.interop("RustBuffer"),
            FfiType::ForeignBytes => self.interop("ForeignBytes"),
            FfiType::RustCallStatus => self.interop("RustCallStatus"),
            // Tables of functions and pointers to them are laid out by hand.
            FfiType::Callback(_)
            | FfiType::Struct(_)
            | FfiType::Reference(_)
            | FfiType::MutReference(_)
            | FfiType::VoidPointer => "global::System.IntPtr".to_owned(),
        }
    }

    /// Every container type that occurs, by the name of its converter, with the expression that makes the converter.
    /// Inner containers come before those that hold them.
    pub(super) fn containers(&self) -> Vec<(String, String, String)> {
        let mut found = BTreeMap::new();
        for ty in self.ci.iter_local_types() {
            self.collect(ty, &mut found);
        }
        let mut containers: Vec<_> = found.into_iter().collect();
        containers.sort_by_key(|(name, (depth, _, _))| (*depth, name.clone()));
        containers.into_iter().map(|(name, (_, public, make))| (name, public, make)).collect()
    }

    fn collect(&self, ty: &Type, found: &mut BTreeMap<String, (usize, String, String)>) -> usize {
        let ty = plain(ty);
        let (class, inner) = match ty {
            Type::Optional { inner_type } if self.is_value(inner_type) => ("OptionalValue", vec![inner_type]),
            Type::Optional { inner_type } => ("OptionalReference", vec![inner_type]),
            Type::Sequence { inner_type } => ("SequenceConverter", vec![inner_type]),
            Type::Set { inner_type } => ("SetConverter", vec![inner_type]),
            Type::Map { key_type, value_type } => ("MapConverter", vec![key_type, value_type]),
            _ => return 0,
        };
        let depth = 1 + inner.iter().map(|inner| self.collect(inner, found)).max().unwrap_or(0);
        let types: Vec<String> = inner.iter().map(|inner| self.public(inner)).collect();
        let codecs: Vec<String> = inner.iter().map(|inner| self.codec(inner)).collect();
        let make = format!("new {}<{}>({})", self.interop(class), types.join(", "), codecs.join(", "));
        found.insert(mangled(ty), (depth, self.public(ty), make));
        depth
    }

    fn handle_function(&self, name: &str, function: &str) -> String {
        self.interop(&format!("{}Codec.{function}", names::upper(name)))
    }
}

/// The type behind boxes and custom types, which look the same at the boundary and in C#.
pub(super) fn plain(ty: &Type) -> &Type {
    match ty {
        Type::Box { inner_type } => plain(inner_type),
        Type::Custom { builtin, .. } => plain(builtin),
        other => other,
    }
}

fn collection(name: &str, arguments: &[String]) -> String {
    format!("global::System.Collections.Generic.{name}<{}>", arguments.join(", "))
}

/// A name for a type that is unique among all types: underscores separate, and names of types contain none.
fn mangled(ty: &Type) -> String {
    match plain(ty) {
        Type::Optional { inner_type } => format!("Optional_{}", mangled(inner_type)),
        Type::Sequence { inner_type } => format!("Sequence_{}", mangled(inner_type)),
        Type::Set { inner_type } => format!("Set_{}", mangled(inner_type)),
        Type::Map { key_type, value_type } => format!("Map_{}_{}", mangled(key_type), mangled(value_type)),
        Type::Boolean => "Boolean".to_owned(),
        Type::UInt8 => "UInt8".to_owned(),
        Type::Int8 => "Int8".to_owned(),
        Type::UInt16 => "UInt16".to_owned(),
        Type::Int16 => "Int16".to_owned(),
        Type::UInt32 => "UInt32".to_owned(),
        Type::Int32 => "Int32".to_owned(),
        Type::UInt64 => "UInt64".to_owned(),
        Type::Int64 => "Int64".to_owned(),
        Type::Float32 => "Float32".to_owned(),
        Type::Float64 => "Float64".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        Type::Timestamp => "Timestamp".to_owned(),
        Type::Duration => "Duration".to_owned(),
        // Only containers reach this with a name of the facade; "Named" keeps a record `String` apart from text.
        named => format!("Named{}", names::upper(named.name().unwrap_or_default())),
    }
}
