//! Packet headers: what the decoder makes of a raw packet must be what Tailscale's decoder makes of it.

use serde::Deserialize;
use tuntrail::{
    hook::{Direction, Protocol},
    packet::Header,
};

#[derive(Deserialize)]
struct Vector {
    hex: String,
    proto: u8,
    src: String,
    dst: String,
    bytes: usize,
}

/// Checks one line of `packet_headers.jsonl`.
pub(super) fn run(line: &str) -> Result<(), String> {
    let vector: Vector = serde_json::from_str(line).map_err(|error| format!("unreadable vector: {error}"))?;
    let packet = hex::decode(&vector.hex).map_err(|error| format!("unreadable packet: {error}"))?;
    let connection = Header::parse(&packet).connection(Direction::Tx);
    let text = |end: Option<std::net::SocketAddr>| end.map(|end| end.to_string()).unwrap_or_default();
    let got = (connection.protocol, text(connection.src), text(connection.dst), packet.len());
    let want = (Protocol(vector.proto), vector.src, vector.dst, vector.bytes);
    if got == want { Ok(()) } else { Err(format!("{}: got {got:?}, want {want:?}", vector.hex)) }
}

#[cfg(test)]
mod tests {
    const VECTORS: &str = include_str!("../../vectors/packet_headers.jsonl");

    #[test]
    fn every_vector_is_decoded_as_upstream_does() {
        let failed: Vec<_> = VECTORS.lines().filter_map(|line| super::run(line).err()).collect();
        assert_eq!(failed, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_vector_is_noticed() {
        let line = VECTORS.lines().next().unwrap();
        assert!(super::run(&line.replace("\"proto\":0", "\"proto\":6")).is_err());
    }
}
