//! What exists only under consent: the flow and session loggers, the store behind them, and the uploader behind that.

use std::sync::{Arc, Weak};

use jiff::Timestamp;
use tracing::debug;

use super::{
    ClientConfig, ClientError, ClientStats, Observer, RemoteCommands, State, StoreStats, identity,
    socket_stats::{self, SocketRecording},
    streams::Streams,
};
use crate::{
    clock::SharedClock,
    flow::{
        ExitFlows, FlowCounter, FlowLogger, FlowStats, Layer, LifecycleConfig, RecordSink,
        session::{ResourceRule, SessionConfigError, SessionLogger, SessionRecords, SessionStats},
    },
    netmap::{NetworkMap, Routes},
    sockstat::Label,
    store::{Store, StoreError, StreamHandle},
    upload::{
        Collection, Envelope, PrivateId, PublicId, UploadPolicy, UploadStream, Uploader,
        encode_trusted_object, forget_request,
    },
};

pub(super) struct Recording {
    logger: FlowLogger,
    sessions: Option<Arc<SessionLogger>>,
    pub(super) sockets: SocketRecording,
    uploader: Arc<Uploader>,
    streams: Streams,
    store: Store,
    log_id: PublicId,
}

impl Recording {
    pub(super) fn start(config: &ClientConfig, state: &State) -> Result<Self, ClientError> {
        let private_id = match &config.private_id {
            Some(id) => id.clone(),
            None => identity::load_or_create(&config.directory)?,
        };
        let log_id = private_id.public();
        let (store, streams) = Streams::open(config)?;
        let upload = |stream: &StreamHandle, collection: &Collection, id: &PrivateId, label: Label| {
            let stream = UploadStream::new(stream.clone(), collection.clone(), id.clone())
                .counted_by(state.sockets.own(label));
            match &config.copy_id {
                Some(copy) => stream.with_copy_to(copy.clone()),
                None => stream,
            }
        };
        let mut upload_config = config.upload.clone();
        upload_config.request_directory = Some(config.request_directory());
        upload_config.accept_commands = config.remote_commands == RemoteCommands::FromServer;
        let uploader = Uploader::start(
            upload_config,
            vec![
                upload(&streams.windows, &config.collections.windows, &private_id, Label::NETLOG_LOGGER),
                upload(&streams.flows, &config.collections.flows, &private_id, Label::LOGTAIL_LOGGER),
                upload(&streams.sessions, &config.collections.sessions, &private_id, Label::LOGTAIL_LOGGER),
                // A log of its own, as upstream has it.
                upload(
                    &streams.sockets,
                    &config.collections.sockets,
                    &log_id.sockstat_private(),
                    Label::SOCKSTATLOG_LOGGER,
                )
                .only_when_asked(),
                upload(
                    &streams.diagnostics,
                    &config.collections.diagnostics,
                    &private_id,
                    Label::LOGTAIL_LOGGER,
                )
                .only_when_asked(),
            ],
            SharedClock::clone(&config.clock),
        )?;
        let uploader = Arc::new(uploader);
        state.uploads.tell(&uploader);
        let sink = Sinks {
            uploader: (config.upload.policy != UploadPolicy::OnDemand).then(|| Arc::downgrade(&uploader)),
        };
        let sessions = config.sessions.clone().map(|mut sessions| {
            let records =
                SessionRecords::new(sink.boxed(&streams.sessions), SharedClock::clone(&config.clock));
            if let Some(rules) = &state.session_rules {
                sessions.rules.clone_from(rules);
            }
            SessionLogger::start(sessions, SharedClock::clone(&config.clock), Box::new(records))
        });
        let sessions = sessions.transpose()?.map(Arc::new);

        let mut flow = config.flow;
        flow.exit_flows = state.exit_flows;
        let flow_sink = flow.lifecycle.map(|_| sink.boxed(&streams.flows));
        if sessions.is_some() {
            // Sessions are made of flows, whether or not these are recorded themselves.
            flow.lifecycle.get_or_insert_with(LifecycleConfig::default);
        }
        let logger = FlowLogger::start_with_flows(
            flow,
            SharedClock::clone(&config.clock),
            sink.boxed(&streams.windows),
            flow_sink,
        )?;
        if let Some(sessions) = &sessions {
            let sessions = Arc::clone(sessions);
            logger.set_flow_observer(Some(Box::new(move |event| sessions.observe_flow(event))));
        }
        let sockets = SocketRecording::new(&state.sockets, sink.maker(&streams.sockets));
        let mut recording = Self { logger, sessions, sockets, uploader, streams, store, log_id };
        recording.set_network(state.network.0.clone(), state.network.1.clone());
        if let Some(observer) = &state.observer {
            recording.set_observer(Arc::clone(observer));
        }
        socket_stats::resume(config, &mut recording);
        Ok(recording)
    }

    pub(super) fn counter(&self, layer: Layer) -> FlowCounter {
        self.logger.counter(layer)
    }

    pub(super) fn set_network(&self, map: NetworkMap, routes: Routes) {
        self.logger.set_network(map, routes);
    }

    pub(super) fn set_session_rules(&self, rules: Vec<ResourceRule>) -> Result<(), SessionConfigError> {
        self.sessions.as_ref().map_or(Ok(()), |sessions| sessions.set_rules(rules))
    }

    pub(super) fn set_exit_flows(&self, exit_flows: ExitFlows) {
        self.logger.set_exit_flows(exit_flows);
    }

    pub(super) fn set_observer(&self, observer: Observer) {
        self.logger.set_observer(Some(Box::new(move |message| observer(message))));
    }

    /// Everything that counters handed over, and every session that has ended, is in the store's queue afterwards.
    pub(super) fn close_windows(&self) {
        self.logger.flush();
        if let Some(sessions) = &self.sessions {
            // The store takes every batch, and accounts for its own losses.
            let _ = sessions.flush();
        }
        self.sockets.flush();
    }

    /// Everything in the store's queue is given to the disk afterwards.
    pub(super) fn flush_store(&self) -> Result<(), StoreError> {
        self.streams.flush()
    }

    pub(super) fn flow_stats(&self) -> FlowStats {
        self.logger.stats()
    }

    pub(super) fn session_stats(&self) -> Option<SessionStats> {
        self.sessions.as_ref().map(|sessions| sessions.stats())
    }

    pub(super) fn store_stats(&self) -> StoreStats {
        self.streams.stats()
    }

    pub(super) const fn uploader(&self) -> &Arc<Uploader> {
        &self.uploader
    }

    /// Names the log at the server.
    pub(super) const fn log_id(&self) -> PublicId {
        self.log_id
    }

    /// The streams, with the collections they go to.
    pub(super) fn streams<'a>(&self, config: &'a ClientConfig) -> Vec<(StreamHandle, &'a Collection)> {
        self.streams.with_collections(&config.collections)
    }

    /// Where lines of our own log go when somebody asks for them.
    pub(super) const fn own_log(&self) -> &StreamHandle {
        &self.streams.diagnostics
    }

    /// Deletes every record, and goes on recording.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        self.cancel_upload();
        self.store.clear()
    }

    /// Ends recording; what was recorded stays on disk.
    pub(super) fn stop(self) -> Result<(), ClientError> {
        Ok(self.finish(&mut ClientStats::default())?)
    }

    /// Ends recording and fills in the last counts.
    pub(super) fn finish(self, stats: &mut ClientStats) -> Result<(), StoreError> {
        self.end_loggers();
        let flushed = self.flush_store();
        stats.flows = Some(self.flow_stats());
        stats.sessions = self.session_stats();
        stats.sockets = self.sockets.totals();
        stats.store = Some(self.store_stats());
        stats.uploads = Some(self.uploader.stats());
        drop(self.uploader);
        flushed.and(self.store.shutdown())
    }

    /// Breaks off a running upload and forgets what was asked for.
    pub(super) fn cancel_upload(&self) {
        self.uploader.cancel();
    }

    /// Ends recording and deletes all of it.
    pub(super) fn delete(self, config: &ClientConfig) -> Result<(), ClientError> {
        self.cancel_upload();
        self.end_loggers();
        drop(self.uploader);
        // What ended meanwhile may have asked once more.
        let forgotten = forget_request(&config.request_directory());
        self.store.destroy()?;
        Ok(forgotten?)
    }

    /// Deletes what earlier runs recorded.
    pub(super) fn delete_leftovers(config: &ClientConfig) -> Result<(), ClientError> {
        let forgotten = forget_request(&config.request_directory());
        let (store, _) = Streams::open(config)?;
        store.destroy()?;
        Ok(forgotten?)
    }

    /// Flows end before the sessions that are made of them.
    fn end_loggers(&self) {
        self.sockets.stop();
        self.logger.shutdown();
        if let Some(sessions) = &self.sessions {
            // The store takes every batch, and accounts for its own losses.
            let _ = sessions.shutdown();
        }
    }
}

/// Makes the sinks of the loggers.
struct Sinks {
    /// Whom to tell of new records. Weak: a logger that ends late must not keep the uploader.
    uploader: Option<Weak<Uploader>>,
}

impl Sinks {
    fn boxed(&self, stream: &StreamHandle) -> Box<dyn RecordSink> {
        Box::new(StoreSink { stream: stream.clone(), uploader: self.uploader.clone(), entry: Vec::new() })
    }

    /// For a logger that is started anew each time.
    fn maker(&self, stream: &StreamHandle) -> socket_stats::SinkMaker {
        let (stream, uploader) = (stream.clone(), self.uploader.clone());
        Box::new(move || {
            let mut sink =
                StoreSink { stream: stream.clone(), uploader: uploader.clone(), entry: Vec::new() };
            Box::new(move |wall, json| sink.append(wall, json))
        })
    }
}

/// Writes records to the store, each in the envelope that the server expects.
struct StoreSink {
    stream: StreamHandle,
    uploader: Option<Weak<Uploader>>,
    entry: Vec<u8>,
}

impl RecordSink for StoreSink {
    fn append(&mut self, wall: Timestamp, json: &[u8]) {
        self.entry.clear();
        encode_trusted_object(json, &Envelope { client_time: Some(wall), ids: None }, &mut self.entry);
        match self.stream.append(&self.entry) {
            Ok(_) => {
                if let Some(uploader) = self.uploader.as_ref().and_then(Weak::upgrade) {
                    uploader.note_pending(self.stream.name().as_str(), self.entry.len() as u64);
                }
            }
            // The store has counted it and will report it to the reader of the log.
            Err(error) => debug!(%error, "record not kept"),
        }
    }
}
