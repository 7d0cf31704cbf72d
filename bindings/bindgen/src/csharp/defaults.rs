//! Default values of fields and arguments as C# expressions.

use uniffi_bindgen::interface::{AsType, DefaultValue, Literal, Type};

use super::{
    names,
    types::{Types, plain},
};
use crate::error::BindgenError;

/// A default value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// The C# expression.
    pub(super) expression: String,
    /// Whether C# takes it as the default of a parameter.
    pub(super) is_constant: bool,
}

/// The default of something of type `ty`.
///
/// # Errors
///
/// [`BindgenError::Unsupported`] for a type that has no default in C#, such as an object.
pub(super) fn value(types: Types<'_>, ty: &Type, value: &DefaultValue) -> Result<Value, BindgenError> {
    match value {
        DefaultValue::Default => unspecified(types, ty),
        DefaultValue::Literal(literal) => from_literal(types, ty, literal),
    }
}

fn from_literal(types: Types<'_>, ty: &Type, literal: &Literal) -> Result<Value, BindgenError> {
    let ty = plain(ty);
    Ok(match literal {
        Literal::Boolean(value) => constant(value.to_string()),
        Literal::String(value) => constant(string(value)),
        Literal::UInt(value, _, _) => constant(format!("{value}{}", suffix(ty))),
        Literal::Int(value, _, _) => constant(format!("{value}{}", suffix(ty))),
        Literal::Float(value, _) => {
            constant(format!("{value}{}", if *ty == Type::Float32 { "f" } else { "d" }))
        }
        Literal::Enum(variant, _) => constant(format!("{}.{}", types.public(ty), names::upper(variant))),
        Literal::None => constant("null".to_owned()),
        Literal::Some { inner } => match ty {
            Type::Optional { inner_type } => value(types, inner_type, inner)?,
            _ => return Err(unsupported(ty)),
        },
        Literal::EmptySequence | Literal::EmptyMap | Literal::EmptySet => empty(types, ty)?,
    })
}

fn unspecified(types: Types<'_>, ty: &Type) -> Result<Value, BindgenError> {
    let ty = plain(ty);
    Ok(match ty {
        Type::String => constant("\"\"".to_owned()),
        Type::Bytes => computed("new byte[0]".to_owned()),
        Type::Optional { .. } => constant("null".to_owned()),
        Type::Sequence { .. } | Type::Map { .. } | Type::Set { .. } => empty(types, ty)?,
        Type::Record { name, .. } => {
            let complete = types
                .ci()
                .get_record_definition(name)
                .is_some_and(|record| record.fields().iter().all(|field| field.default_value().is_some()));
            if !complete {
                return Err(unsupported(ty));
            }
            computed(format!("new {}()", types.public(ty)))
        }
        Type::Enum { .. } | Type::Object { .. } | Type::CallbackInterface { .. } | Type::Timestamp => {
            return Err(unsupported(ty));
        }
        number => constant(format!("default({})", types.public(number))),
    })
}

fn empty(types: Types<'_>, ty: &Type) -> Result<Value, BindgenError> {
    let collections = "new global::System.Collections.Generic";
    Ok(computed(match ty {
        Type::Sequence { inner_type } => format!("{collections}.List<{}>()", types.public(inner_type)),
        Type::Set { inner_type } => format!("{collections}.HashSet<{}>()", types.public(inner_type)),
        Type::Map { key_type, value_type } => {
            format!("{collections}.Dictionary<{}, {}>()", types.public(key_type), types.public(value_type))
        }
        _ => return Err(unsupported(ty)),
    }))
}

fn unsupported(ty: &Type) -> BindgenError {
    BindgenError::Unsupported {
        what: format!("a default for a value of type {}", ty.as_type().name().unwrap_or("that kind")),
        instead: "leave the default out, or make the value optional",
    }
}

fn constant(expression: String) -> Value {
    Value { expression, is_constant: true }
}

fn computed(expression: String) -> Value {
    Value { expression, is_constant: false }
}

fn suffix(ty: &Type) -> &'static str {
    match ty {
        Type::UInt64 => "UL",
        Type::Int64 => "L",
        Type::UInt32 => "U",
        Type::Float32 => "f",
        Type::Float64 => "d",
        _ => "",
    }
}

/// A C# string literal.
fn string(text: &str) -> String {
    let mut literal = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            ' '..='~' => literal.push(character),
            other => {
                let mut units = [0_u16; 2];
                for unit in other.encode_utf16(&mut units) {
                    literal.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_for_csharp() {
        assert_eq!(string("a \"b\" \\"), r#""a \"b\" \\""#);
        assert_eq!(string("ß\n\u{1f600}"), r#""\u00df\u000a\ud83d\ude00""#);
    }

    #[test]
    fn numbers_get_the_suffix_of_their_type() {
        let ci = uniffi_bindgen::ComponentInterface::new("x");
        let types = Types::new(&ci, "X");
        let number = |ty: &Type| {
            value(types, ty, &DefaultValue::Literal(Literal::new_int(-3)))
                .map(|value| value.expression)
                .unwrap()
        };
        assert_eq!(number(&Type::Int64), "-3L");
        assert_eq!(number(&Type::Int16), "-3");
        let optional = Type::Optional { inner_type: Box::new(Type::UInt64) };
        let nine = Literal::Some { inner: Box::new(DefaultValue::Literal(Literal::new_uint(9))) };
        assert_eq!(value(types, &optional, &DefaultValue::Literal(nine)).unwrap().expression, "9UL");
    }

    #[test]
    fn a_point_in_time_has_no_default() {
        let ci = uniffi_bindgen::ComponentInterface::new("x");
        let result = value(Types::new(&ci, "X"), &Type::Timestamp, &DefaultValue::Default);
        assert!(matches!(result, Err(BindgenError::Unsupported { .. })));
    }
}
