//! The logtail-style uploader.
