//! Whom the uploader believes.

use super::*;

fn upload_with_roots(server: &Server, pem: &[u8]) -> UploadReport {
    let mut config = UploadConfig::new(&server.tls_url()).unwrap();
    config.trust = Trust::Pinned(PinnedRoots::from_pem(pem).unwrap());
    let source = FakeSource::new("netlog");
    source.push(&["{}\n"]);
    let uploader = uploader(config, &[&source]);
    uploader.upload("test", UploadOptions::default()).wait()
}

#[test]
fn a_server_with_a_certificate_of_a_pinned_root_is_believed() {
    let server = Server::start_tls([]);
    let report = upload_with_roots(&server, include_bytes!("../testdata/root.pem"));
    assert_eq!((report.outcome, report.sent_records), (UploadOutcome::Complete, 1));
}

#[test]
fn u1_a_server_with_any_other_certificate_learns_nothing_and_everything_is_kept() {
    let server = Server::start_tls([]);
    let report = upload_with_roots(&server, include_bytes!("../testdata/other-root.pem"));
    let UploadOutcome::Unreachable { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.contains("certificate"), "{error}");
    assert!(server.requests().is_empty());
    assert_eq!((report.attempts, report.remaining_records), (5, 1));
}
