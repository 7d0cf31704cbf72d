//! Foreign text made fit for a record: bounded, on one line, and reading as it looks.
//!
//! Pure functions.

use serde::Serialize;

/// Longest note that is looked at, in bytes: far more than anybody types, little enough to go through at once.
pub(in super::super) const MAX_NOTE_INPUT: usize = 64 * 1024;
/// Longest note that is kept, in bytes: a paragraph. Longer stories belong into a mail.
pub(super) const MAX_NOTE: usize = 1024;
/// Longest name and version of an app, in bytes.
pub(super) const MAX_APP_VERSION: usize = 128;

/// A text in a record.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Text {
    #[serde(rename = "note")]
    pub(super) text: String,
    /// Bytes that were cut off.
    #[serde(rename = "note_cut_bytes", skip_serializing_if = "is_zero")]
    pub(super) cut: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(cut: &usize) -> bool {
    *cut == 0
}

impl Text {
    /// At most `max` bytes of `text`, cut between characters. Runs of spaces, control characters, and those that turn the
    /// direction of text or are not seen become one space each.
    pub(super) fn new(text: &str, max: usize) -> Self {
        let mut clean = String::new();
        for char in text.chars() {
            if char.is_whitespace() || is_treacherous(char) {
                if !clean.is_empty() && !clean.ends_with(' ') {
                    clean.push(' ');
                }
            } else {
                clean.push(char);
            }
        }
        clean.truncate(clean.trim_end().len());
        let kept = clean.floor_char_boundary(max);
        let cut = clean.len() - kept;
        clean.truncate(kept);
        Self { text: clean, cut }
    }
}

/// Control characters, those that turn the direction of text, and those that are there and not seen. Joiners stay: scripts
/// and emoji need them.
fn is_treacherous(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(text: &str) -> String {
        Text::new(text, MAX_NOTE).text
    }

    #[test]
    fn a_note_becomes_one_line_that_reads_as_it_looks() {
        assert_eq!(clean("  no\r\n\tnetwork \0 after\u{1b}[31m sleep  "), "no network after [31m sleep");
        assert_eq!(clean("pay \u{202e}gpj.exe\u{2066}"), "pay gpj.exe");
        assert_eq!(clean("می\u{200c}خواهم 👩\u{200d}🔧 ok"), "می\u{200c}خواهم 👩\u{200d}🔧 ok");
        assert_eq!(clean("\u{feff}\u{e0041}\n"), "");
        assert_eq!(clean(r#"{"a":"\"}"#), r#"{"a":"\"}"#);
    }

    #[test]
    fn a_long_note_is_cut_between_characters_and_says_so() {
        let note = Text::new(&"é".repeat(600), 1023);
        assert_eq!((note.text.len(), note.cut), (1022, 178));
        assert_eq!(Text::new("short", 5).cut, 0);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_out_is_bounded_and_harmless(text in "\\PC*|.*", max in 0_usize..64) {
            let note = Text::new(&text, max);
            prop_assert!(note.text.len() <= max);
            prop_assert!(!note.text.chars().any(is_treacherous));
            prop_assert!(!note.text.starts_with(' ') && !note.text.contains("  "));
        }
    }
}
