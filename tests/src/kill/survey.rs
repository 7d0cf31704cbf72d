//! What the parent finds after the child's end: on the disk, and at the server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use tuntrail::{
    store::{ReadError, RecordKind, Store, StreamConfig},
    upload::PublicId,
};
use tuntrail_logserver::Entry;

use super::{
    HarnessError,
    account::{Accounts, Place},
    order::{LOG_ID, LOG_ID_DRAFT, Order, stream_directory, stream_name},
};

/// What may be left when consent was withdrawn: lock files of a directory that is kept, which are empty, and the files
/// that say so, whose names begin like this.
const LOCKS: [&str; 2] = ["LOCK", "TURN"];
const DECISION: &str = "CONSENT";

/// A report of the store as the server has it.
#[derive(Deserialize)]
struct ReportEntry<'a> {
    #[serde(borrow)]
    tuntrail: &'a RawValue,
}

/// Bytes of all files of the stream.
pub(super) fn stream_bytes(root: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for path in files(&stream_directory(root))? {
        bytes += fs::symlink_metadata(path)?.len();
    }
    Ok(bytes)
}

/// Files that should be gone now that consent was withdrawn. After a new grant there may be a new log id.
pub(super) fn leftovers(root: &Path, granted: bool) -> io::Result<Vec<PathBuf>> {
    let mut leftovers = files(root)?;
    leftovers.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let empty = || fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() == 0);
        let lock = LOCKS.iter().any(|lock| name == *lock) && empty();
        !(lock || name.starts_with(DECISION) || granted && (name == LOG_ID || name == LOG_ID_DRAFT))
    });
    Ok(leftovers)
}

/// All files below `root`; none if it does not exist.
fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

/// Opens the store once more, as the next process would, and enters what it still has.
pub(super) fn disk(order: &Order, accounts: &mut Accounts) -> Result<(), HarnessError> {
    let stream = order.stream_config(StreamConfig::LOW_MEMORY_SEGMENT_BYTES, Duration::ZERO)?;
    let store = Store::open(order.store_config(), vec![stream])?;
    let handle = store.stream(&stream_name()?).ok_or(HarnessError::Missing("the stream"))?;
    for info in handle.seal()? {
        let segment = match handle.read(&info.id) {
            Ok(segment) => segment,
            Err(error @ ReadError::Corrupt { .. }) => {
                accounts.damaged(format!("segment {}: {error}", info.id));
                continue;
            }
            Err(error) => return Err(HarnessError::Read(error)),
        };
        if segment.lost_records() > 0 {
            accounts.damaged(format!("segment {}: {} records damaged", info.id, segment.lost_records()));
        }
        for record in segment.records() {
            let (proc_id, seq) = (info.proc_id.get(), record.seq.get());
            match record.kind {
                // Records of a client's own windows are no concern here.
                RecordKind::Data => drop(accounts.found(proc_id, seq, record.payload, Place::Disk)),
                RecordKind::Meta => accounts.reported(proc_id, seq, record.payload),
            }
        }
    }
    // What it could not write on a full disk was found missing above.
    let _ = store.shutdown();
    Ok(())
}

/// Enters what the server has under the log id `log`. Returns the number of data records that no child told of.
pub(super) fn server(entries: &[Entry], log: PublicId, accounts: &mut Accounts) -> u64 {
    let log = log.to_string();
    let mut foreign = 0;
    for entry in entries.iter().filter(|entry| entry.public_id == log) {
        let (Some(proc_id), Some(seq)) = (entry.proc_id, entry.proc_seq) else {
            accounts.damaged(format!("an entry without numbers at the server: {:?}", entry.error));
            continue;
        };
        if let Ok(ReportEntry { tuntrail }) = serde_json::from_str(&entry.payload) {
            accounts.reported(proc_id, seq, tuntrail.get().as_bytes());
            continue;
        }
        foreign += u64::from(!accounts.found(proc_id, seq, entry.payload.as_bytes(), Place::Server));
    }
    foreign
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_of_the_stream_count_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(stream_bytes(root.path()).unwrap(), 0);
        let stream = stream_directory(root.path()).join("w-ext");
        fs::create_dir_all(&stream).unwrap();
        for (name, bytes) in [("LOCK", 0), ("a.seg", 1_000), ("b.open", 100), ("b.tmp", 10)] {
            fs::write(stream.join(name), vec![0; bytes]).unwrap();
        }
        fs::write(root.path().join("log-id"), "secret").unwrap();
        assert_eq!(stream_bytes(root.path()).unwrap(), 1_110);
    }

    #[test]
    fn whatever_is_left_after_a_refusal_is_found_but_for_the_refusal() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("netlog/w-ext");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("LOCK"), "").unwrap();
        fs::write(root.path().join("CONSENT"), "denied").unwrap();
        assert_eq!(leftovers(root.path(), false).unwrap(), Vec::<PathBuf>::new());
        fs::write(deep.join("0000000000000001-00000001.seg"), "").unwrap();
        fs::write(deep.join("TURN"), "not only a lock").unwrap();
        fs::write(root.path().join("log-id"), "secret").unwrap();
        assert_eq!(leftovers(root.path(), false).unwrap().len(), 3);
        assert_eq!(leftovers(root.path(), true).unwrap().len(), 2);
        assert_eq!(leftovers(&root.path().join("nowhere"), false).unwrap(), Vec::<PathBuf>::new());
    }
}
