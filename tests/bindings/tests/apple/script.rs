//! The script that makes the XCFramework.

use tuntrail_bindings_tests::{Failure, Program, fresh_folder, search_path, skip};

use super::folder::{apple, copy};

/// Stands in for the tools of a Mac and for Cargo. `xcodebuild` tells what headers it is given.
const TOOLS: &str = r#"
    uname() { echo Darwin; }
    rustup() { printf '%s\n' aarch64-apple-ios aarch64-apple-ios-sim x86_64-apple-ios aarch64-apple-darwin x86_64-apple-darwin; }
    cargo() {
        mkdir -p "$CARGO_TARGET_DIR/debug"
        touch "$CARGO_TARGET_DIR/debug/libtuntrail_ffi.dylib"
        printf '%s\n' '#!/bin/sh' 'mkdir -p "$9"; cd "$9"; touch Tuntrail.swift TuntrailFFI.h TuntrailFFI.modulemap' \
            >"$CARGO_TARGET_DIR/debug/tuntrail-bindgen"
        chmod +x "$CARGO_TARGET_DIR/debug/tuntrail-bindgen"
    }
    lipo() { touch "${@: -1}"; }
    strip() { :; }
    xcodebuild() {
        while [ $# -gt 0 ]; do
            case $1 in
                -headers) (cd "$2" && find . -type f | LC_ALL=C sort) ;;
                -output) mkdir -p "$2" ;;
            esac
            shift
        done
    }
    export -f uname rustup cargo lipo strip xcodebuild
    export CARGO_TARGET_DIR=$PWD/target
"#;

#[test]
fn the_script_is_sound() -> Result<(), Failure> {
    let script = apple().join("build-xcframework");
    Program::new("bash").arg("-n").arg(script.as_str()).run()?;
    if search_path("shellcheck").is_none() {
        return skip("shellcheck", "apt-get install shellcheck");
    }
    Program::new("shellcheck").arg(script.as_str()).run()?;
    Ok(())
}

#[test]
fn headers_lie_in_a_folder_of_their_own_so_that_they_collide_with_no_other_framework() -> Result<(), Failure>
{
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "apple-script")?;
    copy(&apple().join("build-xcframework"), &folder.join("apple/build-xcframework"))?;
    let run = |arguments: &str| {
        let command = format!("set -eu; {TOOLS} apple/build-xcframework {arguments}");
        Program::new("bash").args(["-c", &command]).current_dir(&folder).run()
    };
    let output = run("")?;
    let headers: Vec<_> = output.lines().filter(|line| line.starts_with("./")).collect();
    // One for iOS, one for its simulator, one for macOS.
    assert_eq!(
        headers,
        ["./TuntrailFFI/TuntrailFFI.h", "./TuntrailFFI/module.modulemap"].repeat(3),
        "{output}"
    );
    assert!(folder.join("apple/Sources/Tuntrail/Generated/Tuntrail.swift").exists());
    run("--bindings")?;
    for file in ["TuntrailFFI.h", "module.modulemap"] {
        assert!(folder.join("apple/Sources/TuntrailFFI").join(file).exists(), "{file}");
    }
    Ok(())
}
