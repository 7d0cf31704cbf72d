//! The Swift bindings, compiled and run.

use std::fs;

use camino::Utf8Path;
use tuntrail_bindgen::Language;
use tuntrail_bindings_tests::{
    Failure, SCENARIOS, SDK_STEPS, Swift, all_of, bindings, fresh_folder, sdk_bindings, sources,
};

#[test]
fn the_fixture_keeps_its_promises_in_swift() -> Result<(), Failure> {
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift")?;
    bindings("tuntrail_ffi_fixture", Language::Swift, &folder)?;
    let sources = [("swift/main.swift", "main.swift")];
    compile(&swift, &folder, &sources, &["fixture"], &["tuntrail_ffi_fixture"])?;
    all_of(SCENARIOS, &swift.run(&folder, "./caller")?)
}

#[test]
fn the_sdk_goes_through_all_steps_in_swift() -> Result<(), Failure> {
    let Some(swift) = Swift::find()? else { return Ok(()) };
    let folder = fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift-sdk")?;
    sdk_bindings(Language::Swift, &folder)?;
    let sources = [
        // What is not inside a function must stand in a file of this name.
        ("swift/Sdk.swift", "main.swift"),
        ("swift/SdkApp.swift", "SdkApp.swift"),
        ("swift/SdkUploads.swift", "SdkUploads.swift"),
    ];
    let libraries = ["tuntrail_ffi", "tuntrail_test_peer"];
    compile(&swift, &folder, &sources, &["Tuntrail", "testpeer"], &libraries)?;
    fresh_folder(env!("CARGO_TARGET_TMPDIR"), "swift-sdk/records")?;
    all_of(SDK_STEPS, &swift.run(&folder, "./caller records")?)
}

/// Compiles sources, under the names they are to have, and the bindings of `modules` in `folder` to `caller`.
fn compile(
    swift: &Swift,
    folder: &Utf8Path,
    files: &[(&str, &str)],
    modules: &[&str],
    libraries: &[&str],
) -> Result<(), Failure> {
    let mut command = "swiftc -swift-version 6 -o caller -L . -Xlinker -rpath -Xlinker '$ORIGIN'".to_owned();
    for (source, name) in files {
        let copy = folder.join(name);
        fs::copy(sources().join(source), &copy).map_err(|source| Failure::File { path: copy, source })?;
        command.push_str(&format!(" {name}"));
    }
    for module in modules {
        // The header's module has the same name with FFI.
        command.push_str(&format!(" {module}.swift -Xcc -fmodule-map-file=\"$PWD\"/{module}FFI.modulemap"));
    }
    for library in libraries {
        command.push_str(&format!(" -l{library}"));
    }
    swift.run(folder, &command).map(drop)
}
