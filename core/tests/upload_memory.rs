//! M1: what appending, flushing and uploading a full stream takes of the heap, at its peak.
//!
//! Counted is every allocation of the process, also those that zstd makes in C: the test takes the place of malloc. The
//! server that takes the upload is a thread that allocates nothing. Plain HTTP on loopback; TLS would add its buffers.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test fail by panicking")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tuntrail::{
    clock::SystemClock,
    store::{Role, Store, StoreConfig, StreamConfig, StreamHandle, StreamName},
    upload::{
        Envelope, PrivateId, UploadConfig, UploadOptions, UploadOutcome, UploadStream, Uploader,
        encode_trusted_object,
    },
};

/// The target.
const MOST: usize = 3 * 512 * 1024;
/// The cap of the stream.
const DISK_BYTES: u64 = 5 * 1024 * 1024;

#[test]
fn m1_appending_flushing_and_uploading_a_full_stream_takes_less_than_one_and_a_half_mebibytes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let name = StreamName::new("netlog").unwrap();
    let config = StoreConfig { root: dir.path().to_owned(), role: Role::Service, clock: clock.clone() };
    let stream = StreamConfig { max_disk_bytes: DISK_BYTES, ..StreamConfig::new(name.clone()) };
    let store = Store::open(config, vec![stream]).unwrap();
    let handle = store.stream(&name).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = UploadConfig::new(&format!("http://{}", server.local_addr().unwrap())).unwrap();
    let collection = "flows.log.example.com".parse().unwrap();
    let stream = UploadStream::new(handle.clone(), collection, PrivateId::generate().unwrap());
    let uploader = Uploader::start(config, vec![stream], clock).unwrap();
    let server = std::thread::spawn(move || serve(&server));
    let mut record = Vec::with_capacity(4096);
    let mut entry = Vec::with_capacity(4096);

    let idle = heap::measure();
    drop(zstd::bulk::compress(&[b'x'; 256 * 1024], 1).unwrap());
    assert!(heap::peak() - idle > 512 * 1024, "what C allocates is counted");

    let idle = heap::measure();
    let mut records = 0;
    // Full is a stream that had to drop its oldest segment.
    while handle.stats().dropped.total().records == 0 {
        for _ in 0..100 {
            append(&handle, records, &mut record, &mut entry);
            records += 1;
        }
        handle.flush().unwrap();
    }
    handle.seal().unwrap();
    let appending = heap::peak() - idle;
    let stats = handle.stats();
    let kept = records - stats.dropped.total().records;

    heap::measure();
    let report = uploader.upload("test", UploadOptions::default()).wait();
    let uploading = heap::peak() - idle;
    assert_eq!(report.outcome, UploadOutcome::Complete);
    assert!(
        (kept..=kept + 1).contains(&report.sent_records),
        "{kept} records, and the report of the dropped ones"
    );
    assert!(report.raw_bytes > 5 * DISK_BYTES, "5 MiB on disk hold more than 25 MiB: {}", report.raw_bytes);
    println!(
        "{kept} records, {} bytes on disk, {} bytes of JSON, {} bytes sent: peak above idle {} KiB while appending, \
         {} KiB while uploading",
        stats.disk_bytes,
        report.raw_bytes,
        report.sent_bytes,
        appending / 1024,
        uploading / 1024
    );
    drop(uploader);
    server.join().unwrap();
    assert!(RECEIVED.load(Ordering::SeqCst) >= report.sent_bytes);
    assert!(appending < MOST, "{appending} bytes while appending");
    assert!(uploading < MOST, "{uploading} bytes while uploading");
}

/// A record as a window with four connections makes it, with addresses and counts that change.
fn append(handle: &StreamHandle, number: u64, record: &mut Vec<u8>, entry: &mut Vec<u8>) {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    record.clear();
    write!(
        record,
        "{{\"nodeId\":\"n3vtW4CNTRL\",\"start\":\"2026-01-02T03:{:02}:{:02}.{:09}Z\",\"virtualTraffic\":[",
        number / 12 % 60,
        number * 5 % 60,
        next(1_000_000_000)
    )
    .unwrap();
    for index in 0..4 {
        write!(
            record,
            "{}{{\"proto\":{},\"src\":\"100.64.0.1:{}\",\"dst\":\"100.64.{}.{}:443\",\"txPkts\":{},\"txBytes\":{},\
             \"rxPkts\":{},\"rxBytes\":{}}}",
            if index > 0 { "," } else { "" },
            if next(4) == 0 { 17 } else { 6 },
            32_768 + next(28_000),
            next(4),
            next(250),
            next(500),
            next(700_000),
            next(900),
            next(1_300_000)
        )
        .unwrap();
    }
    record.extend_from_slice(b"]}");
    entry.clear();
    let envelope = Envelope { client_time: Some(jiff::Timestamp::UNIX_EPOCH), ids: None };
    encode_trusted_object(record, &envelope, entry);
    handle.append(entry).unwrap();
}

/// Bytes of bodies that the server took.
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Takes one connection's requests and answers each with 200. Allocates nothing.
fn serve(listener: &TcpListener) {
    let (mut connection, _) = listener.accept().unwrap();
    while let Some(length) = read_head(&mut connection) {
        let mut left = length;
        let mut piece = [0; 16 * 1024];
        while left > 0 {
            let most = left.min(piece.len());
            let read = connection.read(&mut piece[..most]).unwrap();
            assert!(read > 0, "a body is cut");
            left -= read;
        }
        RECEIVED.fetch_add(length as u64, Ordering::SeqCst);
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

/// Reads the head of a request, and says how long its body is; `None` when the client has closed the connection.
fn read_head(connection: &mut TcpStream) -> Option<usize> {
    // With the line break before it, because there is an Orig-Content-Length too.
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let mut head = [0; 4096];
    let mut len = 0;
    while !head[..len].ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows the head is the body's.
        if connection.read(&mut head[len..=len]).unwrap_or(0) == 0 {
            return None;
        }
        len += 1;
    }
    head.make_ascii_lowercase();
    let start = head.windows(LENGTH.len()).position(|window| window == LENGTH)? + LENGTH.len();
    let digits = head[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |value, digit| value * 10 + usize::from(digit - b'0')))
}

/// glibc's malloc, counted.
mod heap {
    use std::{
        ffi::{c_int, c_void},
        sync::atomic::{AtomicUsize, Ordering},
    };

    static LIVE: AtomicUsize = AtomicUsize::new(0);
    static PEAK: AtomicUsize = AtomicUsize::new(0);

    /// The bytes that are allocated now; the peak is counted from here.
    pub(super) fn measure() -> usize {
        let live = LIVE.load(Ordering::SeqCst);
        PEAK.store(live, Ordering::SeqCst);
        live
    }

    /// The most that was allocated since [`measure`].
    pub(super) fn peak() -> usize {
        PEAK.load(Ordering::SeqCst)
    }

    unsafe extern "C" {
        fn __libc_malloc(size: usize) -> *mut c_void;
        fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
        fn __libc_realloc(pointer: *mut c_void, size: usize) -> *mut c_void;
        fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
        fn __libc_free(pointer: *mut c_void);
        fn malloc_usable_size(pointer: *mut c_void) -> usize;
    }

    fn size(pointer: *mut c_void) -> usize {
        // SAFETY: null, or alive and from glibc's allocator: callers pass what it has just returned or is about to take.
        unsafe { malloc_usable_size(pointer) }
    }

    fn add(pointer: *mut c_void) -> *mut c_void {
        let size = size(pointer);
        let live = LIVE.fetch_add(size, Ordering::SeqCst) + size;
        PEAK.fetch_max(live, Ordering::SeqCst);
        pointer
    }

    fn remove(pointer: *mut c_void) {
        LIVE.fetch_sub(size(pointer), Ordering::SeqCst);
    }

    // SAFETY of all of them: they take the place of the functions of the same names, with the same contracts, and pass
    // everything on to glibc's own. Nothing in them allocates.

    #[unsafe(no_mangle)]
    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        // SAFETY: see above.
        add(unsafe { __libc_malloc(size) })
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        // SAFETY: see above.
        add(unsafe { __libc_calloc(count, size) })
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(pointer: *mut c_void, wanted: usize) -> *mut c_void {
        let before = size(pointer);
        // SAFETY: see above.
        let new = unsafe { __libc_realloc(pointer, wanted) };
        if !new.is_null() || wanted == 0 {
            LIVE.fetch_sub(before, Ordering::SeqCst);
        }
        // While it is copied both are there; most of ours grow in place or by moving pages.
        add(new)
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn free(pointer: *mut c_void) {
        remove(pointer);
        // SAFETY: see above.
        unsafe { __libc_free(pointer) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
        // SAFETY: see above.
        add(unsafe { __libc_memalign(alignment, size) })
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
        // SAFETY: see above.
        add(unsafe { __libc_memalign(alignment, size) })
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
        const ENOMEM: c_int = 12;
        // SAFETY: see above.
        let pointer = add(unsafe { __libc_memalign(alignment, size) });
        if pointer.is_null() {
            return ENOMEM;
        }
        // SAFETY: the caller gives a place for the pointer.
        unsafe { *out = pointer };
        0
    }
}
