//! What exists only under consent: the flow logger, the store behind it, and the uploader behind that.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::debug;

use super::{ClientConfig, ClientError, ClientStats, Observer, State, identity};
use crate::{
    clock::SharedClock,
    flow::{ExitFlows, FlowCounter, FlowLogger, FlowStats, Layer, RecordSink},
    netmap::{NetworkMap, Routes},
    store::{Store, StoreConfig, StoreError, StreamConfig, StreamHandle, StreamName, StreamStats},
    upload::{Envelope, UploadOptions, UploadStream, UploadTicket, Uploader, encode_trusted_object},
};

/// Directory name of the flow log.
const STREAM: &str = "netlog";

pub(super) struct Recording {
    logger: FlowLogger,
    uploader: Uploader,
    stream: StreamHandle,
    store: Store,
}

impl Recording {
    pub(super) fn start(config: &ClientConfig, state: &State) -> Result<Self, ClientError> {
        let private_id = match &config.private_id {
            Some(id) => id.clone(),
            None => identity::load_or_create(&config.directory)?,
        };
        let (store, stream) = open_store(config)?;
        let mut upload_stream = UploadStream::new(stream.clone(), config.collection.clone(), private_id);
        if let Some(copy) = &config.copy_id {
            upload_stream = upload_stream.with_copy_to(copy.clone());
        }
        let uploader =
            Uploader::start(config.upload.clone(), vec![upload_stream], SharedClock::clone(&config.clock))?;
        let sink = StoreSink { stream: stream.clone(), entry: Vec::new() };
        let mut flow = config.flow;
        flow.exit_flows = state.exit_flows;
        let logger = FlowLogger::start(flow, SharedClock::clone(&config.clock), Box::new(sink))?;
        let recording = Self { logger, uploader, stream, store };
        recording.set_network(state.network.0.clone(), state.network.1.clone());
        if let Some(observer) = &state.observer {
            recording.set_observer(Arc::clone(observer));
        }
        Ok(recording)
    }

    pub(super) fn counter(&self, layer: Layer) -> FlowCounter {
        self.logger.counter(layer)
    }

    pub(super) fn set_network(&self, map: NetworkMap, routes: Routes) {
        self.logger.set_network(map, routes);
    }

    pub(super) fn set_exit_flows(&self, exit_flows: ExitFlows) {
        self.logger.set_exit_flows(exit_flows);
    }

    pub(super) fn set_observer(&self, observer: Observer) {
        self.logger.set_observer(Some(Box::new(move |message| observer(message))));
    }

    /// Everything handed over by counters is in the store afterwards.
    pub(super) fn close_windows(&self) {
        self.logger.flush();
    }

    /// Everything in the store's queue is given to the disk afterwards.
    pub(super) fn flush_store(&self) -> Result<(), StoreError> {
        self.stream.flush()
    }

    pub(super) fn upload(&self, reason: &str, options: UploadOptions) -> UploadTicket {
        self.uploader.upload(reason, options)
    }

    pub(super) fn flow_stats(&self) -> FlowStats {
        self.logger.stats()
    }

    pub(super) fn store_stats(&self) -> StreamStats {
        self.stream.stats()
    }

    /// Ends recording; what was recorded stays on disk.
    pub(super) fn stop(self) -> Result<(), ClientError> {
        Ok(self.finish(&mut ClientStats::default())?)
    }

    /// Ends recording and fills in the last counts.
    pub(super) fn finish(self, stats: &mut ClientStats) -> Result<(), StoreError> {
        self.logger.shutdown();
        drop(self.uploader);
        let flushed = self.stream.flush();
        stats.flows = Some(self.logger.stats());
        stats.store = Some(self.stream.stats());
        flushed.and(self.store.shutdown())
    }

    /// Ends recording and deletes all of it.
    pub(super) fn delete(self, config: &ClientConfig) -> Result<(), ClientError> {
        drop(self.uploader);
        self.logger.shutdown();
        self.store.destroy()?;
        Ok(identity::delete(&config.directory)?)
    }

    /// Deletes what earlier runs recorded.
    pub(super) fn delete_leftovers(config: &ClientConfig) -> Result<(), ClientError> {
        if config.directory.exists() {
            let (store, _) = open_store(config)?;
            store.destroy()?;
            identity::delete(&config.directory)?;
        }
        Ok(())
    }
}

fn open_store(config: &ClientConfig) -> Result<(Store, StreamHandle), StoreError> {
    let name = StreamName::new(STREAM)?;
    let stream = StreamConfig { max_disk_bytes: config.max_disk_bytes, ..StreamConfig::new(name.clone()) };
    let store = Store::open(
        StoreConfig {
            root: config.directory.clone(),
            role: config.role.clone(),
            clock: SharedClock::clone(&config.clock),
        },
        vec![stream],
    )?;
    let stream = store.stream(&name).ok_or(StoreError::Closed)?;
    Ok((store, stream))
}

/// Writes flow records to the store, each in the envelope that the server expects.
struct StoreSink {
    stream: StreamHandle,
    entry: Vec<u8>,
}

impl RecordSink for StoreSink {
    fn append(&mut self, wall: Timestamp, json: &[u8]) {
        self.entry.clear();
        encode_trusted_object(json, &Envelope { client_time: Some(wall), ids: None }, &mut self.entry);
        if let Err(error) = self.stream.append(&self.entry) {
            // The store has counted it and will report it to the reader of the log.
            debug!(%error, "flow record not kept");
        }
    }
}
