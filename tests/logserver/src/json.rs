//! JSON read one level at a time, so that what a client sent can be stored byte for byte.
//!
//! serde_json's `Value` would round numbers, re-order members and keep only the last of two members with one
//! name. Here an object is a list of names and raw texts, and [`check`] refuses what a strict reader refuses.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The deepest nesting of an entry. Readers built on serde_json stop at 128 levels, and answers to queries
/// add levels of their own around an entry.
const MAX_DEPTH: usize = 120;

/// The members of a JSON object in their order, their values unparsed. Names may repeat.
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Why a syntactically correct JSON text is refused all the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsound {
    /// An object has two members with this name.
    DuplicateName(String),
    /// A string has an escape that names no character.
    BadString,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateName(name) => write!(f, "has two members named {name:?}"),
            Self::BadString => f.write_str("has a string with an invalid escape"),
            Self::TooDeep => write!(f, "is nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

/// Checks what the syntax leaves open: unique names, real characters, bounded depth.
pub(crate) fn check(value: &RawValue) -> Result<(), Unsound> {
    check_at(value, 1)
}

fn check_at(value: &RawValue, depth: usize) -> Result<(), Unsound> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth > MAX_DEPTH => Err(Unsound::TooDeep),
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).map_err(|_| Unsound::BadString)?;
            let mut names = HashSet::with_capacity(members.len());
            for (name, value) in members {
                check_at(value, depth + 1)?;
                if let Some(name) = names.replace(name) {
                    return Err(Unsound::DuplicateName(name));
                }
            }
            Ok(())
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Unsound::BadString)?;
            elements.into_iter().try_for_each(|element| check_at(element, depth + 1))
        }
        Some(b'"') => serde_json::from_str::<String>(text).map(drop).map_err(|_| Unsound::BadString),
        // Numbers, true, false, null: the syntax says it all.
        _ => Ok(()),
    }
}

/// `text` as a JSON string.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `text` with at most `max` bytes, followed by `…+<bytes cut>` if something was cut.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, cut) = text.split_at(end);
    if cut.is_empty() { kept.to_owned() } else { format!("{kept}…+{}", cut.len()) }
}

/// An object with these members, on one line: line breaks can only be white space between tokens here.
pub(crate) fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&quote(name));
        text.push(':');
        text.extend(value.chars().filter(|c| !matches!(c, '\n' | '\r')));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_values_pass_whatever_their_numbers() {
        for text in
            [r#"{"a":1e999,"b":[{"a":1},{"a":2}]}"#, "18446744073709551616", r#""\ud83d\ude00""#, "null"]
        {
            assert_eq!(check(&raw(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn duplicate_names_are_found_at_any_level_and_after_unescaping() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#] {
            assert_eq!(check(&raw(text)), Err(Unsound::DuplicateName("a".into())), "{text}");
        }
    }

    #[test]
    fn lone_surrogates_are_refused_in_names_and_values() {
        for text in [r#""\ud800""#, r#"{"\ud800":1}"#, r#"[["\udc00"]]"#] {
            assert_eq!(check(&raw(text)), Err(Unsound::BadString), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| raw(&("[".repeat(depth) + &"]".repeat(depth)));
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(Unsound::TooDeep));
        assert_eq!(check(&nested(100_000)), Err(Unsound::TooDeep));
    }

    #[test]
    fn shortening_respects_characters_and_says_what_is_missing() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "abc…+1");
        assert_eq!(shorten("aéé", 2), "a…+4");
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }
}
