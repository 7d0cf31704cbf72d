//! Names: Rust identifiers as C# ones, and what to do where C# does not allow a name.

use heck::{ToLowerCamelCase, ToUpperCamelCase};

/// Words that need an `@` in front when they are used as identifiers. Only those that can come out of
/// `to_lower_camel_case`, which is all of C#'s reserved words.
const KEYWORDS: &[&str] = &[
    "abstract",
    "as",
    "base",
    "bool",
    "break",
    "byte",
    "case",
    "catch",
    "char",
    "checked",
    "class",
    "const",
    "continue",
    "decimal",
    "default",
    "delegate",
    "do",
    "double",
    "else",
    "enum",
    "event",
    "explicit",
    "extern",
    "false",
    "finally",
    "fixed",
    "float",
    "for",
    "foreach",
    "goto",
    "if",
    "implicit",
    "in",
    "int",
    "interface",
    "internal",
    "is",
    "lock",
    "long",
    "namespace",
    "new",
    "null",
    "object",
    "operator",
    "out",
    "override",
    "params",
    "private",
    "protected",
    "public",
    "readonly",
    "ref",
    "return",
    "sbyte",
    "sealed",
    "short",
    "sizeof",
    "stackalloc",
    "static",
    "string",
    "struct",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "uint",
    "ulong",
    "unchecked",
    "unsafe",
    "ushort",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
];

/// Members that every class has.
const OBJECT_MEMBERS: &[&str] =
    &["Equals", "Finalize", "GetHashCode", "GetType", "MemberwiseClone", "ReferenceEquals", "ToString"];

/// Members that every exception has besides.
const EXCEPTION_MEMBERS: &[&str] = &[
    "Data",
    "GetBaseException",
    "GetObjectData",
    "HResult",
    "HelpLink",
    "InnerException",
    "Message",
    "SerializeObjectState",
    "Source",
    "StackTrace",
    "TargetSite",
];

/// A type, method, property or enum member.
pub(super) fn upper(name: &str) -> String {
    let name = name.to_upper_camel_case();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// A parameter or local variable.
pub(super) fn lower(name: &str) -> String {
    let name = name.to_lower_camel_case();
    if KEYWORDS.contains(&name.as_str()) { format!("@{name}") } else { name }
}

/// The name of the `index`th field, which has none in a tuple variant.
pub(super) fn field(name: &str, index: usize) -> String {
    if name.is_empty() { format!("value_{}", index + 1) } else { name.to_owned() }
}

/// A property of class `owner`: C# forbids a member named like its class.
pub(super) fn property(name: &str, owner: &str) -> String {
    distinct(upper(name), owner, &[OBJECT_MEMBERS], "Value")
}

/// A property of exception class `owner`.
pub(super) fn exception_property(name: &str, owner: &str) -> String {
    distinct(upper(name), owner, &[OBJECT_MEMBERS, EXCEPTION_MEMBERS], "Value")
}

/// A method of class `owner`.
pub(super) fn method(name: &str, owner: &str) -> String {
    distinct(upper(name), owner, &[OBJECT_MEMBERS, &["Dispose"]], "Method")
}

/// A variant's class, nested in class `owner`.
pub(super) fn variant(name: &str, owner: &str) -> String {
    distinct(upper(name), owner, &[OBJECT_MEMBERS], "Variant")
}

/// A variant's exception class, nested in exception class `owner`.
pub(super) fn exception_variant(name: &str, owner: &str) -> String {
    distinct(upper(name), owner, &[OBJECT_MEMBERS, EXCEPTION_MEMBERS], "Exception")
}

/// The exception class of an error enum.
pub(super) fn exception(name: &str) -> String {
    let name = upper(name);
    if name.ends_with("Exception") {
        return name;
    }
    match name.strip_suffix("Error") {
        Some(stem) if !stem.is_empty() => format!("{stem}Exception"),
        _ => format!("{name}Exception"),
    }
}

/// The interface of a trait that foreign code implements.
pub(super) fn interface(name: &str) -> String {
    format!("I{}", upper(name))
}

fn distinct(name: String, owner: &str, taken: &[&[&str]], suffix: &str) -> String {
    let clashes = name == owner || taken.iter().any(|names| names.contains(&name.as_str()));
    if clashes { format!("{name}{suffix}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_escaped_where_they_stay_lower_case() {
        assert_eq!(lower("class"), "@class");
        assert_eq!(lower("event"), "@event");
        assert_eq!(lower("lock"), "@lock");
        assert_eq!(lower("base_url"), "baseUrl");
        assert_eq!(upper("class"), "Class");
    }

    #[test]
    fn members_never_have_the_name_of_their_class_or_of_an_inherited_member() {
        assert_eq!(property("state", "State"), "StateValue");
        assert_eq!(property("to_string", "State"), "ToStringValue");
        assert_eq!(method("dispose", "Client"), "DisposeMethod");
        assert_eq!(method("client", "Client"), "ClientMethod");
        assert_eq!(variant("Shape", "Shape"), "ShapeVariant");
        assert_eq!(exception_variant("Message", "FixtureException"), "MessageException");
        assert_eq!(exception_property("message", "Refused"), "MessageValue");
        assert_eq!(property("message", "Refused"), "Message");
    }

    #[test]
    fn errors_become_exceptions() {
        assert_eq!(exception("TuntrailError"), "TuntrailException");
        assert_eq!(exception("Failure"), "FailureException");
        assert_eq!(exception("Error"), "ErrorException");
        assert_eq!(exception("BadException"), "BadException");
    }

    #[test]
    fn unnamed_fields_are_counted_from_one() {
        assert_eq!(upper(&field("", 0)), "Value1");
        assert_eq!(lower(&field("", 1)), "value2");
    }
}
