//! Any text as a wg-quick file.

use tuntrail::tunnel::{Config, ConfigError};

/// A WireGuard key has 44 characters. Words that are this long and stand where a secret belongs are secrets that
/// somebody mistyped; no word of an error's own text is as long.
const LEAST_SECRET: usize = 24;
/// From this length on a word may be a key wherever it stands.
const LEAST_KEY: usize = 40;

/// `data` is a file. Reading it ends in a configuration that is valid, or in an error that names a line of the file;
/// neither shows a secret.
pub fn config_parse(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let shown = match Config::parse(text) {
        Ok(config) => {
            assert_eq!(config.validate(), Ok(()));
            format!("{config:?}")
        }
        Err(error) => {
            if let Some(line) = line(&error) {
                assert!((1..=text.lines().count()).contains(&line), "{error}");
            }
            format!("{error} {error:?}")
        }
    };
    for secret in secrets(text) {
        assert!(!shown.contains(secret), "{shown}");
    }
}

fn line(error: &ConfigError) -> Option<usize> {
    match *error {
        ConfigError::Syntax { line }
        | ConfigError::UnknownSection { line, .. }
        | ConfigError::NoSection { line, .. }
        | ConfigError::UnknownKey { line, .. }
        | ConfigError::Repeated { line, .. }
        | ConfigError::Value { line, .. }
        | ConfigError::Key { line, .. }
        | ConfigError::MissingPublicKey { line } => Some(line),
        _ => None,
    }
}

/// The words of the text that nobody may be shown: keys, but for public ones, and what stands in a secret's place.
/// A word that stands in several places may be public in one of them, so it is left out.
fn secrets(text: &str) -> impl Iterator<Item = &str> {
    let once = |word: &&str| text.matches(word).count() == 1;
    text.lines().flat_map(words).filter(once)
}

/// The secrets of one line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let line = line.split('#').next().unwrap_or_default();
    // No key's name is this long: that is a bare base64 key, which ends in an equals sign.
    let named = line.split_once('=').filter(|(key, _)| key.trim().len() < LEAST_SECRET);
    let (key, value) = named.unwrap_or(("", line));
    let is = |name: &str| key.trim().eq_ignore_ascii_case(name);
    let least = if is("PrivateKey") || is("PresharedKey") { LEAST_SECRET } else { LEAST_KEY };
    // Public keys, host names and the like may be shown once the file makes sense.
    let public = ["PublicKey", "Endpoint", "DNS"].into_iter().any(is);
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    value.split(move |c| !is_base64(c)).filter(move |word| !public && word.len() >= least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        let key = "qJvMsPqDtF9wVtmLLmC3GhT0bXo4yoJCXRkJPPCw0ls=";
        let text = |line: &str| {
            format!("[Interface]\n{line} # a comment of some forty characters: {}", "x".repeat(40))
        };
        let found = |line: &str| secrets(&text(line)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(found(&format!("PrivateKey = {key}")), [key]);
        assert_eq!(found(&format!("presharedkey={}", &key[..24])), [&key[..24]]);
        assert_eq!(found(&format!("Address = 10.0.0.1/32, {key}")), [key]);
        assert_eq!(found(key), [key]);
        assert!(found(&format!("PublicKey = {key}")).is_empty());
        assert!(found("PostUp = echo").is_empty());
    }
}
