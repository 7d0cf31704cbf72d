//! The listing of a facade's API: one line for each thing that an app can use, sorted, so that a review shows what a
//! change does to apps.
//!
//! A line begins with what it belongs to, so related lines stand together. The order of fields and variants matters at
//! the boundary, and so does each one's place: fields are numbered by their line's order in the type, within brackets.

use uniffi_bindgen::{
    ComponentInterface,
    interface::{Argument, AsType, Callable, DefaultValue, Field, Literal, Method, Type, UniffiTraitMethods},
};

/// All lines for a component.
pub(crate) fn listing(ci: &ComponentInterface) -> Vec<String> {
    let mut lines = Vec::new();
    for function in ci.function_definitions() {
        lines.push(format!("fn {}{}", function.name(), signature(function)));
    }
    for object in ci.object_definitions() {
        let kind = match (object.is_trait_interface(), object.has_callback_interface()) {
            (false, _) => "object",
            (true, false) => "trait",
            (true, true) => "callback",
        };
        let head = format!("{kind} {}", object.name());
        lines.push(head.clone());
        for constructor in object.constructors() {
            lines.push(format!("{head} constructor {}{}", constructor.name(), signature(constructor)));
        }
        methods(&mut lines, &head, &object.methods());
        exported_traits(&mut lines, &head, &object.uniffi_trait_methods());
    }
    for interface in ci.callback_interface_definitions() {
        let head = format!("callback {}", interface.name());
        lines.push(head.clone());
        methods(&mut lines, &head, &interface.methods());
    }
    for record in ci.record_definitions() {
        let head = format!("record {}", record.name());
        lines.push(head.clone());
        for (index, field) in record.fields().iter().enumerate() {
            lines.push(format!("{head} [{index:02}] {}", field_text(field, index)));
        }
        exported_traits(&mut lines, &head, &record.uniffi_trait_methods());
    }
    for definition in ci.enum_definitions() {
        let kind = if ci.is_name_used_as_error(definition.name()) { "error" } else { "enum" };
        let text_only = if kind == "error" && definition.is_flat() { " (text only)" } else { "" };
        let head = format!("{kind} {}", definition.name());
        lines.push(format!("{head}{text_only}"));
        for (index, variant) in definition.variants().iter().enumerate() {
            let fields: Vec<String> =
                variant.fields().iter().enumerate().map(|(index, field)| field_text(field, index)).collect();
            let fields =
                if fields.is_empty() { String::new() } else { format!(" {{ {} }}", fields.join(", ")) };
            let number = match (definition.variant_discr_type(), definition.variant_discr(index)) {
                (Some(_), Ok(number)) => format!(" = {}", literal(&number)),
                _ => String::new(),
            };
            lines.push(format!("{head} [{index:02}] {}{number}{fields}", variant.name()));
        }
        exported_traits(&mut lines, &head, &definition.uniffi_trait_methods());
    }
    lines.sort();
    lines
}

fn methods(lines: &mut Vec<String>, head: &str, methods: &[&Method]) {
    for (index, method) in methods.iter().enumerate() {
        // A trait's methods are a table, in which the place counts.
        let place =
            if head.starts_with("callback") { format!("[{index:02}] ") } else { "method ".to_owned() };
        lines.push(format!("{head} {place}{}{}", method.name(), signature(*method)));
    }
}

fn exported_traits(lines: &mut Vec<String>, head: &str, traits: &UniffiTraitMethods) {
    let exported = [
        ("Debug", traits.debug_fmt.is_some()),
        ("Display", traits.display_fmt.is_some()),
        ("Eq", traits.eq_eq.is_some()),
        ("Hash", traits.hash_hash.is_some()),
        ("Ord", traits.ord_cmp.is_some()),
    ];
    lines.extend(exported.iter().filter(|(_, has)| *has).map(|(name, _)| format!("{head} impl {name}")));
}

fn signature(callable: &impl Callable) -> String {
    let arguments: Vec<String> = callable.arguments().into_iter().map(argument).collect();
    let is_async = if callable.is_async() { "async " } else { "" };
    let result = callable.return_type().map(|ty| format!(" -> {}", type_name(ty))).unwrap_or_default();
    let error = callable.throws_type().map(|ty| format!(" throws {}", type_name(ty))).unwrap_or_default();
    format!("{is_async}({}){result}{error}", arguments.join(", "))
}

fn argument(argument: &Argument) -> String {
    let reference = if argument.is_borrowed_bytes() { "&" } else { "" };
    let default = argument.default_value().map(default_text).unwrap_or_default();
    format!("{}: {reference}{}{default}", argument.name(), type_name(&argument.as_type()))
}

fn field_text(field: &Field, index: usize) -> String {
    let default = field.default_value().map(default_text).unwrap_or_default();
    let name = if field.name().is_empty() { index.to_string() } else { field.name().to_owned() };
    format!("{name}: {}{default}", type_name(&field.as_type()))
}

fn default_text(value: &DefaultValue) -> String {
    match value {
        DefaultValue::Default => " = default".to_owned(),
        DefaultValue::Literal(value) => format!(" = {}", literal(value)),
    }
}

fn literal(value: &Literal) -> String {
    match value {
        Literal::Boolean(value) => value.to_string(),
        Literal::String(value) => format!("{value:?}"),
        Literal::UInt(value, _, _) => value.to_string(),
        Literal::Int(value, _, _) => value.to_string(),
        Literal::Float(value, _) => value.clone(),
        Literal::Enum(variant, _) => variant.clone(),
        Literal::EmptySequence => "[]".to_owned(),
        Literal::EmptyMap | Literal::EmptySet => "{}".to_owned(),
        Literal::None => "none".to_owned(),
        Literal::Some { inner } => default_text(inner).trim_start_matches(" = ").to_owned(),
    }
}

/// A type as Rust would write it, shortened.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::UInt8 => "u8".to_owned(),
        Type::Int8 => "i8".to_owned(),
        Type::UInt16 => "u16".to_owned(),
        Type::Int16 => "i16".to_owned(),
        Type::UInt32 => "u32".to_owned(),
        Type::Int32 => "i32".to_owned(),
        Type::UInt64 => "u64".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Float32 => "f32".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Boolean => "bool".to_owned(),
        Type::String => "string".to_owned(),
        Type::Bytes => "bytes".to_owned(),
        Type::Timestamp => "time".to_owned(),
        Type::Duration => "duration".to_owned(),
        Type::Box { inner_type } => type_name(inner_type),
        Type::Optional { inner_type } => format!("{}?", type_name(inner_type)),
        Type::Sequence { inner_type } => format!("[{}]", type_name(inner_type)),
        Type::Set { inner_type } => format!("{{{}}}", type_name(inner_type)),
        Type::Map { key_type, value_type } => {
            format!("{{{}: {}}}", type_name(key_type), type_name(value_type))
        }
        Type::Custom { name, builtin, .. } => format!("{name} ({})", type_name(builtin)),
        Type::Object { name, .. }
        | Type::Record { name, .. }
        | Type::Enum { name, .. }
        | Type::CallbackInterface { name, .. } => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(udl: &str) -> Vec<String> {
        listing(&ComponentInterface::from_webidl(udl, "demo").unwrap())
    }

    #[test]
    fn every_item_has_a_line_and_the_lines_are_sorted() {
        let lines = lines(
            r#"
            namespace demo { [Throws=Failure] u32 go([ByRef] bytes data, optional string name = "x"); };
            dictionary Config { string path; u32? limit = null; sequence<Kind> kinds = []; };
            enum Kind { "A", "B" };
            [Error] interface Failure { Full(u64 size); Gone(); };
            interface Client { constructor(Config config); [Name=open] constructor(); record<string, i8> stats(); };
            [Trait, WithForeign] interface Listener { void on_event(duration took, timestamp at); };
            "#,
        );
        assert_eq!(
            lines,
            [
                "callback Listener",
                "callback Listener [00] on_event(took: duration, at: time)",
                "enum Kind",
                "enum Kind [00] A",
                "enum Kind [01] B",
                "error Failure",
                "error Failure [00] Full { size: u64 }",
                "error Failure [01] Gone",
                "fn go(data: &bytes, name: string = \"x\") -> u32 throws Failure",
                "object Client",
                "object Client constructor new(config: Config) -> Client",
                "object Client constructor open() -> Client",
                "object Client method stats() -> {string: i8}",
                "record Config",
                "record Config [00] path: string",
                "record Config [01] limit: u32? = none",
                "record Config [02] kinds: [Kind] = []",
            ]
        );
    }
}
