//! What two texts differ in, short enough to read.

/// Characters shown before the first difference, so that the place is recognised.
const BEFORE: usize = 40;
/// Characters shown from the first difference on.
const AFTER: usize = 80;

/// `None` if both are equal. Otherwise two lines, expected and actual, around the first byte that differs.
#[must_use]
pub fn difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let equal = expected.bytes().zip(actual.bytes()).take_while(|(a, b)| a == b).count();
    Some(format!(
        "first difference at byte {equal} (expected {} bytes, got {})\nexpected: {}\n  actual: {}",
        expected.len(),
        actual.len(),
        around(expected, equal),
        around(actual, equal)
    ))
}

fn around(text: &str, at: usize) -> String {
    let before = text.char_indices().filter(|(index, _)| *index < at).map(|(_, char)| char);
    let skip = before.clone().count().saturating_sub(BEFORE);
    let count = before.count().min(BEFORE) + AFTER;
    let shown: String = text.chars().skip(skip).take(count).collect();
    let more = if text.chars().count() > skip + count { "…" } else { "" };
    format!("{}{}{more}", if skip > 0 { "…" } else { "" }, shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(difference("a\n", "a\n"), None);
    }

    #[test]
    fn the_first_difference_is_shown_with_what_is_around_it() {
        let common = "é".repeat(100);
        let text = difference(&format!("{common}right\n{common}"), &format!("{common}wrong")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "first difference at byte 200 (expected 406 bytes, got 205)");
        assert!(
            lines[1].starts_with("expected: …éé")
                && lines[1].contains("éright\\né")
                && lines[1].ends_with('…')
        );
        assert!(lines[2].ends_with("éwrong"));
    }

    #[test]
    fn a_text_that_ends_early_differs_at_its_end() {
        assert!(difference("abc", "ab").unwrap().ends_with("actual: ab"));
    }
}
