//! Commands in a server's answer, as far as the uploader looks at them: found and cut apart, not understood.
//!
//! A server that has delivered records confirmed may say what it wants of the device, if the host lets it:
//!
//! ```text
//! HTTP/1.1 200 OK
//! Content-Type: application/json
//!
//! {"commands":[{"v":1,"id":"case-17","kind":"debug_upload"}]}
//! ```
//!
//! Pure functions, called by the upload thread. Nothing is ever asked for commands: they come with answers to requests
//! that are made anyway, and whoever [listens](super::Uploader) decides what becomes of them.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest answer that is looked into, in bytes: four commands of the largest size. What is longer is not read on, and
/// nothing of it is done.
pub(super) const MAX_REPLY: usize = 16 * 1024;
/// Commands of one answer. Who wants more waits for the next one.
const MAX_COMMANDS: usize = 4;

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    commands: Vec<&'a RawValue>,
}

/// The commands in the body of an answer, each as JSON. An answer without any is normal; one that is too long, or no JSON, or
/// of another shape has none.
pub(super) fn of_reply(body: &[u8]) -> Vec<String> {
    if body.len() > MAX_REPLY {
        tracing::warn!(limit = MAX_REPLY, "the server's answer is too long to be searched for commands");
        return Vec::new();
    }
    match serde_json::from_slice::<Reply<'_>>(body) {
        Ok(Reply { commands }) => {
            let surplus = commands.len().saturating_sub(MAX_COMMANDS);
            if surplus > 0 {
                tracing::warn!(surplus, "the server's answer has too many commands");
            }
            commands.iter().take(MAX_COMMANDS).map(|command| command.get().to_owned()).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "the server's answer can't be searched for commands");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_cut_apart_as_they_came() {
        let reply = br#"{"stored":1,"commands":[{"v":1, "kind":"x"}, 7 ,"z"],"more":{}}"#;
        assert_eq!(of_reply(reply), [r#"{"v":1, "kind":"x"}"#, "7", "\"z\""]);
        assert_eq!(of_reply(br#"{"commands":[1,2,3,4,5,6]}"#), ["1", "2", "3", "4"]);
    }

    #[test]
    fn anything_else_has_no_commands() {
        for reply in [
            &b"{}"[..],
            b"",
            b"OK",
            b"[1]",
            br#"{"stored":3,"duplicates":0}"#,
            br#"{"commands":{"v":1}}"#,
            br#"{"commands":[{"v":1}]"#,
            br#"{"commands":[{"v":1}]} {}"#,
            b"\xff{\"commands\":[1]}",
        ] {
            assert_eq!(of_reply(reply), [""; 0], "{:?}", String::from_utf8_lossy(reply));
        }
        let deep = format!(r#"{{"commands":[{}]}}"#, "[".repeat(10_000));
        assert_eq!(of_reply(deep.as_bytes()), [""; 0]);
        let exact = |len: usize| format!(r#"{{"commands":["{}"]}}"#, "x".repeat(len - 17));
        assert_eq!(of_reply(exact(MAX_REPLY).as_bytes()).len(), 1);
        assert_eq!(of_reply(exact(MAX_REPLY + 1).as_bytes()), [""; 0]);
    }
}
