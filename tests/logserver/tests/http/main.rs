//! The server over real loopback HTTP.

// Integration tests are always built for testing; saying so lets helpers unwrap as tests may.
#[cfg(test)]
mod any_input;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod support;
