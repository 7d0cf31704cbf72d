//! Taking over what another role has sealed, to upload it while that role's process does not run.
//!
//! A claim is a rename into `claimed/<role>/` of the own directory: exactly one process gets the file, whatever the
//! other one does at the same time. The records keep their process id and numbers. From then on the segment is one
//! of ours: listed, read, acknowledged, and dropped to make room, under our cap. What is left of claims when
//! the store is opened the next time goes back to where it was taken from.

use std::io::ErrorKind;

use super::{
    Role, SegmentId, StoreError,
    catalog::{MAX_FILES, OVERHEAD, Place},
    dir::{Dir, Form, Found},
    reserve::RESERVE_BYTES,
    stream::{Leftover, Moment, Stream},
};

impl Stream {
    /// Takes over sealed segments of `role`, oldest first, as many as the cap has room for; and files that nobody
    /// writes any more, if no process of that role lives. Says how many.
    pub(super) fn claim(&mut self, role: &Role, at: Moment) -> Result<usize, StoreError> {
        self.settle(at);
        if !self.recovered || !self.hold.is_held() {
            self.check()?;
            return Ok(0);
        }
        let source = self.dir.of_other(role.as_str());
        if source.display() == self.dir.display() {
            return Ok(0);
        }
        let mut found = match source.list() {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(source.no_access(error)),
        };
        // Of claims that were delivered.
        self.dir.remove_empty_claims();
        if found.is_empty() {
            return Ok(0);
        }
        found.sort_by_key(|file| file.id);
        let place = self.claims_of(role.as_str());
        self.place_dir(place).create_dirs()?;
        let idle = source.lock_if_idle();
        let mut taken = 0;
        for files in found.chunk_by(|a, b| a.id == b.id) {
            // One that is there in two forms was being sealed; its own process sorts that out.
            let [file] = files else { continue };
            if self.catalog.get(file.id).is_some() {
                continue;
            }
            // Sealing makes a copy.
            let len = if file.form == Form::Open { 2 * file.len } else { file.len };
            if !self.has_room_for_claim(len) {
                break;
            }
            taken += match file.form {
                Form::Sealed => self.claim_sealed(&source, place, file)?,
                Form::Open if idle.is_some() => self.claim_open(&source, file)?,
                Form::Open | Form::Temporary => 0,
            };
        }
        drop(idle);
        self.dir.remove_empty_claims();
        self.settle(at);
        Ok(taken)
    }

    fn claim_sealed(&mut self, source: &Dir, place: Place, file: &Found) -> Result<usize, StoreError> {
        if !moved(source, self.place_dir(place), file.id, Form::Sealed)? {
            return Ok(0);
        }
        self.take_sealed(place, file);
        Ok(usize::from(self.catalog.get(file.id).is_some()))
    }

    /// Becomes one of our own segments, since only in the own directory files are sealed.
    fn claim_open(&mut self, source: &Dir, file: &Found) -> Result<usize, StoreError> {
        if !moved(source, &self.dir, file.id, Form::Open)? {
            return Ok(0);
        }
        if self.seal_file(file.id).is_err() {
            self.orphans.insert(file.id, file.len);
        }
        Ok(usize::from(self.catalog.get(file.id).is_some()))
    }

    /// Whether `len` more bytes leave room for the next segment of our own: claiming never drops anything.
    fn has_room_for_claim(&self, len: u64) -> bool {
        let (kept, files) = self.catalog.remaining();
        let next = (self.segment_bytes().max(OVERHEAD) + self.beside()) as u64;
        let used = kept + self.unlisted_bytes() + self.foreign_growth() + RESERVE_BYTES + next;
        used + len <= self.config.max_disk_bytes && files + 1 < MAX_FILES
    }

    /// The place of claims from a role.
    fn claims_of(&mut self, role: &str) -> Place {
        let dir = self.dir.claimed_from(role);
        let known = self.claims.iter().position(|known| known.display() == dir.display());
        Place::Claimed(known.unwrap_or_else(|| {
            self.claims.push(dir);
            self.claims.len() - 1
        }))
    }

    /// Gives back what an earlier run claimed and did not deliver.
    pub(super) fn return_claims(&mut self) {
        for role in self.dir.claimed_roles() {
            let source = self.dir.of_other(&role);
            let claims = self.dir.claimed_from(&role);
            let Ok(found) = claims.list() else { continue };
            // Where the directory is gone its records were deleted; making it again is not our business.
            let wanted = source.exists();
            let mut kept: Vec<Found> = Vec::new();
            for file in found {
                let returned = wanted && moved(&claims, &source, file.id, file.form).is_ok();
                if !returned {
                    kept.push(file);
                }
            }
            if kept.is_empty() {
                continue;
            }
            let place = self.claims_of(&role);
            for file in kept {
                match file.form {
                    Form::Sealed => self.take_sealed(place, &file),
                    Form::Open | Form::Temporary => self.leftovers.push(Leftover::at(place, &file)),
                }
            }
        }
        self.dir.remove_empty_claims();
    }

    pub(super) fn place_dir(&self, place: Place) -> &Dir {
        match place {
            Place::Own => &self.dir,
            Place::Claimed(index) => self.claims.get(index).unwrap_or(&self.dir),
        }
    }
}

/// Moves a file; false if somebody else was faster.
fn moved(from: &Dir, to: &Dir, id: SegmentId, form: Form) -> Result<bool, StoreError> {
    match from.move_to(to, id, form) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::Io { action: "claim", path: from.path(id, form), source }),
    }
}
