//! Uploads through the client: asking for them, holding them up, and what the host tells about the device.

use std::sync::Arc;

use super::{Client, ClientError, decision::Decision, own_log, streams::StreamKind};
use crate::{
    store::Role,
    upload::{
        NetworkState, PowerState, Task, TaskResult, UploadEvent, UploadOptions, UploadTicket, Uploader,
    },
};

type UploadListener = Arc<dyn Fn(UploadEvent) + Send + Sync>;

/// What the host has said about uploads, for the uploader that comes with consent.
#[derive(Default)]
pub(super) struct UploadState {
    network: Option<NetworkState>,
    power: Option<PowerState>,
    paused: bool,
    listener: Option<UploadListener>,
}

impl UploadState {
    /// Tells an uploader that was just started.
    pub(super) fn tell(&self, uploader: &Uploader) {
        if let Some(listener) = &self.listener {
            let listener = Arc::clone(listener);
            uploader.set_listener(move |event| listener(event));
        }
        if let Some(power) = self.power {
            uploader.set_power_state(power);
        }
        if let Some(network) = self.network {
            uploader.set_network_state(network);
        }
        if self.paused {
            uploader.pause_uploads();
        }
    }
}

impl Client {
    /// Closes the open window, puts everything recorded so far on disk, and sends it, with the new lines of our own log from
    /// `INFO` on. Waits for the disk, not for the network. `reason` is a word for our own logs, and must not name addresses or hosts.
    /// Returns when sending has begun; wait on the ticket for the report. If the process is killed before it has ended, the
    /// next start goes on with it.
    ///
    /// # Errors
    /// Without consent, and when the client is shut down.
    pub fn upload(&self, reason: &str) -> Result<UploadTicket, ClientError> {
        self.upload_with(reason, UploadOptions::default())
    }

    /// As [`Self::upload`], with progress and other options.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn upload_with(&self, reason: &str, options: UploadOptions) -> Result<UploadTicket, ClientError> {
        let state = self.lock()?;
        let recording = state.recording.as_ref().ok_or(ClientError::NoConsent(state.consent))?;
        state.close_window(recording);
        let own_log = StreamKind::Diagnostics.stream_name();
        if options.streams.as_ref().is_none_or(|names| names.iter().any(|name| name == own_log)) {
            own_log::join(&self.config, recording);
        }
        Ok(recording.uploader().upload(reason, options))
    }

    /// Takes over what another of the app's processes has recorded and not sent, so that the next upload of this one sends
    /// it: for an app that uploads while its network extension does not run. Records keep their numbers. What is not delivered
    /// goes back when this client starts again. Returns the number of segments taken, as many as the disk budget has room for:
    /// upload them and claim again, until it is 0. It is 0 for this client's own role, and for one that still has to delete what
    /// a denial left. Waits for the disk.
    ///
    /// # Errors
    /// Without consent, and when the disk refuses.
    pub fn claim(&self, role: &Role) -> Result<usize, ClientError> {
        let streams = {
            let state = self.lock()?;
            let recording = state.recording.as_ref().ok_or(ClientError::NoConsent(state.consent))?;
            recording.streams(&self.config)
        };
        if Decision::load(&self.config.directory, role)?.deletion_is_due() {
            // From before a denial: they are for that role to delete when it starts, and for nobody to send.
            return Ok(0);
        }
        let mut claimed = 0;
        for (stream, _) in streams {
            claimed += stream.claim(role)?;
        }
        Ok(claimed)
    }

    /// Lets nothing be sent until [`Self::resume_uploads`], for example while the user's own traffic needs the link. What
    /// is asked for meanwhile waits; a request under way is finished.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn pause_uploads(&self) -> Result<(), ClientError> {
        self.change_uploads(|uploads| uploads.paused = true, Uploader::pause_uploads)
    }

    /// Ends the pause. Also tells that things have changed for the better, such as credentials that were refused.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn resume_uploads(&self) -> Result<(), ClientError> {
        self.change_uploads(|uploads| uploads.paused = false, Uploader::resume_uploads)
    }

    /// Tells the state of the device's network, whenever it changes. Decides about automatic uploads only: uploads that
    /// somebody asks for are tried in any case. A tunnel wants to be told by [`Tunnel::network_changed`].
    ///
    /// [`Tunnel::network_changed`]: crate::tunnel::Tunnel::network_changed
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn set_network_state(&self, network: NetworkState) -> Result<(), ClientError> {
        let tell = |uploader: &Uploader| uploader.set_network_state(network);
        self.change_uploads(|uploads| uploads.network = Some(network), tell)
    }

    /// Tells the state of the power supply, whenever it changes; a few percent of charge are not worth a call. Decides about
    /// automatic uploads only.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn set_power_state(&self, power: PowerState) -> Result<(), ClientError> {
        let tell = |uploader: &Uploader| uploader.set_power_state(power);
        self.change_uploads(|uploads| uploads.power = Some(power), tell)
    }

    /// Tells `listener` of uploads that nobody waits for, in place of the one before. Called on the upload thread; it must
    /// not block, and must not call the client.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn set_upload_listener(
        &self,
        listener: impl Fn(UploadEvent) + Send + Sync + 'static,
    ) -> Result<(), ClientError> {
        let listener: UploadListener = Arc::new(listener);
        let told = Arc::clone(&listener);
        let tell = |uploader: &Uploader| uploader.set_listener(move |event| told(event));
        self.change_uploads(|uploads| uploads.listener = Some(listener), tell)
    }

    /// With [`Transport::Host`](crate::upload::Transport::Host): what the host is to carry next, see
    /// [`Uploader::next_task`]. Ask for an upload first. Reads from the disk. Without consent there is nothing to do.
    ///
    /// # Errors
    /// When the client is shut down.
    pub fn next_task(&self) -> Result<Task, ClientError> {
        // Not under the client's lock: it reads from the disk.
        let uploader = self.lock()?.recording.as_ref().map(|recording| Arc::clone(recording.uploader()));
        Ok(uploader.map_or(Task::Done, |uploader| uploader.next_task()))
    }

    /// Tells what came of a task of [`Self::next_task`]. Delivered records leave the disk before this returns.
    ///
    /// # Errors
    /// [`ClientError::Task`] if it is not the task that is out, [`ClientError::NoConsent`] if consent was withdrawn
    /// meanwhile, and when the client is shut down.
    pub fn complete(&self, task: u64, result: TaskResult) -> Result<(), ClientError> {
        let uploader = {
            let state = self.lock()?;
            let recording = state.recording.as_ref().ok_or(ClientError::NoConsent(state.consent))?;
            Arc::clone(recording.uploader())
        };
        Ok(uploader.complete(task, result)?)
    }

    fn change_uploads(
        &self,
        note: impl FnOnce(&mut UploadState),
        tell: impl FnOnce(&Uploader),
    ) -> Result<(), ClientError> {
        let mut state = self.lock()?;
        note(&mut state.uploads);
        if let Some(recording) = &state.recording {
            tell(recording.uploader());
        }
        Ok(())
    }
}
