//! Any bytes as a command from afar.

use std::sync::LazyLock;

use serde_json::Value;
use tuntrail::client::{Client, ClientConfig, ClientError, CommandError, RemoteCommands};

/// Without consent, so that the best command is only understood: nothing is on disk, and nothing is done.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let mut config =
        ClientConfig::new("/nowhere", "http://127.0.0.1:9").expect("the configuration is a good one");
    config.remote_commands = RemoteCommands::Allowed;
    Client::start(config).expect("a client without consent needs nothing")
});

/// `data` is a command. It is refused with a short text on one line, or it is one that the documentation allows.
pub fn command_handle(data: &[u8]) {
    let error = CLIENT.handle_command(data).expect_err("no command is obeyed without consent");
    let text = error.to_string();
    assert!(text.len() < 300 && !text.contains(char::is_control), "{text:?}");
    if let CommandError::Client(ClientError::NoConsent(_)) = error {
        assert!(is_allowed(data), "understood: {}", String::from_utf8_lossy(data));
    } else {
        assert!(!is_allowed(data), "{text}, but it is documented: {}", String::from_utf8_lossy(data));
    }
}

/// Whether `docs/debugging.md` allows it.
fn is_allowed(data: &[u8]) -> bool {
    let Ok(Value::Object(command)) = serde_json::from_slice(data) else { return false };
    let text = |name: &str| command.get(name).and_then(Value::as_str);
    let has_only = |names: &[&str]| command.keys().all(|key| names.contains(&key.as_str()));
    // In range, if it is there.
    let number = |name: &str, max| command.get(name).is_none_or(|value| at_most(value, max));
    let optional_number =
        |name: &str, max| command.get(name).is_some_and(Value::is_null) || number(name, max);
    let id = text("id").unwrap_or_default();
    let id_is_good =
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    let members_are_good = match text("kind") {
        Some("debug_upload") => {
            has_only(&["v", "id", "kind", "note", "streams", "window_s"])
                && command.get("note").is_none_or(Value::is_string)
                && command.get("streams").is_none_or(|value| value.is_null() || are_streams(value))
                && optional_number("window_s", 366 * 24 * 3600)
        }
        Some("socket_stats") => {
            has_only(&["v", "id", "kind", "seconds", "at_end"])
                && command.contains_key("seconds")
                && number("seconds", 3600)
                && command.get("at_end").is_none_or(|value| value == "keep" || value == "upload")
        }
        _ => false,
    };
    data.len() <= 4096
        && command.get("v").and_then(Value::as_u64) == Some(1)
        && id_is_good
        && members_are_good
}

fn at_most(value: &Value, max: u64) -> bool {
    value.as_u64().is_some_and(|number| number <= max)
}

fn are_streams(value: &Value) -> bool {
    const NAMES: [&str; 5] = ["windows", "flows", "sessions", "sockets", "diagnostics"];
    value
        .as_array()
        .is_some_and(|names| names.iter().all(|name| name.as_str().is_some_and(|name| NAMES.contains(&name))))
}
