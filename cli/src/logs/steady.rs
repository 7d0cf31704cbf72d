//! Reading what changes meanwhile: an app sends its records while somebody looks at them.

use super::notice::Notice;
use crate::CommandError;

/// How often something is read that changes meanwhile. An upload removes a segment every few seconds at most.
pub(super) const READS: usize = 3;

/// What `read` makes of the source of that name; again, [`READS`] times at most, while `is_doubtful` says that what is missing in
/// it may have been there a moment ago.
pub(super) fn steadily<T>(
    name: &str,
    mut read: impl FnMut() -> Result<T, CommandError>,
    is_doubtful: impl Fn(&T) -> bool,
) -> Result<T, CommandError> {
    let mut found = read()?;
    for _ in 1..READS {
        if !is_doubtful(&found) {
            break;
        }
        Notice::remark(name, "changed while it was read; it is read again").tell();
        found = read()?;
    }
    Ok(found)
}
