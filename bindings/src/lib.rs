//! UniFFI facade.
uniffi::setup_scaffolding!();
