//! The command line says what is wrong, and ends with a failure when nothing was written.

use std::{
    fs, io,
    process::{Command, Output},
};

#[test]
fn a_library_that_is_not_there_is_named() {
    let output = run(&["api", "--library", "not/here.so"]).unwrap();
    assert!(!output.status.success());
    assert!(error(&output).contains("not/here.so"), "{}", error(&output));
}

#[test]
fn a_file_without_metadata_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    // This program is a library's kind of file, but has nothing of UniFFI in it.
    let library = std::env::current_exe().unwrap();
    let out = folder.path().join("out");
    for language in ["kotlin", "swift", "csharp", "python"] {
        let output = run(&[
            "generate",
            "--library",
            library.to_str().unwrap(),
            "--language",
            language,
            "--out",
            out.to_str().unwrap(),
        ])
        .unwrap();
        assert!(!output.status.success(), "{language}");
        assert!(error(&output).contains("No UniFFI metadata found"), "{language}: {}", error(&output));
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn an_unknown_language_is_refused_with_those_there_are() {
    let output = run(&["generate", "--library", "x", "--language", "cobol", "--out", "y"]).unwrap();
    assert!(!output.status.success());
    assert!(error(&output).contains("kotlin, swift, csharp, python"), "{}", error(&output));
}

fn run(arguments: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_tuntrail-bindgen")).args(arguments).output()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
