//! What the user's answer does: recording begins, ends, or is deleted with all that it made.

use tracing::{debug, info, warn};

use super::{
    Client, ClientError, RemoteCommands, commands, decision::Decision, identity, recording::Recording,
    socket_stats,
};
use crate::{
    consent::Consent,
    diagnostics::{Diagnostics, DiagnosticsLimits},
};

impl Client {
    /// Applies the user's answer. [`Consent::Granted`] starts recording, also for a tunnel that is running.
    /// [`Consent::Denied`] stops recording, cancels a running upload, writes the denial down, and deletes every record and the
    /// log ID that this app's role has on disk. If the process is killed in between, the next start finishes the deletion
    /// before anything else, whatever consent it is given; another role's records from before the denial go when that role
    /// starts. Waits for the disk.
    ///
    /// # Errors
    /// When the store can't be opened, or can't be deleted. Recording has ended then all the same; call again to delete.
    pub fn set_consent(&self, consent: Consent) -> Result<(), ClientError> {
        let mut state = self.lock()?;
        info!(?consent, "consent");
        if consent == Consent::Granted {
            if state.recording.is_none() {
                let mut decision = Decision::load(&self.config.directory, &self.config.role)?;
                self.finish_deletion(&mut decision)?;
                decision.grant()?;
                let recording = Recording::start(&self.config, &state)?;
                if self.config.remote_commands == RemoteCommands::FromServer {
                    commands::listen(recording.uploader(), &self.config, &self.state);
                }
                state.attach(recording);
                self.open_diagnostics();
            }
            state.consent = consent;
            return Ok(());
        }
        // A refusal holds whatever becomes of the files.
        state.consent = consent;
        state.refusals += 1;
        match (consent, state.detach()) {
            (Consent::Denied, recording) => self.delete_all(recording),
            (_, Some(recording)) => {
                let stopped = recording.stop();
                self.close_diagnostics();
                stopped
            }
            (_, None) => {
                let decision = Decision::load(&self.config.directory, &self.config.role);
                let finished = decision
                    .map_err(ClientError::from)
                    .and_then(|mut decision| self.finish_deletion(&mut decision));
                if let Err(error) = finished {
                    // Nothing will be sent of it: the next grant comes here, too.
                    warn!("can't finish deleting what the user denied");
                    // A path may name the user.
                    debug!(%error, "deleting failed");
                }
                Ok(())
            }
        }
    }

    /// Deletes what a denial left, if its deletion was interrupted.
    fn finish_deletion(&self, decision: &mut Decision) -> Result<(), ClientError> {
        if decision.deletion_is_due() {
            Recording::delete_leftovers(&self.config)?;
            self.delete_diagnostics()?;
            socket_stats::forget(&self.config)?;
            commands::forget(&self.config)?;
            decision.deleted()?;
        }
        if decision.is_denied() {
            identity::delete(&self.config.directory)?;
        }
        Ok(())
    }

    /// Deletes everything, after the denial is written down.
    fn delete_all(&self, recording: Option<Recording>) -> Result<(), ClientError> {
        if recording.is_none() && !self.config.directory.exists() {
            return Ok(());
        }
        if let Some(recording) = &recording {
            // Nothing more may go out, also not by rules that come due while the denial is written down.
            recording.uploader().pause_uploads();
            recording.cancel_upload();
        }
        let mut decision = Decision::load(&self.config.directory, &self.config.role);
        let noted = decision.as_mut().map_or(Ok(()), Decision::deny);
        let deleted = match recording {
            Some(recording) => recording.delete(&self.config),
            None => Recording::delete_leftovers(&self.config),
        };
        let diagnostics = self.delete_diagnostics();
        let period = socket_stats::forget(&self.config);
        let obeyed = commands::forget(&self.config);
        identity::delete(&self.config.directory)?;
        deleted?;
        diagnostics?;
        period?;
        obeyed?;
        let mut decision = decision?;
        if noted.is_err() {
            // A full disk has room now.
            decision.deny()?;
        }
        Ok(decision.deleted()?)
    }

    /// Our own log must not keep the records from being kept: what fails here is in its statistics.
    fn open_diagnostics(&self) {
        if let Some(diagnostics) = &self.config.diagnostics
            && let Err(error) =
                diagnostics.open(&self.config.diagnostics_directory(), DiagnosticsLimits::default())
        {
            warn!("no log files");
            debug!(%error, "opening the log files failed");
        }
    }

    pub(super) fn close_diagnostics(&self) {
        if let Some(diagnostics) = &self.config.diagnostics {
            diagnostics.close();
        }
    }

    fn delete_diagnostics(&self) -> std::io::Result<()> {
        let directory = self.config.diagnostics_directory();
        match &self.config.diagnostics {
            Some(diagnostics) => diagnostics.delete(&directory)?,
            // An earlier run may have had one.
            None => Diagnostics::delete_files(&directory)?,
        }
        // Another role's may be in it, or it was never made.
        let _ = directory.parent().map(std::fs::remove_dir);
        Ok(())
    }

    /// Deletes every record and log line, sent or not, and goes on recording. A running upload is cancelled. Waits for the
    /// disk. Does nothing without consent: there is nothing then.
    ///
    /// # Errors
    /// When a file can't be deleted; the others are.
    pub fn clear(&self) -> Result<(), ClientError> {
        let state = self.lock()?;
        let Some(recording) = &state.recording else {
            return Ok(());
        };
        state.close_window(recording);
        let cleared = recording.clear();
        let deleted = self.delete_diagnostics();
        self.open_diagnostics();
        cleared?;
        Ok(deleted?)
    }
}
