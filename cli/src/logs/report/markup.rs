//! Pieces of HTML that are also well-formed XML: texts that can't be markup, tables, bars, the plot over time. Pure.
//!
//! Everything on the page is a [`Html`], and what a record says becomes one only through [`Html::text`]. That is all the
//! escaping there is.

use std::{borrow::Cow, fmt};

use crate::logs::output::plain;

/// Characters of a text from a record; a node's name has at most 253, and a page is read by people.
const MAX_TEXT: usize = 120;

/// Markup.
#[derive(Debug, Clone, Default)]
pub(super) struct Html(String);

impl Html {
    /// A text from a record: escaped, cut, without control characters, and of its own direction of writing.
    pub(super) fn text(text: &str) -> Self {
        Self::long_text(&cut(text))
    }

    /// The same, of a length that somebody else has bounded.
    pub(super) fn long_text(text: &str) -> Self {
        Self(format!("<bdi>{}</bdi>", escape(&plain(text))))
    }

    /// A text of ours, or numbers and times.
    pub(super) fn word(text: impl fmt::Display) -> Self {
        Self(escape(&text.to_string()))
    }

    /// Markup of ours, made of literals, other markup and [`attribute`]s.
    pub(super) const fn markup(markup: String) -> Self {
        Self(markup)
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text in an attribute, within quotes.
pub(super) fn attribute(text: &str) -> String {
    escape(&plain(&cut(text)))
}

/// The beginning of a text from a record that is too long.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No characters in XML; a page with them would be refused by strict readers.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    class: &'static str,
}

/// A column of texts.
pub(super) const fn text(name: &'static str) -> Column {
    Column { name, class: "" }
}

/// A column of numbers.
pub(super) const fn number(name: &'static str) -> Column {
    Column { name, class: " class=\"n\"" }
}

/// A column of numbers that a narrow screen has no room for.
pub(super) const fn extra(name: &'static str) -> Column {
    Column { name, class: " class=\"n extra\"" }
}

/// A table; the first cell of a row is its header. On a narrow screen it scrolls by itself.
pub(super) fn table(caption: &str, columns: &[Column], rows: &[Vec<Html>]) -> Html {
    let mut html = format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
        attribute(caption)
    );
    for Column { name, class } in columns {
        html += &format!("<th scope=\"col\"{class}>{name}</th>");
    }
    html += "</tr></thead><tbody>\n";
    for row in rows {
        html += "<tr>";
        for (index, (Column { class, .. }, cell)) in columns.iter().zip(row).enumerate() {
            html += &match index {
                0 => format!("<th scope=\"row\"{class}>{cell}</th>"),
                _ => format!("<td{class}>{cell}</td>"),
            };
        }
        html += "</tr>\n";
    }
    Html(html + "</tbody></table></div>\n")
}

/// A bar of parts, each with a class of the style sheet, as long as their share of `largest`. Only for the eye: the numbers
/// stand beside it.
pub(super) fn bar(parts: &[(&str, u64)], largest: u64) -> Html {
    let mut html = "<span class=\"bar\" aria-hidden=\"true\">".to_owned();
    for (class, value) in parts.iter().filter(|(_, value)| *value > 0) {
        let percent = *value as f64 / largest.max(1) as f64 * 100.0;
        html += &format!("<i class=\"{class}\" style=\"width:{percent:.2}%\"></i>");
    }
    Html(html + "</span>")
}

/// What the colours mean, each with a number.
pub(super) fn legend(items: &[(&str, Html)]) -> Html {
    let item = |(class, label): &(&str, Html)| {
        format!("<li><i class=\"key {class}\" aria-hidden=\"true\"></i>{label}</li>")
    };
    Html(format!("<ul class=\"legend\">{}</ul>\n", items.iter().map(item).collect::<String>()))
}

/// What is read on demand.
pub(super) fn details(summary: &str, inside: &Html) -> Html {
    Html(format!("<details><summary>{}</summary>{inside}</details>\n", escape(summary)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_can_be_nothing_but_text() {
        let hostile = "</bdi><script>alert('1')</script>&\"\u{1b}[2J\u{202e}gnp.exe\u{0}\u{ffff}";
        let html = Html::text(hostile).to_string();
        assert_eq!(html.matches('<').count(), 2, "{html}");
        assert!(html.starts_with("<bdi>&lt;/bdi&gt;&lt;script&gt;alert(&#39;1&#39;)"), "{html}");
        assert!(!html.contains(['\u{1b}', '\u{202e}', '\u{0}', '\u{ffff}']), "{html}");
        assert!(!attribute("\" onclick=\"x").contains('"'));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "ü".repeat(1 << 20);
        assert_eq!(cut(&long).chars().count(), MAX_TEXT + 1);
        assert!(Html::text(&long).to_string().len() < 1_000);
        assert_eq!(cut("short"), "short");
    }
}
