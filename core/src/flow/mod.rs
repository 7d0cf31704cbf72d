//! Flow records: counting connections, windows, classification, privacy, messages.
