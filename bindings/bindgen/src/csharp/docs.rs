//! Rust documentation as C# XML documentation.

/// `/// <summary>` lines for a Rust doc comment; none for none.
pub(super) fn summary(doc: Option<&str>) -> Vec<String> {
    let Some(doc) = doc.map(str::trim).filter(|doc| !doc.is_empty()) else { return Vec::new() };
    let lines: Vec<String> = doc.lines().map(|line| xml(line.trim_end())).collect();
    match lines.as_slice() {
        [line] => vec![format!("/// <summary>{line}</summary>")],
        lines => {
            let body = lines.iter().map(|line| format!("/// {line}").trim_end().to_owned());
            ["/// <summary>".to_owned()]
                .into_iter()
                .chain(body)
                .chain(["/// </summary>".to_owned()])
                .collect()
        }
    }
}

/// `/// <exception>` for the declared error.
pub(super) fn exception(class: &str) -> String {
    // References in comments don't know `global::`.
    let class = class.trim_start_matches("global::");
    format!("/// <exception cref=\"{class}\">The call failed.</exception>")
}

/// Escapes a line for XML and turns `code` between backquotes into `<c>`.
fn xml(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let code_is_closed = line.matches('`').count().is_multiple_of(2);
    let mut in_code = false;
    for character in line.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '`' if code_is_closed => {
                text.push_str(if in_code { "</c>" } else { "<c>" });
                in_code = !in_code;
            }
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_of_rust_becomes_valid_xml() {
        assert_eq!(
            summary(Some("A `Vec<u8>` & more.")),
            ["/// <summary>A <c>Vec&lt;u8&gt;</c> &amp; more.</summary>"]
        );
        assert_eq!(summary(Some("An odd ` quote.")), ["/// <summary>An odd ` quote.</summary>"]);
    }

    #[test]
    fn several_lines_keep_their_breaks_and_nothing_gives_nothing() {
        assert_eq!(
            summary(Some("One.\n\nTwo.")),
            ["/// <summary>", "/// One.", "///", "/// Two.", "/// </summary>"]
        );
        assert!(summary(Some("  ")).is_empty());
        assert!(summary(None).is_empty());
    }
}
