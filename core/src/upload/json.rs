//! A strict scan of one JSON object.
//!
//! Entries are framed by newlines and joined into arrays, so a text that only looks like an object would spoil the
//! entries around it. logtail accepts exactly what RFC 8259 and I-JSON allow: no duplicate names at any depth, no
//! invalid UTF-8, no lone surrogates, no trailing data; numbers of any size. serde_json differs in each of these, and
//! gives no byte positions, which the removal of a reserved member needs.
//!
//! Called by [`super::entry`] on the thread that encodes. Never recurses: depth costs heap, and is bounded.

use std::{borrow::Cow, ops::Range};

/// Deeper nesting is refused. The bound of Go's JSON decoder, which logtail uses.
const MAX_DEPTH: usize = 10_000;

/// What is known about a valid object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Where its closing brace is. Only white space follows.
    pub(super) end: usize,
    /// The reserved top-level member, if present: where its name begins (the quote) and where its value is.
    pub(super) reserved: Option<(usize, Range<usize>)>,
}

/// Scans `source`, whose first byte must be the opening brace. `None` if it is not exactly one valid object.
/// `reserved` is the name of the top-level member to look for.
pub(super) fn scan_object(source: &[u8], reserved: &str) -> Option<Object> {
    Scanner { source: std::str::from_utf8(source).ok()?, at: 0 }.object(reserved)
}

enum Open {
    Array,
    /// The names seen so far begin at this index of the shared list.
    Object {
        names: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Name { may_end: bool },
    Value { may_end: bool },
    CommaOrEnd,
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn object(mut self, reserved: &str) -> Option<Object> {
        self.take(b'{')?;
        let mut open = vec![Open::Object { names: 0 }];
        let mut names: Vec<Cow<'a, str>> = Vec::new();
        let mut expect = Expect::Name { may_end: true };
        let mut found: Option<(usize, Range<usize>)> = None;
        let mut in_reserved = false;
        loop {
            self.skip_space();
            let byte = self.peek()?;
            let ends = matches!(
                (expect, open.last()?, byte),
                (Expect::Name { may_end: true } | Expect::CommaOrEnd, Open::Object { .. }, b'}')
                    | (Expect::Value { may_end: true } | Expect::CommaOrEnd, Open::Array, b']')
            );
            if ends {
                self.at += 1;
                if let Some(Open::Object { names: first }) = open.pop() {
                    let own = names.get_mut(first..)?;
                    own.sort_unstable();
                    if own.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
                        return None;
                    }
                    names.truncate(first);
                }
                if open.is_empty() {
                    let end = self.at - 1;
                    self.skip_space();
                    return (self.at == self.source.len()).then_some(Object { end, reserved: found });
                }
                expect = Expect::CommaOrEnd;
            } else {
                match expect {
                    Expect::CommaOrEnd => {
                        self.take(b',')?;
                        expect = match open.last()? {
                            Open::Array => Expect::Value { may_end: false },
                            Open::Object { .. } => Expect::Name { may_end: false },
                        };
                        continue;
                    }
                    Expect::Name { .. } => {
                        let start = self.at;
                        let name = self.string()?;
                        self.skip_space();
                        self.take(b':')?;
                        self.skip_space();
                        if open.len() == 1 && name == reserved {
                            found = Some((start, self.at..self.at));
                            in_reserved = true;
                        }
                        names.push(name);
                        expect = Expect::Value { may_end: false };
                        continue;
                    }
                    Expect::Value { .. } => match byte {
                        b'{' | b'[' => {
                            self.at += 1;
                            let object = byte == b'{';
                            open.push(if object { Open::Object { names: names.len() } } else { Open::Array });
                            if open.len() > MAX_DEPTH {
                                return None;
                            }
                            expect = if object {
                                Expect::Name { may_end: true }
                            } else {
                                Expect::Value { may_end: true }
                            };
                            continue;
                        }
                        _ => {
                            self.scalar(byte)?;
                            expect = Expect::CommaOrEnd;
                        }
                    },
                }
            }
            // A value has just ended.
            if in_reserved
                && open.len() == 1
                && let Some((_, value)) = &mut found
            {
                value.end = self.at;
                in_reserved = false;
            }
        }
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.string().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    fn literal(&mut self, text: &str) -> Option<()> {
        self.rest().starts_with(text.as_bytes()).then(|| self.at += text.len())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    /// A string's value; borrowed unless it has escapes.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.take(b'"')?;
        let mut value = Cow::Borrowed("");
        loop {
            let plain =
                self.rest().iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count();
            let text = self.source.get(self.at..self.at + plain)?;
            self.at += plain;
            match &mut value {
                Cow::Borrowed("") => value = Cow::Borrowed(text),
                value => value.to_mut().push_str(text),
            }
            match self.next()? {
                b'"' => return Some(value),
                b'\\' => {
                    let escaped = self.escape()?;
                    value.to_mut().push(escaped);
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            escaped @ (b'"' | b'\\' | b'/') => escaped.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex4()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return char::from_u32(unit);
                }
                self.take(b'\\')?;
                self.take(b'u')?;
                let low = self.hex4()?;
                if !(0xdc00..0xe000).contains(&low) {
                    return None;
                }
                return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            }
            _ => return None,
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit * 16 + char::from(self.next()?).to_digit(16)?))
    }

    fn skip_space(&mut self) {
        self.at += self.rest().iter().take_while(|byte| b" \n\r\t".contains(byte)).count();
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.source.as_bytes().get(self.at..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid(source: &[u8]) -> bool {
        scan_object(source, "logtail").is_some()
    }

    #[test]
    fn accepts_exactly_one_object_of_strict_json() {
        let good: [&[u8]; 10] = [
            b"{}",
            b"{ }\n",
            br#"{"a":[],"b":{},"c":[[{}],1,"x"]}"#,
            br#"{"a":{"x":1},"b":{"x":1}}"#,
            br#"{"n":[0,-0,-1.5e+300,1E400,12345678901234567890123]}"#,
            br#"{"s":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#,
            "{\"é\u{2028}\":\"\u{7f}\"}".as_bytes(),
            b"{\"a\" :\r\n\t[ true , false , null ] } \n",
            br#"{"":0}"#,
            br#"{"[\"}":1}"#,
        ];
        for source in good {
            assert!(valid(source), "{}", String::from_utf8_lossy(source));
        }
    }

    #[test]
    fn refuses_everything_else() {
        let bad: [&[u8]; 27] = [
            b"",
            b"{",
            b"[]",
            b" {}",
            b"{}x",
            b"{}{}",
            br#"{"a":1,"a":2}"#,
            br#"{"a":[{"b":1,"c":2,"b":3}]}"#,
            br#"{"a":1,"\u0061":2}"#,
            br#"{"a":1,}"#,
            br#"{"a":[1,]}"#,
            br#"{"a"}"#,
            br#"{"a":}"#,
            br#"{a:1}"#,
            br#"{"a":01}"#,
            br#"{"a":1.}"#,
            br#"{"a":.5}"#,
            br#"{"a":+1}"#,
            br#"{"a":1e}"#,
            br#"{"a":tru}"#,
            br#"{"a":nulll}"#,
            br#"{"a":"\x"}"#,
            br#"{"a":"\ud800"}"#,
            br#"{"a":"\udc00\ud800"}"#,
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\n\"}",
            br#"{"a":[}]"#,
        ];
        for source in bad {
            assert!(!valid(source), "{}", String::from_utf8_lossy(source));
        }
    }

    #[test]
    fn finds_the_reserved_member_at_the_top_level_only() {
        let source = br#"{"a":{"logtail":1},"lo\u0067tail" : {"x":[1]} ,"b":2}"#;
        let (name, value) = scan_object(source, "logtail").unwrap().reserved.unwrap();
        assert_eq!(name, 19);
        assert_eq!(&source[value], br#"{"x":[1]}"#);
        assert_eq!(scan_object(br#"{"a":{"logtail":1}}"#, "logtail").unwrap().reserved, None);
    }

    #[test]
    fn depth_is_bounded_without_using_the_stack() {
        let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(valid(nested(MAX_DEPTH - 1).as_bytes()));
        assert!(!valid(nested(MAX_DEPTH).as_bytes()));
        assert!(!valid(nested(1_000_000).as_bytes()));
    }

    /// At most one member of each name, with values and separators that are not always right.
    fn nearly_an_object() -> impl Strategy<Value = String> {
        let member =
            |name: &str| format!(r#"("{name}":(1|-0|01|0\.5|"[a\\n]*"|\[1?\]|\[1,?\]|\{{\}}|tru?e),? ?)?"#);
        let members: String = ["a", "b", "c"].map(member).concat();
        proptest::string::string_regex(&format!(r"\{{{members}\}}")).unwrap()
    }

    proptest! {
        /// Where both libraries have the same rules, they agree.
        #[test]
        fn agrees_with_serde_json_on_objects_without_duplicates(source in nearly_an_object()) {
            let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&source);
            prop_assert_eq!(valid(source.as_bytes()), theirs.is_ok(), "{}", source);
        }
    }
}
