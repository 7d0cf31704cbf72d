//! Receiving and decompressing the body of an upload, within bounds.

use std::{
    future::poll_fn,
    io::{self, Read},
    pin::Pin,
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, header::CONTENT_ENCODING},
};
use thiserror::Error;

/// How many times the limit of a body is still read, and thrown away, before the refusal is sent: a client
/// that is writing would not read an answer, and might never see it once the connection is reset.
const DRAIN_FACTOR: usize = 8;

/// The largest window a zstd frame may ask for, as a power of two: 8 MiB, what RFC 8878 wants every decoder
/// to support. Without it a frame of a few bytes could make the decoder allocate 128 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// Why a body cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BodyError {
    #[error("the connection ended inside the body, after {0} bytes")]
    Broken(usize),
    #[error("the body has more than {limit} bytes; send fewer entries at once")]
    TooLarge { limit: usize },
    #[error("content encoding {0:?} is not supported; send zstd or none")]
    Encoding(String),
    #[error("{0}")]
    Undecodable(String),
}

/// Reads `body` to its end, keeping at most `limit` bytes. `received` is told the bytes that arrived.
pub(crate) async fn receive(
    mut body: Body,
    limit: usize,
    mut received: impl FnMut(usize),
) -> Result<Vec<u8>, BodyError> {
    let mut kept = Vec::new();
    let mut total = 0_usize;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(frame) = frame else { return Err(BodyError::Broken(total)) };
        let Ok(data) = frame.into_data() else { continue };
        total = total.saturating_add(data.len());
        received(data.len());
        if total <= limit {
            kept.extend_from_slice(&data);
        } else if total > limit.saturating_mul(DRAIN_FACTOR) {
            break;
        }
    }
    if total > limit { Err(BodyError::TooLarge { limit }) } else { Ok(kept) }
}

/// Undoes the content encoding of `wire`. The result has at most `limit` bytes.
pub(crate) fn decode(headers: &HeaderMap, wire: Vec<u8>, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    let encoding = match (encodings.next(), encodings.next()) {
        (None, _) => return Ok(wire),
        (Some(single), None) => String::from_utf8_lossy(single.as_bytes()).trim().to_ascii_lowercase(),
        (Some(_), Some(_)) => return Err(BodyError::Encoding("several".to_owned())),
    };
    match encoding.as_str() {
        "identity" | "" => Ok(wire),
        "zstd" => {
            let announced = original_length(headers)?;
            if announced > limit {
                return Err(BodyError::TooLarge { limit });
            }
            let decoded = decompress(&wire, limit)
                .map_err(|error| BodyError::Undecodable(format!("body is not valid zstd: {error}")))?;
            if decoded.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
            if decoded.len() != announced {
                return Err(BodyError::Undecodable(format!(
                    "Orig-Content-Length is {announced}, but the body decompresses to {} bytes",
                    decoded.len()
                )));
            }
            Ok(decoded)
        }
        _ => Err(BodyError::Encoding(encoding)),
    }
}

/// The length before compression, which the protocol demands beside `Content-Encoding: zstd`.
fn original_length(headers: &HeaderMap) -> Result<usize, BodyError> {
    let value = headers.get("orig-content-length").ok_or_else(|| {
        BodyError::Undecodable("a zstd body needs the header Orig-Content-Length".to_owned())
    })?;
    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse().map_err(|_| BodyError::Undecodable(format!("Orig-Content-Length {text:?} is not a length")))
}

/// Up to `limit + 1` bytes of the decompressed data, so that the caller can see that there are too many.
fn decompress(wire: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(wire)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    let mut decoded = Vec::new();
    decoder.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut decoded)?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const LIMIT: usize = 100_000;

    #[test]
    fn plain_bodies_pass_unchanged() {
        assert_eq!(decode(&headers(&[]), b"x".to_vec(), LIMIT), Ok(b"x".to_vec()));
        assert_eq!(
            decode(&headers(&[("content-encoding", "Identity")]), b"x".to_vec(), LIMIT),
            Ok(b"x".to_vec())
        );
    }

    #[test]
    fn zstd_is_undone_if_the_announced_length_is_right() {
        let wire = zstd::bulk::compress(b"hello", 1).unwrap();
        assert_eq!(decode(&zstd_headers("5"), wire.clone(), LIMIT), Ok(b"hello".to_vec()));
        for wrong in ["4", "6", "", "-5", "x"] {
            assert!(
                matches!(decode(&zstd_headers(wrong), wire.clone(), LIMIT), Err(BodyError::Undecodable(_))),
                "{wrong:?}"
            );
        }
        let missing = decode(&headers(&[("content-encoding", "zstd")]), wire, LIMIT);
        assert!(matches!(missing, Err(BodyError::Undecodable(_))));
    }

    #[test]
    fn decompression_stops_at_the_limit_whatever_was_announced() {
        let bomb = zstd::bulk::compress(&vec![0; 50 << 20], 1).unwrap();
        assert_eq!(
            decode(&zstd_headers("5"), bomb.clone(), LIMIT),
            Err(BodyError::TooLarge { limit: LIMIT })
        );
        assert_eq!(decode(&zstd_headers("52428800"), bomb, LIMIT), Err(BodyError::TooLarge { limit: LIMIT }));
        let exact = zstd::bulk::compress(&vec![0; LIMIT], 1).unwrap();
        assert_eq!(decode(&zstd_headers("100000"), exact, LIMIT).map(|body| body.len()), Ok(LIMIT));
    }

    #[test]
    fn a_frame_that_wants_a_huge_window_is_refused() {
        // Magic number, no flags, window descriptor of 128 MiB, one empty last raw block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00];
        assert!(matches!(decode(&zstd_headers("0"), frame.to_vec(), LIMIT), Err(BodyError::Undecodable(_))));
    }

    #[test]
    fn torn_zstd_and_foreign_encodings_are_refused() {
        let mut wire = zstd::bulk::compress(&[7; 1000], 1).unwrap();
        wire.pop();
        assert!(matches!(decode(&zstd_headers("1000"), wire, LIMIT), Err(BodyError::Undecodable(_))));
        let gzip = decode(&headers(&[("content-encoding", "gzip")]), vec![], LIMIT);
        assert_eq!(gzip, Err(BodyError::Encoding("gzip".to_owned())));
    }

    fn zstd_headers(length: &'static str) -> HeaderMap {
        headers(&[("content-encoding", "zstd"), ("orig-content-length", length)])
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }
}
