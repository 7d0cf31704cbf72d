//! The bounded buffer on disk.
