//! The request for an upload that is not finished, on disk.
//!
//! On demand means that nothing is sent unless somebody asked, and also that what somebody asked for is not forgotten
//! because the process is killed in the middle. So a request is written down before its pass begins, and the next
//! start carries on where there is such a file, and only there.
//!
//! `<directory>/FLUSH` is a JSON object of at most 4 KiB, mode 0600, replaced by renaming `FLUSH.tmp`:
//!
//! ```text
//! {"version":1,"requested_ms":1767323045000,"resumed":0,"reason":"support","streams":["netlog"]}
//! ```
//!
//! `streams` is missing if all are meant. Anything else is removed and never acted upon. Called under the uploader's
//! control lock; every operation is one small file.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{Survive, create_private_directory, read_small, remove, replace};

const NAME: &str = "FLUSH";
const VERSION: u32 = 1;
/// Who asked yesterday doesn't wait any more. Also how far the wall clock may have been set back since.
const LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;
/// A pass that takes the process down with it must not do so at every start. An app is rarely killed more often than
/// this within the minutes that an upload takes.
pub(super) const MAX_RESUMPTIONS: u32 = 5;
/// No file of ours is longer: the reason is cut, and names of streams are short.
const MAX_BYTES: u64 = 4096;
/// The reason is a word for the diagnostic log.
const MAX_REASON_CHARS: usize = 128;

/// A request as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedRequest {
    version: u32,
    /// When it was made, by the wall clock, in milliseconds since 1970.
    requested_ms: i64,
    /// How often a start has carried on with it.
    resumed: u32,
    pub(super) reason: String,
    /// Names of streams; all if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) streams: Option<Vec<String>>,
}

impl SavedRequest {
    pub(super) fn new(reason: &str, streams: Option<Vec<String>>, now: Timestamp) -> Self {
        Self {
            version: VERSION,
            requested_ms: now.as_millisecond(),
            resumed: 0,
            reason: reason.chars().take(MAX_REASON_CHARS).collect(),
            streams,
        }
    }

    /// Why it is not to be carried on with.
    fn refusal(&self, now: Timestamp) -> Option<&'static str> {
        if self.version != VERSION {
            Some("is of another version")
        } else if self.requested_ms.abs_diff(now.as_millisecond()) > LIFETIME_MS {
            Some("is older than a day, or of the future")
        } else if self.resumed >= MAX_RESUMPTIONS {
            Some("was carried on with too often")
        } else {
            None
        }
    }
}

/// The place of the file.
#[derive(Debug, Clone)]
pub(super) struct RequestFile {
    directory: PathBuf,
}

impl RequestFile {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Writes `request` in place of what was there.
    pub(super) fn save(&self, request: &SavedRequest) -> io::Result<()> {
        let json = serde_json::to_vec(request)?;
        if json.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the names of the streams are too long"));
        }
        create_private_directory(&self.directory)?;
        replace(&self.directory.join(NAME), &json, Survive::Kill)
    }

    /// Forgets the request. One that isn't there is no error.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.directory.join(NAME))
    }

    /// The request that an earlier process left and that is to be carried on with, counted as carried on with once
    /// more. What can't be used is removed. Without a place to count there is no carrying on.
    pub(super) fn resume(&self, now: Timestamp) -> Option<SavedRequest> {
        let usable = match self.load() {
            Ok(None) => return None,
            Ok(Some(request)) => match request.refusal(now) {
                None => Ok(request),
                Some(refusal) => Err(refusal.to_owned()),
            },
            Err(error) => Err(format!("can't be used: {error}")),
        };
        let mut request = match usable {
            Ok(request) => request,
            Err(refusal) => {
                let removed = self.remove();
                tracing::warn!(refusal, ?removed, "a saved upload request is dropped");
                return None;
            }
        };
        request.resumed += 1;
        match self.save(&request) {
            Ok(()) => Some(request),
            Err(error) => {
                tracing::warn!(%error, "a saved upload request waits, because its count can't be written");
                None
            }
        }
    }

    fn load(&self) -> io::Result<Option<SavedRequest>> {
        // One byte more than allowed shows that there is more.
        let Some(bytes) = read_small(&self.directory.join(NAME), MAX_BYTES + 1)? else { return Ok(None) };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
        }
        Ok(Some(serde_json::from_slice(&bytes)?))
    }
}

/// Deletes the request for an upload that an earlier process left in `directory`, if there is one: for consent that is
/// withdrawn while no [`Uploader`](super::Uploader) runs. [`Uploader::cancel`](super::Uploader::cancel) does the same
/// for its own. Waits for the disk.
///
/// # Errors
/// The system's, when the file is there and can't be removed.
pub fn forget_request(directory: &Path) -> io::Result<()> {
    RequestFile::new(directory).remove()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    const TEMPORARY: &str = "FLUSH.tmp";
    const NOW: &str = "2026-01-02T03:04:05Z";

    struct Place {
        dir: tempfile::TempDir,
        file: RequestFile,
        now: Timestamp,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = RequestFile::new(&dir.path().join("state"));
            Self { dir, file, now: NOW.parse().unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("state").join(NAME)
        }

        fn request(&self) -> SavedRequest {
            SavedRequest::new("support", Some(vec!["netlog".into()]), self.now)
        }
    }

    #[test]
    fn a_request_survives_and_counts_how_often_it_was_carried_on_with() {
        let place = Place::new();
        assert_eq!(place.file.resume(place.now), None);
        place.file.save(&place.request()).unwrap();
        for resumed in 1..=MAX_RESUMPTIONS {
            assert_eq!(place.file.resume(place.now), Some(SavedRequest { resumed, ..place.request() }));
        }
        assert_eq!(place.file.resume(place.now), None);
        assert!(!place.path().exists());
    }

    #[test]
    fn it_lives_for_a_day_in_both_directions_of_the_wall_clock() {
        for (hours, alive) in [(0, true), (23, true), (25, false), (-23, true), (-25, false)] {
            let place = Place::new();
            place.file.save(&place.request()).unwrap();
            let now = place.now.checked_add(i64::from(hours).hours()).unwrap();
            assert_eq!(place.file.resume(now).is_some(), alive, "{hours} h");
            assert_eq!(place.path().exists(), alive, "{hours} h");
        }
    }

    #[test]
    fn what_is_not_ours_is_removed_and_not_acted_upon() {
        let place = Place::new();
        place.file.save(&place.request()).unwrap();
        let good = fs::read_to_string(place.path()).unwrap();
        let foreign = [
            String::new(),
            "yes".to_owned(),
            "\0".repeat(100),
            good[..good.len() - 1].to_owned(),
            format!("{good}{good}"),
            good.replace("\"version\":1", "\"version\":2"),
            format!("{good}{}", " ".repeat(5000)),
            good.replace("[\"netlog\"]", "7"),
        ];
        for content in foreign {
            fs::write(place.path(), &content).unwrap();
            assert_eq!(place.file.resume(place.now), None, "{content:?}");
            assert!(!place.path().exists(), "{content:?}");
        }
        fs::write(place.path(), good).unwrap();
        assert!(place.file.resume(place.now).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_content_is_carried_on_with_but_our_own(content in prop::collection::vec(any::<u8>(), 0..300)) {
            let place = Place::new();
            place.file.save(&place.request()).unwrap();
            fs::write(place.path(), content).unwrap();
            prop_assert_eq!(place.file.resume(place.now), None);
            prop_assert!(!place.path().exists());
        }
    }

    #[test]
    fn forgetting_removes_it_and_its_leftovers() {
        let place = Place::new();
        forget_request(&place.dir.path().join("state")).unwrap();
        place.file.save(&place.request()).unwrap();
        fs::write(place.path().with_file_name(TEMPORARY), "cut").unwrap();
        forget_request(&place.dir.path().join("state")).unwrap();
        assert_eq!(fs::read_dir(place.dir.path().join("state")).unwrap().count(), 0);
    }

    #[test]
    fn a_long_reason_is_cut_and_too_many_names_are_refused() {
        let place = Place::new();
        place.file.save(&SavedRequest::new(&"é".repeat(9999), None, place.now)).unwrap();
        let reason = place.file.resume(place.now).unwrap().reason;
        assert_eq!(reason, "é".repeat(MAX_REASON_CHARS));
        let names = vec!["n".repeat(64); 99];
        assert!(place.file.save(&SavedRequest::new("x", Some(names), place.now)).is_err());
        assert_eq!(place.file.resume(place.now).unwrap().resumed, 2, "the older one is still there");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_private_and_a_link_in_its_place_is_not_followed() {
        use std::os::unix::fs::PermissionsExt;

        let place = Place::new();
        place.file.save(&place.request()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place.path()), 0o600);
        assert_eq!(mode(&place.dir.path().join("state")), 0o700);

        let other = place.dir.path().join("other");
        fs::rename(place.path(), &other).unwrap();
        std::os::unix::fs::symlink(&other, place.path()).unwrap();
        assert_eq!(place.file.resume(place.now), None);
        assert!(
            other.exists() && fs::symlink_metadata(place.path()).is_err(),
            "the link goes, its target stays"
        );
    }

    #[test]
    fn without_a_place_to_count_there_is_no_carrying_on() {
        let place = Place::new();
        place.file.save(&place.request()).unwrap();
        // A directory in the way of the temporary file makes writing fail, also for root.
        fs::create_dir(place.path().with_file_name(TEMPORARY)).unwrap();
        assert_eq!(place.file.resume(place.now), None);
        assert!(place.path().exists());
    }
}
