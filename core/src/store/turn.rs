//! Who may change files, and what others have done to them.
//!
//! Exclusive roles hold their directory's `LOCK` from open to shutdown, and nobody else writes there. Shared roles
//! hold `TURN` only while the writer works: a system that suspends the process between two turns finds no lock
//! held. At the start of such a turn the writer looks at the directory again, since another process of the role may
//! have sealed, delivered or dropped segments.
//!
//! Another role may claim sealed segments at any time. One that is missing is forgotten: who took it accounts for it.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
};

use super::{
    DropCount, DropReason, DropReport, SegmentId, SeqRange,
    catalog::{OVERHEAD, Place},
    dir::{Form, Hold},
    frame::FRAME_LEN,
    fs::AppendFile,
    stream::{Leftover, Moment, Skip, Stream},
};

impl Stream {
    /// Takes the directory for a turn, where roles are shared. Without it the stream is degraded, and writes nothing.
    pub(super) fn begin_turn(&mut self, at: Moment) {
        if !matches!(self.hold, Hold::Shared { .. }) {
            return;
        }
        let locked = match self.dir.lock_turn() {
            Err(error) if error.kind() == ErrorKind::NotFound => self.restore_directory(),
            other => other.map(|turn| self.hold = Hold::Shared { turn: Some(turn) }),
        };
        match locked {
            Ok(()) => self.look_again(at),
            Err(error) if self.failure.is_none() => self.fail(&error, at),
            Err(_) => {}
        }
    }

    pub(super) fn end_turn(&mut self) {
        if let Hold::Shared { turn } = &mut self.hold {
            *turn = None;
        }
    }

    /// Creates a file, and the directory if that was deleted under us.
    pub(super) fn create_open(&mut self, id: SegmentId) -> io::Result<Box<dyn AppendFile>> {
        match self.dir.create(id, Form::Open) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.restore_directory()?;
                self.dir.create(id, Form::Open)
            }
            other => other,
        }
    }

    /// Somebody has deleted the directory: what was in it is lost. Makes and takes a new one.
    fn restore_directory(&mut self) -> io::Result<()> {
        if self.dir.exists() {
            // Then it is something else that was not found.
            return Err(ErrorKind::NotFound.into());
        }
        self.hold = self.dir.hold(&self.role).map_err(io::Error::other)?;
        if self.role.is_shared() {
            self.hold = Hold::Shared { turn: Some(self.dir.lock_turn()?) };
        }
        self.has_reserve = false;
        for info in self.catalog.list() {
            let Some(entry) = self.catalog.remove(info.id) else { continue };
            let records = u64::from(info.records.saturating_sub(entry.damaged));
            let bytes = u64::from(info.raw_bytes).saturating_sub(FRAME_LEN as u64 * u64::from(info.records));
            let range = SeqRange { proc_id: info.proc_id, from: info.first_seq, to: info.last_seq };
            let count = DropCount { records, bytes };
            self.lose(DropReport { reason: DropReason::IoError, count, range: Some(range) });
        }
        Ok(())
    }

    /// Bytes by which the open files of other processes may still grow.
    pub(super) fn foreign_growth(&self) -> u64 {
        let whole = (self.segment_bytes() + OVERHEAD) as u64;
        self.foreign.iter().map(|len| whole.saturating_sub(*len)).sum()
    }

    /// Brings what is known of the directory up to date.
    pub(super) fn look_again(&mut self, at: Moment) {
        if !self.recovered {
            return;
        }
        let found = match self.dir.list() {
            Ok(found) => found,
            Err(error) => {
                // One process alone finds out when it writes.
                if matches!(self.hold, Hold::Shared { .. }) && self.failure.is_none() {
                    self.fail(&error, at);
                }
                return;
            }
        };
        let of = |form| {
            let files = found.iter().filter(move |file| file.form == form);
            files.map(|file| file.id).collect::<BTreeSet<_>>()
        };
        let (open, sealed) = (of(Form::Open), of(Form::Sealed));
        let gone: Vec<_> = self.catalog.own().filter(|id| !sealed.contains(id)).collect();
        for id in gone {
            self.catalog.remove(id);
        }
        if matches!(self.hold, Hold::Shared { .. })
            && let Some(active) = self.active.take_if(|active| !open.contains(&active.id()))
        {
            // A process that started meanwhile took it over, with everything that was written.
            self.spare_buffer = active.into_buffer();
        }
        let active = self.active.as_ref().map(|active| active.id());
        self.foreign.clear();
        self.skipped.retain(|_, why| *why == Skip::Later);
        let is_shared = matches!(self.hold, Hold::Shared { .. });
        for file in found {
            let known = match file.form {
                Form::Sealed => self.catalog.get(file.id).is_some(),
                Form::Open => active == Some(file.id) || self.orphans.contains_key(&file.id),
                Form::Temporary => false,
            };
            let left = |leftover: &Leftover| {
                leftover.place == Place::Own && leftover.id == file.id && leftover.form == file.form
            };
            if known || self.skipped.contains_key(&(file.id, file.form)) || self.leftovers.iter().any(left) {
                continue;
            }
            match file.form {
                // Claims that were given back, or sealed by another process of the role.
                Form::Sealed => self.take_sealed(Place::Own, &file),
                // Of a process that is alive, or was: the next start seals it.
                Form::Open if is_shared && file.id.proc_id != self.proc_id => self.foreign.push(file.len),
                // Nobody else writes here, so it is ours, and was out of sight for a while.
                Form::Open => {
                    self.orphans.insert(file.id, file.len);
                }
                // Whoever made it had this turn's lock, and died.
                Form::Temporary => {
                    self.leftovers.push(Leftover::own(&file));
                }
            }
        }
    }
}
