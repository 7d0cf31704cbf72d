//! Userspace hosts on in-process tunnel devices.
