//! The reference log server.
